"""The full SHA-256 of a published file, recorded where its publisher states less."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import WeightsError
from probe.weights import catalog, published
from probe.weights.catalog import WEIGHTS
from probe.weights.digest import Digests, hash_file
from probe.weights.digest_record import compare_with_record
from probe.weights.resolve import resolve_weights

SHORT = replace(WEIGHTS["resnet18.torchvision_v1"], sha256="12345678")
FIRST = Digests("12345678" + "a" * 56, "m", "s")
FORGED = Digests("12345678" + "b" * 56, "n", "t")


def compare(found: Digests, folder: Path) -> None:
    assert SHORT.has_digest(found)
    compare_with_record(SHORT, Path("w.pth"), found, folder)


def test_a_second_file_with_the_same_stated_digits_is_refused(tmp_path: Path) -> None:
    compare(FIRST, tmp_path)
    compare(FIRST, tmp_path)
    with pytest.raises(WeightsError, match=r"w\.pth: .*first 8 digits.*another file.*remove"):
        compare(FORGED, tmp_path)
    compare(FORGED, tmp_path / "another cache")
    (tmp_path / "weights" / "digests.json").unlink()
    compare(FORGED, tmp_path)


def test_a_whole_digest_needs_no_record_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    whole = replace(SHORT, sha256=FIRST.sha256)
    compare_with_record(whole, Path("w.pth"), FIRST, tmp_path)
    assert not (tmp_path / "weights").exists()
    compare(FIRST, tmp_path)
    record = tmp_path / "weights" / "digests.json"
    record.write_text(record.read_text().replace("aaaa", "bbbb"))
    with pytest.raises(WeightsError, match=r"digests\.json: not a record of digests: "):
        compare(FIRST, tmp_path)


def test_a_folder_that_cannot_be_written_refuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where the folder should be")
    compare(FIRST, tmp_path)


def test_a_file_that_was_exchanged_is_refused_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first digits alone, made the same by hand here, would let it pass."""
    path = tmp_path / "weights" / SHORT.file_name
    path.parent.mkdir()
    path.write_bytes(b"the right file")
    first = hash_file(path).sha256
    spec = replace(SHORT, sha256=first[:1])
    for module in (catalog, published):
        monkeypatch.setattr(module, "WEIGHTS", {spec.name: spec})

    def resolve(argument: str) -> str:
        return resolve_weights(
            BACKBONES["resnet18"], argument,
            cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"), preprocess=None,
        ).name  # fmt: skip

    assert resolve("auto") == resolve(spec.name) == resolve(str(path)) == spec.name
    assert json.loads((path.parent / "digests.json").read_text())["sha256"] == {spec.name: first}
    number = 0
    while not spec.has_digest(hash_file(path)) or hash_file(path).sha256 == first:
        path.write_bytes(f"a forged file, {(number := number + 1)}".encode())
    for argument in ("auto", spec.name, str(path)):
        with pytest.raises(WeightsError, match="another file than the first"):
            resolve(argument)
