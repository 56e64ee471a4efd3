"""Which devices a name means, what keeps a device from being used, and several of them as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from probe import Backbone, extract
from probe.api import open_bundle
from probe.backbones.catalog import BACKBONES
from probe.engines import default_batch_size, default_engine, engine_is_installed, make_engine
from probe.engines.base import Engine
from probe.engines.onnx import devices
from probe.engines.several import SeveralDevices
from probe.errors import EngineError, UsageError
from probe.extraction.forward import Pictures, forward_rows
from probe.preprocess.spec import TORCHVISION
from tests.commands import invoke, probe_json
from tests.fakes import SIZE, make_dataset, make_job
from tests.needs import EVERY_ENGINE, needs_mxnet
from tests.parameters import draw_parameters

RESNET = BACKBONES["resnet18"]
GAP = RESNET.layer("gap")
NETWORK = RESNET, draw_parameters(RESNET, GAP), [(GAP, "none")], TORCHVISION.with_size(SIZE)
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
START = onnxruntime.InferenceSession


class Runtime:
    """ONNX Runtime's CUDA build, as far as a machine without a GPU can stand in for it.

    Sessions compute on the CPU. Those of CUDA devices in `broken` end there too, without an error,
    as where a library is missing; those of others in `absent` raise.
    """

    def __init__(self) -> None:
        self.providers = [CUDA, CPU]
        self.broken: set[int] = set()
        self.absent: set[int] = set()
        self.opened: list[int] = []
        self.off = 0.0  # how much larger a GPU's features are

    def session(self, model: bytes, options: Any, *, providers: list[Any], **rest: Any) -> Any:
        assert rest == {"enable_fallback": 0}
        started = START(model, options, providers=[CPU])
        if providers == [CPU]:
            return started
        (provider, settings), last = providers
        assert (provider, last, settings["use_tf32"]) == (CUDA, CPU, 0)
        number = settings["device_id"]
        self.opened.append(number)
        if number in self.absent:
            raise RuntimeError(f"CUDA failure 101: invalid device ordinal ; GPU={number}")
        if number not in self.broken:
            started.get_providers = lambda: [CUDA, CPU]
        run = started.run
        started.run = lambda *given: [rows * np.float32(1 + self.off) for rows in run(*given)]
        return started


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    made = Runtime()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: made.providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", made.session)
    devices.obstacle.cache_clear()
    yield made
    devices.obstacle.cache_clear()
    onnxruntime.set_default_logger_severity(2)


def engine(device: str, batch_size: int | None = 4, name: str = "onnx") -> Engine:
    return make_engine(*NETWORK, batch_size=batch_size, engine=name, device=device)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def test_a_build_for_the_cpu_says_what_brings_the_rest(runtime: Runtime) -> None:
    runtime.providers = [CPU]
    for name in ("cuda:1", "gpu", "cuda:0,1"):
        with pytest.raises(EngineError, match=f"--device {name}: this build .* runs on cpu; `pip"):
            devices.choose_devices(name)
    with pytest.raises(UsageError, match="expected auto, cpu, gpu"):
        devices.choose_devices("tpu")
    assert devices.choose_devices("auto") == devices.choose_devices("cpu") == ["cpu"]


def test_a_name_is_one_device_or_several(runtime: Runtime) -> None:
    assert devices.choose_devices("auto") == devices.choose_devices("gpu") == ["cuda:0"]
    assert devices.choose_devices("gpu:1") == devices.choose_devices("cuda:1") == ["cuda:1"]
    assert devices.choose_devices("cuda:2,0") == ["cuda:2", "cuda:0"]
    assert runtime.opened == [0, 1, 2]  # each was asked once


def test_a_kind_of_which_there_is_one_takes_no_number(runtime: Runtime) -> None:
    runtime.providers = ["CoreMLExecutionProvider", CPU]
    with pytest.raises(EngineError, match="--device gpu:1: there is one coreml device"):
        devices.choose_devices("gpu:1")


def test_a_gpu_that_does_not_start_is_refused_by_name_and_passed_over_by_auto(
    runtime: Runtime,
) -> None:
    """A build for CUDA on a machine without a driver: ONNX Runtime falls back and says nothing."""
    runtime.broken = {0}
    with pytest.raises(EngineError, match="--device cuda: cuda:0 does not start: "):
        engine("cuda")
    runtime.absent = {1}
    with pytest.raises(EngineError, match=r"--device cuda:1: .*invalid device ordinal"):
        engine("cuda:1")
    assert engine("auto").device == "cpu"


@pytest.mark.parametrize(
    ("off", "refused"), [(0, False), (5e-5, False), (2e-4, True), (np.nan, True)]
)
def test_a_gpu_that_computes_other_rows_is_refused(
    off: float, refused: bool, runtime: Runtime
) -> None:
    runtime.off = off
    if not refused:
        assert engine("cuda").device == "cuda:0"
        return
    for name in ("cuda", "auto"):
        with pytest.raises(
            EngineError, match=r"^cuda:0 gives other features .* by (0.0002|nan) of a"
        ):
            engine(name)


def test_a_batch_on_a_gpu_is_larger_and_of_whole_images(runtime: Runtime) -> None:
    assert runtime.providers[0] == CUDA
    assert engine("cuda", None).batch_size == default_batch_size(SIZE, gpu=True) == 1024
    assert engine("cpu", None).batch_size == default_batch_size(SIZE) == 256
    views = make_engine(*NETWORK, batch_size=None, views=5, engine="onnx", device="cpu")
    assert views.batch_size == 255


@pytest.mark.parametrize("name", EVERY_ENGINE)
def test_several_devices_give_the_rows_of_one(name: str) -> None:
    one = engine("cpu", name=name)
    several = SeveralDevices([engine("cpu", name=name) for _ in range(3)], "cpu:0,1,2")
    batches = [images(28)[start : start + 4] for start in range(0, 28, 4)]
    expected = [one.collect(one.submit(batch))[0] for batch in batches]
    tickets = [several.submit(batch) for batch in batches]
    assert [ticket[0] for ticket in tickets[:3]] == [ticket[0] for ticket in tickets[3:6]]
    for rows, ticket in zip(expected, tickets, strict=True):
        np.testing.assert_array_equal(several.collect(ticket)[0], rows)


def test_a_pass_over_several_devices_keeps_each_busy_and_the_order(runtime: Runtime) -> None:
    job = make_job(make_dataset())
    batches = [np.arange(start, start + 4) for start in range(0, 40, 4)]
    assert runtime.providers[0] == CUDA
    one, several = engine("cpu"), engine("cuda:0,1")
    assert (several.device, several.devices, several.batch_size) == ("cuda:0,1", 2, 4)
    waiting, most = 0, 0
    submit, collect = several.submit, several.collect

    def counted(batch: np.ndarray) -> Any:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return submit(batch)

    def collected(ticket: Any) -> Any:
        nonlocal waiting
        waiting -= 1
        return collect(ticket)

    several.submit, several.collect = counted, collected  # type: ignore[method-assign]
    pictures = Pictures.of(job)
    rows = [outputs[0] for _, outputs in forward_rows(pictures, several, batches, workers=1)]
    expected = [outputs[0] for _, outputs in forward_rows(pictures, one, batches, workers=1)]
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(expected))
    assert most == 4  # two a device


def test_a_server_takes_one_device(runtime: Runtime, digits_bundle: Path) -> None:
    assert runtime.providers[0] == CUDA
    with pytest.raises(UsageError, match="--device cuda:0,1: images are answered one by one"):
        invoke("serve", digits_bundle, "--port", 0, "--device", "cuda:0,1")


def test_answers_of_several_devices_are_those_of_one(runtime: Runtime, digits_bundle: Path) -> None:
    assert runtime.providers[0] == CUDA
    pixels = np.random.default_rng(1).integers(0, 256, (9, 40, 40, 3), dtype=np.uint8)
    one, several = (
        open_bundle(digits_bundle, batch_size=2, device=device) for device in ("cpu", "cuda:0,1")
    )
    assert several.networks[0].engine.device == "cuda:0,1"
    np.testing.assert_array_equal(one.predict_proba(pixels), several.predict_proba(pixels))


def test_doctor_says_what_keeps_each_engine_from_a_gpu(runtime: Runtime) -> None:
    runtime.providers = [CPU]
    told = probe_json("doctor")
    assert told["engine"] == "onnx, where --engine names none"
    assert told["onnx on cuda"].startswith("not in this build; `pip install 'onnxruntime-gpu[cuda")
    installed = engine_is_installed("mxnet")
    assert told["mxnet"].startswith("MXNet 1.9.1 (" if installed else "not installed; only")
    runtime.providers, runtime.broken = [CUDA, CPU], {0}
    assert probe_json("doctor")["onnx on cuda"].startswith("cuda:0 does not start: ")
    runtime.broken = set()
    devices.obstacle.cache_clear()
    assert probe_json("doctor")["onnx on cuda"] == "runs networks on cuda:0"


def test_mxnet_is_the_engine_where_it_alone_has_cuda(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.engines.installed_versions", lambda _: {"mxnet-cu112": "1.9.1"})
    assert default_engine() == default_engine("cuda") == "onnx"
    runtime.providers = [CPU]
    assert [default_engine(name) for name in ("auto", "gpu:0,1", "cpu", "cuda")] == [
        "mxnet", "mxnet", "onnx", "mxnet",  # cuda:0 is what gpu:0 is
    ]  # fmt: skip
    own = Backbone.from_callable(lambda batch: batch[:, 0, 0], name="corner", version="1", size=8)
    assert default_engine("auto", own) == "python"


@needs_mxnet
def test_a_function_is_not_run_by_mxnet(tmp_path: Path) -> None:
    own = Backbone.from_callable(lambda batch: batch[:, 0, 0], name="corner", version="1", size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(
        UsageError, match="--engine mxnet: corner cannot be run by it; leave --engine"
    ):
        extract((pixels, [0, 1, 0, 1]), own, engine="mxnet", cache_dir=tmp_path, quiet=True)
