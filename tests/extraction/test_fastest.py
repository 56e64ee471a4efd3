"""A long pass times its engines on the first images, once on a machine, and takes the faster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import probe
from probe.cache.features import FeatureSet
from probe.engines import Engine, make_engine
from probe.errors import EngineError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)


class Slow:
    """An engine that takes some seconds more for every batch, and may give other rows."""

    def __init__(self, engine: Engine, seconds: float, factor: float) -> None:
        self.batch_size, self.device, self.devices = engine.batch_size, engine.device, 1
        self._engine, self._seconds, self._factor = engine, seconds, factor

    def submit(self, batch: NDArray[np.uint8]) -> Any:
        return self._engine.submit(batch)

    def collect(self, ticket: Any) -> list[NDArray[np.float32]]:
        time.sleep(self._seconds)
        return [rows * np.float32(self._factor) for rows in self._engine.collect(ticket)]


@dataclass
class Engines:
    """ONNX Runtime, under its name and OpenVINO's, as slow as a test says."""

    seconds: dict[str, float] = field(default_factory=dict)
    factor: float = 1.0
    broken: bool = False
    made: list[str] = field(default_factory=list)

    def make(self, *network: Any, engine: str, ahead: bool = False, **how: Any) -> Slow:
        self.made.append(engine)
        if self.broken and engine == "openvino":
            raise EngineError("OpenVINO stopped: why")
        other = self.factor if engine == "openvino" else 1.0
        return Slow(make_engine(*network, engine="onnx", **how), self.seconds.get(engine, 0), other)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines()
    monkeypatch.setattr("probe.extraction.forward.make_engine", made.make)
    monkeypatch.setattr("probe.extraction.fastest.WORTH", 0)
    monkeypatch.setattr("probe.extraction.request.engine_is_installed", lambda name: True)
    monkeypatch.setattr("probe.extraction.request.check_engine_name", lambda name: None)
    monkeypatch.setattr("probe.extraction.request.rival_engines", lambda *of: ("openvino",))
    return made


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., FeatureSet]:
    def made(count: int, **options: object) -> FeatureSet:
        pixels, labels = PIXELS[:count], np.arange(count) % 2
        return probe.extract(
            (pixels, labels), "resnet18", name=f"{count} images", weights="random:0", size=32,
            device="cpu", cache_dir=tmp_path, **{"quiet": True, **options},
        )  # fmt: skip

    return made


def test_the_faster_is_taken_and_the_answer_kept(
    engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    engines.seconds["onnx"] = 0.2
    entry = extract(20, quiet=False)
    assert entry.provenance["engine"] == "openvino"
    assert engines.made == ["onnx", "openvino", "openvino"]
    said = " ".join(capsys.readouterr().err.split())
    assert "engine openvino; onnx had 0." in said
    assert " of its rate on the first images on cpu" in said
    ((about, rates),) = json.loads((tmp_path / "engines.json").read_text()).items()
    assert "; resnet18 gap none; 32 pixels; probe " in about
    assert rates["onnx"] < 20 / 0.2 < rates["openvino"]
    (tmp_path / "engines.json").write_text(json.dumps({about: {"onnx": 30.0, "openvino": 40.0}}))
    other = extract(50, quiet=False)  # of these rows less than half were made by it
    assert other.provenance["engine"] == "openvino"
    assert other.seal[1] == 30
    assert engines.made[3:] == ["openvino"]
    said = " ".join(capsys.readouterr().err.split())
    assert "engine openvino; onnx had 0.75 of its rate when it was timed on cpu" in said


def test_the_default_stays_where_the_other_is_hardly_faster(
    engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    engines.seconds |= {"onnx": 0.41, "openvino": 0.4}
    assert extract(4).provenance["engine"] == "onnx"
    (rates,) = json.loads((tmp_path / "engines.json").read_text()).values()
    assert set(rates) == {"onnx", "openvino"}


@pytest.mark.parametrize("broken", [True, False])
def test_an_engine_that_fails_or_gives_other_rows_is_left_out(
    broken: bool, engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    engines.seconds["onnx"] = 0.1
    engines.broken, engines.factor = broken, 1.001
    assert extract(4, quiet=False).provenance["engine"] == "onnx"
    why = "OpenVINO stopped: why" if broken else "its features differ by 0.001 of a row's norm"
    assert f"openvino does not run resnet18: {why}" in caplog.text
    (rates,) = json.loads((tmp_path / "engines.json").read_text()).values()
    assert set(rates) == {"onnx"}


def test_what_made_most_rows_goes_on_and_nothing_is_timed(
    engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    engines.seconds["onnx"] = 0.2
    extract(30, engine="onnx")
    grown = extract(60)
    assert (grown.provenance["engine"], grown.seal[1]) == ("onnx", 30)
    assert engines.made == ["onnx", "onnx"]
    assert not (tmp_path / "engines.json").exists()


def test_a_short_pass_and_one_on_workers_take_the_default(
    engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert extract(20, scheduler="loky:1").provenance["engine"] == "onnx"
    monkeypatch.undo()
    monkeypatch.setattr("probe.extraction.forward.make_engine", engines.make)
    monkeypatch.setattr("probe.extraction.request.rival_engines", lambda *of: ("openvino",))
    assert extract(60).provenance["engine"] == "onnx"
    assert engines.made == ["onnx"]
    assert not (tmp_path / "engines.json").exists()


@pytest.mark.parametrize("damaged", [b"\xff{", b"[]", b'{"a": 1}'])
def test_answers_that_cannot_be_read_are_made_anew(
    damaged: bytes, engines: Engines, extract: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    (tmp_path / "engines.json").write_bytes(damaged)
    engines.seconds["onnx"] = 0.2
    assert extract(4).provenance["engine"] == "openvino"
    assert len(json.loads((tmp_path / "engines.json").read_text())) == 1
