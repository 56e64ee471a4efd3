"""What needs no MXNet runs where it cannot be imported, and the rest says so in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.weights.helpers import lite0_file

RUN = """
import json, sys
sys.modules["mxnet"] = None  # importing it raises ImportError, and nobody finds its library
from probe.cli.app import main
from probe.errors import ProbeError
codes = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["probe", *command]
    print("#", *command, flush=True)
    print("#", *command, file=sys.stderr, flush=True)
    try:
        main()
        codes.append(0)
    except SystemExit as exit:
        codes.append(exit.code or 0)
print(json.dumps(codes))
"""


def run(cache: Path, *commands: list[str]) -> tuple[list[int], str, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
        env={**os.environ, "PROBE_CACHE": str(cache)},
    )  # fmt: skip
    *_, codes = done.stdout.splitlines()
    return json.loads(codes), done.stdout, done.stderr


@pytest.fixture(scope="module")
def cache(digits_cache: Path, digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert digits_run.is_dir()
    return shutil.copytree(digits_cache, tmp_path_factory.mktemp("without") / "cache")


def test_weights_heads_benches_reports_and_caches_need_no_mxnet(cache: Path) -> None:
    lite0, out = str(lite0_file()), cache.parent
    bench = ["bench", "--backbones", "efficientnet_lite0@32", "--dataset", "digits"]
    codes, said, errors = run(
        cache,
        ["backbones", "list"],
        ["backbones", "show", "inception_v3"],
        ["weights", "show", lite0],
        ["weights", "convert", lite0, str(out / "w.safetensors")],
        ["head", "--head", "path", "--C", "0.01"],
        ["head", "--epochs", "3", "--hidden", "8"],
        [*bench, "--limit", "300", "--heads", "knn"],
        ["report", "--out", str(out / "report.html")],
        ["cache", "list"],
        ["cache", "verify"],
        ["audit", "--folds", "2"],
    )
    assert codes == [0] * len(codes), errors
    assert "fits efficientnet_lite0" in said
    assert (out / "w.safetensors").stat().st_size > 18e6
    assert (out / "report.html").stat().st_size > 100_000
    assert list((cache / "runs").glob("*/result.json"))


def test_what_needs_mxnet_says_so_in_one_line(cache: Path) -> None:
    codes, said, errors = run(
        cache,
        ["promote"],
        ["extract", "--engine", "mxnet", "--backbone", "resnet18", "--weights", "random:0",
         "--size", "32", "--dataset", "digits", "--limit", "5"],
        ["doctor"],
    )  # fmt: skip
    assert codes == [2, 2, 0]
    told = [line for line in errors.splitlines() if line.startswith("probe: ")]
    assert len(told) == 2
    assert "fine-tuning needs MXNet, which is not installed: MXNet 1.9.1 runs on Python" in told[0]
    assert "--engine mxnet: MXNet is not installed; leave --engine out" in told[1]
    assert (
        "not installed; only `probe promote`, --engine mxnet and export --to mxnet need it" in said
    )
    assert "Traceback" not in said + errors
    (entry,) = (cache / "features").glob("*.h5*")  # nothing half-written
    assert entry.name.startswith("digits-efficientnet_lite0-gap-")


def test_images_are_forwarded_and_predicted_without_mxnet(cache: Path) -> None:
    bundle, image = cache.parent / "a.probe", cache.parent / "grey.png"
    Image.new("RGB", (40, 40), (90, 90, 90)).save(image)
    codes, said, errors = run(
        cache,
        ["extract", "--backbone", "resnet18", "--weights", "random:0", "--size", "32",
         "--dataset", "digits", "--limit", "40"],
        ["head", "digits-resnet18", "--head", "ridge"],
        ["bundle", "--out", str(bundle)],
        ["predict", str(bundle), str(image)],
        ["weights", "check", str(lite0_file())],
    )  # fmt: skip
    assert codes == [0] * len(codes), errors
    assert "grey.png" in said
