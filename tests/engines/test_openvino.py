"""OpenVINO computes in float32, the same bits each time, and says what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import probe
from probe.backbones.catalog import BACKBONES
from probe.engines import engine_is_installed, make_engine, rival_engines
from probe.engines.onnx.devices import usable_kinds
from probe.errors import EngineError
from probe.preprocess.spec import TORCHVISION
from tests.commands import probe_json
from tests.needs import needs_openvino
from tests.parameters import draw_parameters

RESNET = BACKBONES["resnet18"]
GAP = RESNET.layer("gap")
PREPROCESS = TORCHVISION.with_size(32)
RNG = np.random.default_rng(0)


@needs_openvino
def test_a_batch_has_the_same_bits_in_every_engine_that_is_made() -> None:
    batch = RNG.integers(0, 256, (150, 32, 32, 3), dtype=np.uint8)
    parameters, rows = draw_parameters(RESNET, GAP), []
    for _ in range(2):
        engine = make_engine(
            RESNET, parameters, [(GAP, "none")], PREPROCESS, batch_size=150, engine="openvino"
        )
        rows += [engine.collect(engine.submit(batch))[0] for _ in range(2)]
        assert engine.device == "cpu"
    for other in rows[1:]:
        np.testing.assert_array_equal(other, rows[0])


@needs_openvino
def test_what_it_cannot_run_ends_in_one_line() -> None:
    parameters = draw_parameters(RESNET, GAP) | {"features.0.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(EngineError, match=r"^OpenVINO stopped: Data batch and filters rank do not"):
        make_engine(
            RESNET, parameters, [(GAP, "none")], PREPROCESS, batch_size=1, engine="openvino"
        )


def test_it_is_a_rival_on_a_cpu_for_networks_of_the_catalog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("probe.engines.engine_is_installed", lambda name: name != "mxnet")
    assert rival_engines("cpu", RESNET) == ("openvino",)
    assert rival_engines("auto", RESNET) == (("openvino",) if usable_kinds() == ["cpu"] else ())
    assert rival_engines("cuda:0", RESNET) == ()
    own = probe.Backbone.from_callable(lambda batch: batch[:, 0, 0], name="a", version="1", size=8)
    assert rival_engines("cpu", own) == ()
    monkeypatch.setattr("probe.engines.engine_is_installed", lambda name: False)
    assert rival_engines("cpu", RESNET) == ()


def test_doctor_and_an_error_say_whether_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = probe_json("doctor")["openvino"]
    assert told.startswith("OpenVINO 2") == engine_is_installed("openvino")
    monkeypatch.setattr("probe.engines.engine_is_installed", lambda name: name == "onnx")
    assert probe_json("doctor")["openvino"].startswith("not installed; `pip install openvino`")
    with pytest.raises(EngineError, match="--engine openvino: OpenVINO is not installed; leave"):
        probe.extract("digits", "resnet18", engine="openvino", cache_dir=tmp_path, quiet=True)


@needs_openvino
def test_its_telemetry_is_not_loaded(tmp_path: Path) -> None:
    """`import openvino` alone writes a client's number into the home folder and reports it."""
    code = (
        "import sys, probe.engines.openvino.engine\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    home = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=home, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []
