"""One image has one answer: on the command line, in Python, in every export and over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from probe.bundle import Bundle
from probe.cli.app import main
from probe.errors import BundleError
from probe.export import export_mxnet, export_onnx, export_sklearn
from probe.runs.fit import HeadRequest
from tests.bundle.test_promoted import promoted
from tests.finished import make_bundle, make_run, save_digits

WITHIN = 1e-4
HEADS = {
    "linear": HeadRequest(params={"epochs": 5}),
    "mlp": HeadRequest(params={"hidden": (16,), "epochs": 3}),
    "knn": HeadRequest(solver="knn"),
    "promoted": HeadRequest(solver="prototype"),
}


@pytest.fixture(params=HEADS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bundle(kind: str, digits_cache: Path, digits_bundle: Path, tmp_path: Path) -> Path:
    run = make_run(digits_cache, HEADS[kind])
    if kind == "promoted":
        run, _ = promoted(run, Bundle.load(digits_bundle), tmp_path / "run")
    return make_bundle(digits_cache, run, tmp_path / f"{kind}.probe")


def test_one_image_has_one_answer(
    kind: str,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (path,) = save_digits(tmp_path / "digits", 1)
    loaded = Bundle.load(bundle)
    expected = dict(zip(loaded.about.classes, loaded.predict_proba([path])[0], strict=True))
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "command line": lambda: on_the_command_line(bundle, path, capsys, monkeypatch),
        "web": lambda: over_http(bundle, path),
        "onnx": lambda: in_onnx(loaded, path, tmp_path / "a.onnx"),
        "scikit-learn": lambda: in_sklearn(loaded, path, tmp_path / "a.joblib"),
    }
    check(kind, ways, expected)


def test_and_the_same_in_mxnet(kind: str, bundle: Path, tmp_path: Path, mx: Any) -> None:
    (path,) = save_digits(tmp_path / "digits", 1)
    loaded = Bundle.load(bundle)
    expected = dict(zip(loaded.about.classes, loaded.predict_proba([path])[0], strict=True))
    check(kind, {"mxnet": lambda: in_mxnet(mx, loaded, path, tmp_path / "a")}, expected)


def check(
    kind: str, ways: dict[str, Callable[[], dict[str, float]]], expected: dict[str, float]
) -> None:
    for name, way in ways.items():
        if kind == "knn" and name not in ("command line", "web"):
            with pytest.raises(BundleError, match="no stack of layers"):
                way()
            continue
        assert way() == pytest.approx(expected, abs=WITHIN), name


def on_the_command_line(
    bundle: Path, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    capsys.readouterr()
    cache = str(bundle.parent / "no cache")
    monkeypatch.setattr(
        sys,
        "argv",
        ["probe", "predict", str(bundle), path, "-k", "10", "--json", "--cache-dir", cache],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]
    return {one["label"]: one["probability"] for one in image["predictions"]}


def over_http(bundle: Path, path: str) -> dict[str, float]:
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    from probe.serve import create_app

    async def ask() -> Any:
        app = create_app(Bundle.load(bundle), name="digits")
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/predict?top_k=10", content=Path(path).read_bytes())

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    return {one["label"]: one["probability"] for one in answer.json()["predictions"]}


def named(bundle: Bundle, row: np.ndarray) -> dict[str, float]:
    return dict(zip(bundle.about.classes, row.tolist(), strict=True))


def in_onnx(bundle: Bundle, path: str, out: Path) -> dict[str, float]:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(bundle, out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return named(bundle, session.run(None, {"data": bundle.networks[0].resized(path)[None]})[0][0])


def in_mxnet(mx: Any, bundle: Bundle, path: str, out: Path) -> dict[str, float]:
    symbol, params, _ = export_mxnet(bundle, out)
    with pytest.warns(UserWarning, match="Cannot decide type"):  # MXNet's own, always
        block = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(params))
    pixels = mx.nd.array(bundle.networks[0].resized(path)[None], dtype="uint8")
    return named(bundle, block(pixels)[0].asnumpy()[0])


def in_sklearn(bundle: Bundle, path: str, out: Path) -> dict[str, float]:
    export_sklearn(bundle, out)
    pipeline = joblib.load(out)
    row = pipeline.predict_proba(bundle.features(bundle.pack(path)[None]))[0]
    return dict(zip(pipeline.classes_.tolist(), row.tolist(), strict=True))
