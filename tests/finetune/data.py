"""A network small enough to train in a test, and what tests ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from probe.backbones.network import Builder, NetworkGraph
from probe.backbones.spec import BackboneSpec, Layer
from probe.cache.joining import join
from probe.cache.store import Store
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.finetune.graph import INVERSE, MEAN, Architecture, head_shapes
from probe.finetune.network import Network
from probe.finetune.options import Options
from probe.finetune.source import Places, Source, open_source
from probe.finetune.start import make_training
from probe.finetune.state import State
from probe.finetune.train import Training
from probe.heads.history import Epoch
from probe.preprocess.spec import TORCHVISION
from probe.runs.fit import HeadRequest, fit_head, keep_run, plan_head

RUN = "20260101-000000-001"
CLASSES = 3


class Silent:
    """Watches a pass, or a training, and says nothing."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def copied(self, rows: int, left: int) -> None: ...
    def estimated(self, rows: int, seconds: float, device: str) -> None: ...
    def advanced(self, rows: int) -> None: ...
    def spread(self, rates: object) -> None: ...
    def waiting(self, holder: object, done: int, rows: int) -> None: ...
    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None: ...
    def epoch_done(self, epoch: Epoch, best: bool) -> None:
        self.epochs.append(epoch)


def make_cache(folder: Path, per_class: int = 16) -> None:
    """Extract some digits of each class at 32 pixels, and fit a head."""
    request = Request(
        backbone="resnet18", dataset="digits", cache_dir=folder, weights="random:0",
        layers=("stage1",), size=32, per_class=per_class,
    )  # fmt: skip
    prepared = prepare(request)
    extract_features(prepared.job, Store(folder), prepared.engine_for, Silent(), workers=1)
    fit(folder, RUN, HeadRequest(params={"epochs": 20}))


def fit(folder: Path, name: str, request: HeadRequest) -> Path:
    """Fit a head on the newest entry and keep it as a run of that name."""
    store = Store(folder)
    joined = join(store, store.choose(None))
    done = fit_head(joined, request, plan_head(joined, request))
    target = folder / "runs" / name
    target.mkdir(parents=True)
    keep_run(target, done, joined.entry.classes)
    return target


def source_of(cache: Path) -> Source:
    return open_source(cache / "runs" / RUN, Places(cache_dir=cache))


def training_of(cache: Path, folder: Path, **options: Any) -> Training:
    """Return a training of one epoch of sgd without augmentation, unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = Options(
        **{"epochs": 1, "augment": "none", "optimizer": "sgd", "warmup": 0.0, **options}
    )
    return make_training(source_of(cache), asked, folder, workers=2)


def trained(cache: Path, folder: Path, **options: Any) -> dict[str, np.ndarray]:
    """Return the parameters after a training."""
    training = training_of(cache, folder, **options)
    training.run(Silent())
    return training.network.state.weights.values() | training.network.state.aux.values()


def tiny(size: int, classes: int) -> NetworkGraph:
    """Describe a network of two convolutions, a norm and a Dropout, on 8 pixels."""
    net = Builder()
    net.conv("features.0", 4, 3, pad=1)
    net.norm("features.1")
    net.relu("features.2")
    net.dropout("features.3")
    net.conv("features.4", 5, 3)
    net.dense("output", 2)
    return net.network()


TINY = BackboneSpec(
    name="tiny", family="none", describe=tiny, parameters=0, input_size=8,
    layers=(
        Layer(name="first", width=4, after=4, kind="map"),
        Layer(name="last", width=5, after=5, kind="map"),
    ),
    paper="",
)  # fmt: skip


def tiny_parameters(seed: int = 0) -> dict[str, np.ndarray]:
    """Return parameters of the tiny network and of a head of two layers on it."""
    rng = np.random.default_rng(seed)
    shapes = {
        "features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,), "features.1.gamma": (4,),
        "features.1.beta": (4,), "features.1.running_mean": (4,), "features.1.running_var": (4,),
        "features.4.weight": (5, 4, 3, 3), "features.4.bias": (5,),
        **head_shapes(5, (6, CLASSES)),
    }  # fmt: skip
    values = {n: rng.normal(0, 0.4, shape).astype(np.float32) for n, shape in shapes.items()}
    values["features.1.running_var"] = np.full(4, 1.5, np.float32)
    return values


def tiny_network(
    *, global_bn: bool = True, hardest: int = 0, accumulate: bool = False, batch: int = 6,
    ema: float = 0.0, optimizer: Any = "sgd",
) -> Network:  # fmt: skip
    """Return the tiny network, on images of 8 pixels."""
    spec = TORCHVISION.with_size(8)
    std = np.array(spec.std)
    fixed = {
        "gain": (spec.scale / std).reshape(1, 3, 1, 1).astype(np.float32),
        "shift": (np.array(spec.mean) / std).reshape(1, 3, 1, 1).astype(np.float32),
        MEAN: np.full((1, 5), 0.1, np.float32),
        INVERSE: np.full((1, 5), 2.0, np.float32),
    }
    arch = Architecture(
        spec=TINY, layer=TINY.layers[1], pool="avg", preprocess=spec, normalize="standard",
        widths=(6, CLASSES), global_bn=global_bn, hardest=hardest,
    )  # fmt: skip
    state = State(parameters=tiny_parameters(), fixed=fixed, optimizer=optimizer, ema=ema)
    return Network(arch, state, batch_size=batch, accumulate=accumulate)


def tiny_batch(batch: int = 6, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, soft targets)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    return images, rng.dirichlet(np.ones(CLASSES), batch).astype(np.float32)


def no_dropout(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)
