"""Networks from outside the catalog beside each other: two of one name are two."""

from pathlib import Path
from typing import Any

import pytest

from probe.errors import UsageError
from tests.backbones.foreign_graphs import convolutions, saved
from tests.commands import probe, probe_json

FEATURES = "net.onnx/features@32"


def places(folder: Path) -> list[Path]:
    """Return two networks of one name, trained apart, in folders as they are published."""
    return [
        saved(convolutions(seed=seed)[0], folder / run / "net" / "model.onnx").parent
        for seed, run in enumerate(("first run", "second"))
    ]


def bench(folder: Path, *more: object) -> Any:
    return probe_json(
        "bench", "--dataset", "digits", "--per-class", "25", "--heads", "ridge",
        "--cache-dir", folder / "cache", *more,
    )  # fmt: skip


def test_two_networks_of_one_name_are_two_rows(tmp_path: Path) -> None:
    one, other = places(tmp_path)
    rows = bench(
        tmp_path, "--backbones", f"{one},{other}", "--preprocess", f"{one}=torchvision",
        "--size", "32", "--concat", f"{one}+{other}",
    )["rows"]  # fmt: skip
    names = [f"{FEATURES}={one}", f"{FEATURES}={other}"]
    found = {row["name"]: row for row in rows}
    assert set(found) == {*names, "+".join(names)}
    (first,), (second,) = (found[name]["entries"] for name in names)
    assert first != second
    adds = [found[name]["cost"]["multiply_adds"] for name in (*names, "+".join(names))]
    assert adds[2] == adds[0] + adds[1]


def test_a_bundle_of_two_networks_goes_into_one_onnx_file(tmp_path: Path) -> None:
    one, other = places(tmp_path)
    rows = bench(
        tmp_path, "--backbones", f"{one},{other}", "--preprocess", f"{other}=torchvision",
        "--size", "32", "--concat", "all",
    )["rows"]  # fmt: skip
    (run,) = [row["run"] for row in rows if "+" in row["name"]]
    bundle = tmp_path / "both.probe"
    probe("bundle", Path(run).name, "--cache-dir", tmp_path / "cache", "--out", bundle)
    probe("export", bundle, "--to", "onnx", tmp_path / "both.onnx")  # checked by what it answers


def test_a_file_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    one, _ = places(tmp_path)
    with pytest.raises(UsageError, match=r"there is no file mine\.onnx"):
        bench(tmp_path, "--backbones", f"{one},mine.onnx")
    assert not (tmp_path / "cache").exists()
