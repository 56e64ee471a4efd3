"""Wherever a network runs, --engine and --device say what runs it, and where."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import probe
from probe.engines.onnx.devices import usable_kinds
from probe.errors import EngineError, UsageError
from tests.commands import invoke, probe_json
from tests.finished import save_digits
from tests.needs import needs_mxnet, needs_openvino

pytestmark = pytest.mark.skipif(usable_kinds() != ["cpu"], reason="there may be a GPU")

# an engine and a device that it lacks -> what it says of that
ONNX = ("onnx", "cuda:1", "--device cuda:1: this build of ONNX Runtime runs on cpu")
MXNET = ("mxnet", "gpu:1", "--device gpu:1: this MXNet is the CPU build")
OPENVINO = ("openvino", "gpu:1", "--device gpu:1: OpenVINO runs on the CPU here")
LACKING = [
    ONNX, pytest.param(MXNET, marks=needs_mxnet), pytest.param(OPENVINO, marks=needs_openvino),
]  # fmt: skip


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_digits(tmp_path_factory.mktemp("picture"), 1)[0]


@pytest.fixture
def cache(digits_cache: Path, tmp_path: Path) -> Path:
    return shutil.copytree(digits_cache, tmp_path / "cache")


@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.parametrize(
    "command",
    [
        "predict {bundle} {picture}", "evaluate {bundle} -d digits", "serve {bundle} --port 0",
        "explain {bundle} {picture}", "bundle {run} --out {picture}.probe",
        "cache verify --sample 2",
        "extract -d digits --backbone efficientnet_lite0 --size 64",
    ],
)  # fmt: skip
def test_every_command_that_runs_a_network(
    command: str, lacking: tuple[str, str, str], *, digits_bundle: Path, digits_run: Path,
    picture: str, cache: Path,
) -> None:  # fmt: skip
    engine, device, message = lacking
    run = cache / "runs" / digits_run.name  # other tests may have left more
    places = {"bundle": digits_bundle, "picture": picture, "run": run}
    words = [one.format(**places) for one in command.split(" ")]
    if words[0] != "serve":
        words += ["--cache-dir", str(cache)]
    with pytest.raises(EngineError, match=message):
        invoke(*words, "--engine", engine, "--device", device)


@needs_mxnet
def test_sync_runs_a_network_by_another_engine_than_the_rows_have(cache: Path) -> None:
    engine, device, message = MXNET
    with pytest.raises(EngineError, match=message):
        invoke("cache", "sync", "--cache-dir", str(cache), "--engine", engine, "--device", device)


@pytest.mark.parametrize("lacking", LACKING)
def test_every_function_that_runs_a_network(
    lacking: tuple[str, str, str], digits_run: Path, digits_bundle: Path, picture: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    engine, device, message = lacking
    named = {"engine": engine, "device": device}
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    frozen = probe.FrozenBackbone(
        "resnet18", "random:0", size=32, cache_dir=tmp_path, **named
    ).fit()  # fmt: skip
    for call in (
        lambda: probe.open_bundle(digits_bundle, **named),
        lambda: probe.open_run(digits_run, cache_dir=digits_run.parents[1]).bundle(
            tmp_path / "a.probe", **named
        ),
        lambda: probe.evaluate(digits_bundle, "digits", cache_dir=tmp_path, **named),
        lambda: probe.explain(digits_bundle, picture, cache_dir=tmp_path, **named),
        lambda: frozen.transform(pixels),
        lambda: probe.extract(
            (pixels, [0, 1]), "resnet18", weights="random:0", size=32, cache_dir=tmp_path, **named
        ),
    ):
        with pytest.raises(EngineError, match=message):
            call()


@needs_mxnet
def test_both_engines_answer_alike(digits_bundle: Path, picture: str) -> None:
    from probe.engines.mxnet.engine import MxnetEngine
    from probe.engines.onnx.engine import OnnxEngine

    engines = {"onnx": OnnxEngine, "mxnet": MxnetEngine}
    rows = []
    for name, kind in engines.items():
        bundle = probe.open_bundle(digits_bundle, engine=name)
        assert isinstance(bundle.networks[0].engine, kind)
        rows.append(bundle.predict_proba([picture]))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    answers = [
        probe_json("predict", digits_bundle, picture, "--engine", name)["images"][0]
        for name in engines
    ]
    assert [one["predictions"][0]["label"] for one in answers] == [
        answers[0]["predictions"][0]["label"]
    ] * 2


@needs_mxnet
def test_a_backbone_in_a_pipeline_runs_by_either_engine(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    rows = [
        probe.FrozenBackbone(
            "resnet18", "random:0", size=32, cache_dir=tmp_path / engine, engine=engine
        ).fit_transform(pixels)
        for engine in ("onnx", "mxnet")
    ]
    assert not np.array_equal(*rows)
    distance = np.linalg.norm(rows[0] - rows[1], axis=1) / np.linalg.norm(rows[1], axis=1)
    assert distance.max() < 1e-4
    with pytest.raises(UsageError, match="--engine torch"):
        probe.FrozenBackbone(engine="torch", cache_dir=tmp_path).fit()
