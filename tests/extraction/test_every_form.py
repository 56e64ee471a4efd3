"""The same pictures in every form: one set of rows, forwarded once where bytes are the same."""

from __future__ import annotations

import csv
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.cache.joining import join
from probe.cache.store import Store
from tests.commands import probe, probe_json
from tests.datasets.web import Web, serving

CLASSES, EACH = ("cat", "dog", "frog"), 4
LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there are no photographs")
    root = tmp_path_factory.mktemp("a folder") / "photo graphs"
    wanted = {f"{name}/{number:04d}.jpg" for name in CLASSES for number in range(EACH)}
    with tarfile.open(Path(data) / "cifar10" / "test.tar") as archive:
        for member in archive:
            if member.name in wanted:
                file = root / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
                os.utime(file, (LONG_AGO, LONG_AGO))
    return root


def files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.jpg"))


def as_list(root: Path, out: Path) -> Path:
    with (out / "list.csv").open("w", newline="") as file:
        rows = [(one, one.parent.name) for one in files_of(root)]
        csv.writer(file).writerows([("path", "label"), *rows])
    return out / "list.csv"


def as_tar(root: Path, out: Path) -> Path:
    with tarfile.open(out / "tarred.tar", "w") as archive:
        archive.add(root, ".")
    return out / "tarred.tar"


def as_samples(root: Path, out: Path) -> Path:
    with zipfile.ZipFile(out / "samples.zip", "w") as archive:
        for number, one in enumerate(files_of(root)):
            archive.write(one, f"{number:06d}.jpg")
            archive.writestr(f"{number:06d}.cls", str(CLASSES.index(one.parent.name)))
    return out / "samples.zip"


def as_zip(root: Path, out: Path) -> Path:
    with zipfile.ZipFile(out / "zipped.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for one in files_of(root):
            archive.write(one, one.relative_to(root))
    return out / "zipped.zip"


def as_records(root: Path, out: Path) -> Path:
    probe("dataset", "index", root, "--out", out / "records", "--cache-dir", out / "other")
    probe("dataset", "pack", out / "records.lst", "--dataset-root", root)
    return out / "records.rec"


def as_parquet(root: Path, out: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": one.read_bytes(), "path": one.name} for one in files_of(root)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = [one.parent.name for one in files_of(root)]
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": labels}), out / "p.parquet")
    return out / "p.parquet"


FORMS = [as_list, as_tar, as_samples, as_zip, as_records, as_parquet]


def extracted(place: Path | str, cache: Path) -> tuple[dict[bytes, np.ndarray], Any]:
    """Return each image's row of features by its content, and what the command says."""
    said = probe_json(
        "extract", "--backbone", "resnet18", "--weights", "random:0", "--size", "32",
        "--dataset", place, "--cache-dir", cache,
    )  # fmt: skip
    store = Store(cache)
    split = join(store, store.choose(Path(said["entries"][0]["path"]).stem)).splits["train"]
    return dict(zip(map(bytes, split.content), np.asarray(split.features), strict=True)), said


def test_rows_are_forwarded_once(photographs: Path, tmp_path: Path) -> None:
    rows, said = extracted(photographs, tmp_path / "cache")
    assert said["forwarded"] == len(rows) == len(CLASSES) * EACH
    for form in FORMS:
        found, said = extracted(form(photographs, tmp_path), tmp_path / "cache")
        assert said["forwarded"] == 0, form.__name__
        assert found.keys() == rows.keys()
        assert all(np.array_equal(found[one], rows[one]) for one in rows)


@pytest.mark.parametrize("form", FORMS)
def test_rows_forwarded_from_another_form_are_the_same(
    photographs: Path, tmp_path: Path, form: Any
) -> None:
    rows, _ = extracted(photographs, tmp_path / "cache")
    found, said = extracted(form(photographs, tmp_path), tmp_path / "new cache")
    assert said["forwarded"] == len(rows)
    for one, row in rows.items():
        np.testing.assert_allclose(found[one], row, rtol=1e-5, atol=1e-6 * np.abs(row).max())


def test_pixels_in_an_array_give_the_same_rows(photographs: Path, tmp_path: Path) -> None:
    rows, _ = extracted(photographs, tmp_path / "cache")
    files = files_of(photographs)
    pixels = np.stack([np.asarray(Image.open(one).convert("RGB")) for one in files])
    np.savez(tmp_path / "a.npz", images=pixels, labels=[one.parent.name for one in files])
    found, _ = extracted(tmp_path / "a.npz", tmp_path / "cache")
    assert len(found) == len(rows)
    for row, other in zip(rows.values(), found.values(), strict=True):
        np.testing.assert_allclose(other, row, rtol=1e-5, atol=1e-6 * np.abs(row).max())


def test_urls_give_the_rows_of_what_they_name(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    files = {f"photos/{one.relative_to(photographs)}": one for one in files_of(photographs)}
    rows, _ = extracted(photographs, tmp_path / "cache")
    with serving(Web()) as web:
        web.files |= {name: one.read_bytes() for name, one in files.items()}
        for form in (as_tar, as_samples, as_zip, as_records):
            file = form(photographs, tmp_path)
            web.files[file.name] = file.read_bytes()
        lines = "".join(f"{name},{one.parent.name}\n" for name, one in files.items())
        web.files["list.csv"] = f"path,label\n{lines}".encode()
        for name in ("photos/", *(one for one in web.files if one not in files)):
            found, said = extracted(f"{web.url}/{name}", tmp_path / "cache")
            assert said["forwarded"] == 0, name
            assert found.keys() == rows.keys()
