"""From a folder of JPEGs to a sealed entry, against what the two cores allow.

    PROBE_TEST_DATA=... python -m benchmarks.pipeline [--only resnet50,vgg16] [--rounds 3]
    PROBE_TEST_DATA=... python -m benchmarks.pipeline --newcomer [--rounds 3]

Everything runs in a process of its own. The processes take turns, one at a time, so that whatever
else the machine does meets all of them; the best of all rounds counts. CPU seconds an image (user
and system, all threads) stand beside each rate, since they move less on a busy machine.

A pass lists and hashes the files, decodes and resizes them, runs the network, writes and seals.
Only the start of the process and of the engine are left out. Its peers, where they are installed:

- the pass with --engine openvino;
- the bare network, fed from memory and nothing else, with all cores, in float32: ONNX Runtime as it
  comes, OpenVINO for throughput, torch (torchvision's network, channels last, fed with floats that
  are normalised already) and MXNet (fused, as with --engine mxnet);
- decoding alone: Pillow's `open`, `convert`, one `resize`, and a crop, on two threads.

Photographs are 500 x 375 pixels. The first five networks are heavy; their limit is the fastest bare
network, as though decoding cost nothing. That of the others is 1 / (1 / network + 1 / decoding):
both are measured alone on both cores, and share them in a pass. Parameters are drawn; rates do not
depend on them.

`--newcomer` is the whole job from the start of the process to the file on disk: 2,000 JPEGs of
CIFAR-10, ResNet-18 at 64, by `probe extract` and by two scripts that somebody would write in a
minute (`newcomer_torch.py`, `newcomer_onnx.py`).

Seen on two otherwise idle cores, best of 2 rounds (EfficientNet-Lite0 at 64: of 3):

    part of the limit             by time, by CPU   bar    images/s  fastest bare network
    VGG16 at 224                  0.87     0.88     0.95     11.9    OpenVINO
    ResNet-50 at 224              0.89     0.92     0.95     37.4    OpenVINO
    ResNet-18 at 224              0.83     0.83     0.95     85.8    ONNX Runtime
    Inception v3 at 299           0.91     0.89     0.95     28.6    OpenVINO
    DenseNet-121 at 224           0.84     0.84     0.95     42.6    OpenVINO
    EfficientNet-Lite0 at 224     0.96     0.90     0.95    167.5    OpenVINO
    MobileNet v2 at 224           0.88     0.85     0.95    178.0    ONNX Runtime
    EfficientNet-Lite0 at 64      1.04     0.94     0.9   1,739.5    ONNX Runtime
    VGG16 at 32                   0.91     0.89     0.9     358.3    MXNet

The first five lose to decoding what it takes of the two cores: with it in the limit ResNet-18,
ResNet-50 and Inception v3 have 0.95, DenseNet-121 0.90 and VGG16 0.89. EfficientNet-Lite0 at 64 had
2.18 times the rate of --engine mxnet (bar 2.5). A newcomer's job, best of 3: probe 4.4 s (7.2 s of
CPU), the script of torch 6.6 (10.1), that of ONNX Runtime 3.4 (6.5), which is faster.

Since then, on busy cores, where only CPU time can be compared, best of 7 turns: EfficientNet-Lite0
at 64 takes 1.08 ms of CPU an image, and took 1.20 beside it; with --engine mxnet 2.05. The
newcomer's job takes 7.4 s of CPU, and took 7.7 beside it; the script of ONNX Runtime, whose threads
wait by spinning, took 9.2, and longer than both. On cores that little else used, best of 5: probe
4.0 s (7.0 s of CPU), the script of ONNX Runtime 3.3 (6.5).

With --engine openvino the pass was, best of 3 turns beside the usual one, load 1 to 3 beside it:

    images/s and ms of CPU an image   ONNX Runtime       OpenVINO
    MobileNet v2 at 224                 250    7.79       312    6.21
    EfficientNet-Lite0 at 224           218    8.96       285    6.83
    EfficientNet-Lite0 at 64          2,400    0.734    2,849    0.628
    VGG16 at 32                         560    2.95       626    3.03

On busy cores, load 5 to 9, where only CPU time can be compared: VGG16 at 224 took 126.6 ms and
128.1, ResNet-50 40.1 and 43.0, ResNet-18 18.1 and 18.4, MobileNet v2 8.80 and 6.69,
EfficientNet-Lite0 at 64 0.764 and 0.646. OpenVINO is for some networks: a long pass times it.

On a machine of half that speed, idle for the first two and the newcomer, best of 2 rounds (5):

    part of the limit             by time, by CPU    images/s  fastest bare network
    VGG16 at 224                  0.95     0.95           4.6  OpenVINO
    ResNet-50 at 224              0.84     0.88          14.3  ONNX Runtime
    ResNet-18 at 224                       0.92                OpenVINO
    Inception v3 at 299                    0.94                OpenVINO

The newcomer's job took 8.4 s (14.6 of CPU), the script of ONNX Runtime 6.8 (12.9). Both differ by
what is done before the first image and after the last: a process that does as much for 40 images
took 2.4 s of CPU, of which two thirds were imports. Parts of 2, 4, 8, 16 and 32 images took the
same CPU within what it varies by (ResNet-50 141 to 152 ms an image, DenseNet-121 121 to 136,
ResNet-18 60 to 63).

Since then less is imported and hashed. On that machine, idle, the newcomer's job took 6.1 s (10.9
of CPU), the script of ONNX Runtime 5.6 (10.9), best of 4; two hours before 7.1 (12.3) and 5.6
(10.7), best of 3.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.common import PROBE, cifar10_folders
from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network
from probe.backbones.network import GAIN, INPUT, SHIFT
from probe.backbones.spec import resolve_pool
from probe.cache.store import Store
from probe.engines import default_batch_size, make_engine
from probe.errors import EngineError
from probe.extraction.extract import extract_features
from probe.extraction.request import Prepared, Request, prepare
from probe.preprocess.spec import TORCHVISION
from tests.fakes import Silent
from tests.parameters import draw_parameters

BARE = ("onnxruntime", "openvino", "torch", "mxnet")
CORES = 2


@dataclass(frozen=True)
class Case:
    """A network over images, and the part of the limit that is asked for."""

    backbone: str
    layer: str
    size: int
    images: str  # photographs or cifar10
    count: int
    bar: float
    shared: bool  # whether decoding counts in the limit

    @property
    def name(self) -> str:
        return f"{self.backbone} at {self.size}"


CASES = (
    Case("vgg16", "pool5", 224, "photographs", 128, 0.95, shared=False),
    Case("resnet50", "gap", 224, "photographs", 256, 0.95, shared=False),
    Case("resnet18", "gap", 224, "photographs", 512, 0.95, shared=False),
    Case("inception_v3", "gap", 299, "photographs", 128, 0.95, shared=False),
    Case("densenet121", "gap", 224, "photographs", 256, 0.95, shared=False),
    Case("efficientnet_lite0", "gap", 224, "photographs", 256, 0.95, shared=True),
    Case("mobilenet_v2", "gap", 224, "photographs", 256, 0.95, shared=True),
    Case("efficientnet_lite0", "gap", 64, "cifar10", 2000, 0.9, shared=True),
    Case("vgg16", "pool5", 32, "cifar10", 500, 0.9, shared=True),
)


def write_photographs(folder: Path, count: int) -> Path:
    """Cut photographs of 500 x 375 pixels out of scikit-learn's two."""
    from sklearn.datasets import load_sample_images

    rng, photos = np.random.default_rng(0), load_sample_images().images
    for number in range(count):
        image = photos[number % 2]
        top, left = rng.integers(0, image.shape[0] - 375), rng.integers(0, image.shape[1] - 500)
        target = folder / f"class{number % 2}" / f"{number:04d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[top : top + 375, left : left + 500]).save(target, quality=90)
    return folder


def prepared_pass(case: Case, folder: Path, state: Path, engine: str) -> Prepared:
    """Decide a pass over the first images of each class."""
    per_class = case.count // (2 if case.images == "photographs" else 10)
    request = Request(
        backbone=case.backbone, dataset=str(folder), cache_dir=state, weights="random:0",
        layers=(case.layer,), size=case.size, engine=engine, per_class=per_class,
        splits=() if case.images == "photographs" else ("train",),
    )  # fmt: skip
    return prepare(request)


def passing(case: Case, folder: Path, state: Path, engine: str = "onnx") -> Callable[[], int]:
    """Return a function that makes an entry from the files, in a fresh cache folder each time."""
    first = prepared_pass(case, folder, state / "0", engine)
    network = first.engine_for([(cut.layer, cut.pool) for cut in first.job.cuts])
    memory = (state / "0" / "memo.sqlite").read_bytes()

    def run() -> int:
        cache = Path(tempfile.mkdtemp(dir=state))
        (cache / "memo.sqlite").write_bytes(memory)  # of it, only the weights are used
        job = prepared_pass(case, folder, cache, engine).job
        extract_features(job, Store(cache), lambda _: network, Silent(), workers=CORES)
        return int(job.count)

    return run


def decoding(case: Case, folder: Path) -> Callable[[], int]:
    """Return a function that decodes and resizes the files as few lines of Pillow do."""
    size, short = case.size, TORCHVISION.with_size(case.size).short_side
    paths = sorted(folder.rglob("*.jpg"))[: min(case.count, 1000)]

    def load(path: Path) -> np.ndarray:
        with Image.open(path) as file:
            image = file.convert("RGB")
        scale = short / min(image.size)
        sides = (max(int(image.width * scale), short), max(int(image.height * scale), short))
        image = image.resize(sides, Image.Resampling.BILINEAR)
        left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
        return np.asarray(image.crop((left, top, left + size, top + size)))

    def run() -> int:
        with ThreadPoolExecutor(CORES) as pool:
            return sum(1 for _ in pool.map(load, paths, chunksize=16))

    return run


def bare(case: Case, runtime: str, place: Path) -> Callable[[], int]:
    """Return a function that runs a few batches from memory through a runtime."""
    spec, layer = BACKBONES[case.backbone], BACKBONES[case.backbone].layer(case.layer)
    preprocess = TORCHVISION.with_size(case.size)
    size = min(default_batch_size(case.size), 16 if case.size > 64 else 256)
    times = max(case.count // size // 4, 2)
    batch = np.random.default_rng(0).integers(
        0, 256, (size, case.size, case.size, 3), dtype=np.uint8
    )
    parameters, cuts = draw_parameters(spec, layer), [(layer, resolve_pool(layer, None))]
    if runtime == "mxnet":
        engine = make_engine(spec, parameters, cuts, preprocess, batch_size=size, engine="mxnet")

        def all_at_once() -> None:
            for ticket in [engine.submit(batch) for _ in range(times)]:
                engine.collect(ticket)

    elif runtime == "torch":
        all_at_once = _torch(case, batch, times)
    else:
        model = place / f"{runtime}.onnx"
        network = cut_network(spec, cuts, preprocess)
        gain, shift = preprocess.arithmetic()
        model.write_bytes(_model(network, {**parameters, GAIN: gain, SHIFT: shift}, batch.shape))
        all_at_once = (_onnxruntime if runtime == "onnxruntime" else _openvino)(model, batch, times)

    def run() -> int:
        all_at_once()
        return times * size

    return run


def _model(network: Any, parameters: dict[str, Any], shape: Sequence[int]) -> bytes:
    from onnx import numpy_helper

    from probe.engines.onnx.graph import onnx_model, onnx_nodes

    nodes, arrays = onnx_nodes(network, parameters)
    whole = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    outputs = dict.fromkeys(network.outputs)
    made: bytes = onnx_model("bare", nodes, {INPUT: shape}, outputs, whole).SerializeToString()
    return made


def _onnxruntime(model: Path, batch: np.ndarray, times: int) -> Callable[[], None]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def all_at_once() -> None:
        for _ in range(times):
            session.run(None, {INPUT: batch})

    return all_at_once


def _openvino(model: Path, batch: np.ndarray, times: int) -> Callable[[], None]:
    import openvino

    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", hints))

    def all_at_once() -> None:
        for _ in range(times):
            queue.start_async({0: batch})
        queue.wait_all()

    return all_at_once


def _torch(case: Case, batch: np.ndarray, times: int) -> Callable[[], None]:
    import torch
    import torchvision

    if not hasattr(torchvision.models, case.backbone):
        raise ImportError(f"torchvision has no {case.backbone}")
    network = getattr(torchvision.models, case.backbone)(weights=None).eval()
    network = (network.features if case.layer == "pool5" else network).to(
        memory_format=torch.channels_last
    )
    floats = torch.from_numpy(batch.astype(np.float32) / 255).permute(0, 3, 1, 2)

    def all_at_once() -> None:
        with torch.inference_mode():
            for _ in range(times):
                network(floats)

    return all_at_once


def work(kind: str, case: Case, folder: Path) -> None:
    """Be a process that runs once for every line that it reads, and says how fast that was."""
    with tempfile.TemporaryDirectory() as name:
        try:
            if kind in BARE:
                run = bare(case, kind, Path(name))
            elif kind == "decoding":
                run = decoding(case, folder)
            else:
                engine = kind.partition("-")[2] or "onnx"
                run = passing(case, folder, Path(name), engine)
            run()
        except (ImportError, EngineError) as error:
            print(f"not measured: {error}", flush=True)
            return
        print("ready", flush=True)
        for _ in sys.stdin:
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            images = run()
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(images / seconds, used / images, flush=True)


class Worker:
    """A process as `work` describes it, and the best that was seen of it."""

    def __init__(self, kind: str, case: Case, folder: Path) -> None:
        arguments = ["--worker", kind, str(CASES.index(case)), str(folder)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pipeline", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.rate, self.cpu = 0.0, float("inf")
        self.missing = self._line().partition("not measured: ")[2]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def measure(self) -> None:
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        rate, cpu = map(float, self._line().split())
        self.rate, self.cpu = max(self.rate, rate), min(self.cpu, cpu)

    def close(self) -> None:
        self._process.communicate()


def compare(case: Case, folder: Path, rounds: int) -> None:
    kinds = ["pass", "pass-openvino", "decoding", *BARE]
    if case.size == 64:
        kinds.append("pass-mxnet")
    workers = {kind: Worker(kind, case, folder) for kind in kinds}
    there = {kind: one for kind, one in workers.items() if not one.missing}
    for _ in range(rounds):
        for one in there.values():
            one.measure()
    for one in workers.values():
        one.close()
    print(f"{case.name}, {case.count} of {case.images}")
    for kind, one in workers.items():
        told = one.missing or f"{one.rate:9.1f} images/s, {one.cpu * 1e3:8.3f} ms of CPU an image"
        print(f"    {kind:13} {told}")
    peers = [there[kind] for kind in BARE if kind in there]
    seconds, cpu = 1 / max(one.rate for one in peers), min(one.cpu for one in peers)
    if case.shared:
        seconds, cpu = seconds + 1 / there["decoding"].rate, cpu + there["decoding"].cpu
    print(f"    limit         {1 / seconds:9.1f} images/s, {cpu * 1e3:8.3f} ms of CPU an image")
    for kind in (one for one in kinds[:2] if one in there):
        passed = there[kind]
        print(
            f"    the {kind} has {passed.rate * seconds:.2f} of it by time and "
            f"{cpu / passed.cpu:.2f} by CPU, bar {case.bar}"
        )
    if "pass-mxnet" in there:
        times = there["pass"].rate / there["pass-mxnet"].rate
        print(f"    {times:.2f} times the pass with --engine mxnet, bar 2.5")
    sys.stdout.flush()


def newcomer(rounds: int) -> None:
    """Time three ways to features of 2,000 images, from the start of the process."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = cifar10_folders(root / "images", train=160, test=40)
        spec = BACKBONES["resnet18"]
        layer, preprocess = spec.layer("gap"), TORCHVISION.with_size(64)
        parameters, model = draw_parameters(spec, layer), root / "resnet18.onnx"
        weights = root / "resnet18.safetensors"
        save_file(parameters, weights)
        gain, shift = preprocess.arithmetic()
        network = cut_network(spec, [(layer, "none")], preprocess)
        shape = ["images", 64, 64, 3]
        model.write_bytes(_model(network, {**parameters, GAIN: gain, SHIFT: shift}, shape))
        ways = {
            "probe extract": lambda out: [
                *PROBE, "extract", "--backbone", "resnet18", "--weights", str(weights),
                "--preprocess", "torchvision", "--size", "64", "--dataset", str(folder),
                "--cache-dir", out, "--json",
            ],
            "torch script": lambda out: [
                sys.executable, "benchmarks/newcomer_torch.py", str(folder), f"{out}.npy"
            ],
            "ONNX Runtime script": lambda out: [
                sys.executable, "benchmarks/newcomer_onnx.py", str(model), str(folder), f"{out}.npy"
            ],
        }  # fmt: skip
        best = {way: [float("inf"), float("inf")] for way in ways}
        # as after `pip install`, which compiles: the first round writes what later ones read
        installed = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for number in range(rounds):
            for way, command in ways.items():
                before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                out = str(root / f"{number}{way}")
                done = subprocess.run(command(out), capture_output=True, check=False, env=installed)
                seconds = time.perf_counter() - started
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                if done.returncode:
                    print(way, "failed:", done.stderr.decode().strip().splitlines()[-1])
                    continue
                best[way] = [min(best[way][0], seconds), min(best[way][1], used)]
        for way, (seconds, used) in best.items():
            print(f"{way:20} {seconds:6.1f} s, {used:6.1f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="backbones or backbone@size, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--newcomer", action="store_true")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, number, folder = options.worker
        work(kind, CASES[int(number)], Path(folder))
        return
    if options.newcomer:
        newcomer(options.rounds)
        return
    names = options.only.split(",") if options.only else None
    with tempfile.TemporaryDirectory() as name:
        places: dict[str, Path] = {}
        for case in CASES:
            if names and not {case.backbone, f"{case.backbone}@{case.size}"} & set(names):
                continue
            if case.images not in places:
                target = Path(name) / case.images
                places[case.images] = (
                    write_photographs(target, 256)
                    if case.images == "photographs"
                    else cifar10_folders(target, train=200, test=1)
                )
            compare(case, places[case.images], options.rounds)


if __name__ == "__main__":
    main()
