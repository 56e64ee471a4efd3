"""What some tests need and is not installed everywhere."""

from __future__ import annotations

import pytest

from probe.engines import engine_is_installed

NO_MXNET = "needs MXNet, which is not installed"
needs_mxnet = pytest.mark.skipif(not engine_is_installed("mxnet"), reason=NO_MXNET)
needs_openvino = pytest.mark.skipif(
    not engine_is_installed("openvino"), reason="needs OpenVINO, which is not installed"
)
CPU_ENGINES = ("onnx", pytest.param("openvino", marks=needs_openvino))
EVERY_ENGINE = (*CPU_ENGINES, pytest.param("mxnet", marks=needs_mxnet))
