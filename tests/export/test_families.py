"""Networks of other families as ONNX files; the benchmark has all of the catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.export_families import random_bundle
from probe.export import export_onnx


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "densenet121"])
def test_a_family_is_exported_as_onnx(backbone: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    bundle = random_bundle(backbone, tmp_path, size=64)
    (path,) = export_onnx(bundle, tmp_path / "export.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    probabilities, features = session.run(["probabilities", "features"], {"data": images})
    np.testing.assert_allclose(probabilities, bundle.predict_proba(list(images)), atol=1e-4)
    assert features.shape[1] == bundle.heads[0].n_features_in_
