"""Exports answer as the bundle does, in the programs they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from probe.bundle import Bundle
from probe.errors import BundleError, UsageError
from probe.export import check as export_check
from probe.export import export_mxnet, export_onnx, export_sklearn
from probe.runs.fit import HeadRequest
from tests.finished import make_bundle, make_run
from tests.needs import needs_mxnet

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundle(digits_bundle: Path) -> Bundle:
    return Bundle.load(digits_bundle)


def onnx_answers(path: Path, images: np.ndarray) -> np.ndarray:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["probabilities"], {"data": images})[0]
    return found


def test_onnx(bundle: Bundle, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    (path,) = export_onnx(bundle, tmp_path / "digits.onnx")
    expected = bundle.predict_proba(list(IMAGES))
    np.testing.assert_allclose(onnx_answers(path, IMAGES), expected, atol=1e-4)
    np.testing.assert_allclose(onnx_answers(path, IMAGES[:1]), expected[:1], atol=1e-4)
    about = {one.key: json.loads(one.value) for one in onnx.load(path).metadata_props}
    assert about["classes"] == list(bundle.about.classes)
    assert about["licence"] == "Apache-2.0"
    with pytest.raises(UsageError, match="is there already"):
        export_onnx(bundle, path)


@pytest.mark.parametrize(
    "params",
    [
        {"normalize": "l2", "epochs": 3},
        {"normalize": "none", "epochs": 3},
        {"hidden": (16,), "epochs": 3},
    ],
)
def test_every_kind_of_layer_is_exported(
    digits_cache: Path, tmp_path: Path, params: dict[str, object]
) -> None:
    pytest.importorskip("onnx")
    run = make_run(digits_cache, HeadRequest(params=params))
    made = Bundle.load(make_bundle(digits_cache, run, tmp_path / "b", remember=None))
    expected = made.predict_proba(list(IMAGES))
    (path,) = export_onnx(made, tmp_path / "b.onnx")
    np.testing.assert_allclose(onnx_answers(path, IMAGES), expected, atol=1e-4)
    (head,) = export_sklearn(made, tmp_path / "b.joblib")
    pipeline = joblib.load(head)
    found = pipeline.predict_proba(made.features(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert pipeline.predict(made.features(IMAGES)).tolist() == made.predict(list(IMAGES))


def test_mxnet_files_load_in_gluon(bundle: Bundle, tmp_path: Path, mx: Any) -> None:
    symbol, params, about = export_mxnet(bundle, tmp_path / "digits")
    assert [symbol.name, params.name] == ["digits-symbol.json", "digits-0000.params"]
    with pytest.warns(UserWarning, match="Cannot decide type"):  # MXNet's own, always
        block = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(params))
    found = block(mx.nd.array(IMAGES, dtype="uint8"))[0].asnumpy()
    np.testing.assert_allclose(found, bundle.predict_proba(list(IMAGES)), atol=1e-4)
    assert json.loads(about.read_text())["classes"] == list(bundle.about.classes)


def test_mxnets_module_infers_the_shapes_of_what_was_exported(
    bundle: Bundle, tmp_path: Path, mx: Any
) -> None:
    export_mxnet(bundle, tmp_path / "digits")
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / "digits"), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind(data_shapes=[("data", IMAGES.shape)], for_training=False)
    module.set_params(arguments, states)
    module.forward(mx.io.DataBatch([mx.nd.array(IMAGES)]), is_train=False)
    found = module.get_outputs()[0].asnumpy()
    np.testing.assert_allclose(found, bundle.predict_proba(list(IMAGES)), atol=1e-4)


def test_an_ensemble_is_told_how_its_heads_are_exported(digits_cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    asked = HeadRequest(solver="ridge", grid=True, folds=3, ensemble="average")
    run = make_run(digits_cache, asked)
    whole = Bundle.load(make_bundle(digits_cache, run, tmp_path / "whole", remember=None))
    with pytest.raises(
        BundleError, match=r"ensemble of 3 ridge heads .*--fold-heads.*onnx and mxnet"
    ):
        export_onnx(whole, tmp_path / "a.onnx")
    out = make_bundle(digits_cache, run, tmp_path / "folds", remember=None, folds=True)
    folds = Bundle.load(out)
    (path,) = export_onnx(folds, tmp_path / "a.onnx")
    expected = folds.predict_proba(list(IMAGES))
    np.testing.assert_allclose(onnx_answers(path, IMAGES), expected, atol=1e-4)
    with pytest.raises(BundleError, match="has 3; export to onnx or mxnet"):
        export_sklearn(folds, tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("export", "name"),
    [
        (export_onnx, "a.onnx"), (export_sklearn, "a.pkl"),
        pytest.param(export_mxnet, "a", marks=needs_mxnet),
    ],
)  # fmt: skip
def test_an_export_that_answers_otherwise_is_not_written(
    export: Any, name: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_check, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="differs from the bundle"):
        export(bundle, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
