"""The frozen pass as `probe extract` runs it, JPEG files to sealed entry, against the bare network.

    python benchmarks/frozen_pass.py [--images 64] [--rounds 3]

Peer: the same Gluon network, hybridized with static memory, fed with arrays from memory and
nothing else: no decoding, no resizing, no writing. Beside it the engine itself (which fuses
BatchNorm and ReLU into the convolutions) fed from memory, so that the cost of all that surrounds
the network shows too. Rounds are interleaved, the best of each counts, all cores, batches of 16.
Random weights: the rate does not depend on them. Photographs of 500 x 375 pixels as JPEG.

Seen on two cores with ONNX Runtime as the engine, two rounds: ResNet-50 bare 24.24, engine 35.45,
whole pass 29.80 images/s; VGG16 9.71, 10.64, 9.72: the pass is at 1.23 and 1.00 of the bare
network's rate, and at 0.84 and 0.91 of its own engine's.

With MXNet as the engine, while other work ran beside it: ResNet-50 bare 18.58, engine 20.44, whole
pass 21.22 images/s; VGG16 9.90, 9.83, 10.10: the pass is at 1.14 and 1.02 of the bare network's
rate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network
from probe.backbones.network import GAIN, INPUT, SHIFT
from probe.cache.store import Store
from probe.engines import Engine
from probe.engines.mxnet.graph import symbol_of
from probe.engines.mxnet.mx import mx
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare

BATCH = 16


class Quiet:
    """Nobody watches."""

    def copied(self, rows: int, left: int) -> None: ...
    def estimated(self, rows: int, seconds: float, device: str) -> None: ...
    def advanced(self, rows: int) -> None: ...
    def waiting(self, holder: object, done: int, rows: int) -> None: ...


def write_photos(folder: Path, count: int) -> Path:
    from sklearn.datasets import load_sample_images

    rng, photos = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        image = photos[i % 2]
        top, left = rng.integers(0, image.shape[0] - 375), rng.integers(0, image.shape[1] - 500)
        target = folder / f"class{i % 2}" / f"{i:04d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[top : top + 375, left : left + 500]).save(target, quality=90)
    return folder


def bare_network(prepared: Any) -> Any:
    """Return the same graph as a function of a batch, compiled and not fused."""
    spec, (cut,), size = prepared.backbone, prepared.job.cuts, prepared.preprocess.size
    network = cut_network(spec, [(cut.layer, cut.pool)], prepared.preprocess)
    gain, shift = prepared.preprocess.arithmetic()
    given = {**prepared.weights.load(spec, cut.layer).parameters, GAIN: gain, SHIFT: shift}
    symbol = mx.sym.load_json(symbol_of(network, (BATCH, size, size, 3)).text)
    names = symbol.list_inputs()
    place = names.index(INPUT)
    arrays = [mx.nd.array(given[name]) for name in names if name != INPUT]
    flags = {
        "data_indices": [place], "param_indices": [n for n in range(len(names)) if n != place],
        "static_alloc": True, "static_shape": True,
    }  # fmt: skip
    run = mx.nd.CachedOp(symbol, list(flags.items()))
    return lambda batch: [run(*arrays[:place], batch, *arrays[place:])]


def rate_of_network(network: Any, batches: list[np.ndarray]) -> float:
    started = time.perf_counter()
    for output in [network(mx.nd.array(batch, dtype="uint8")) for batch in batches]:
        output[0].asnumpy()
    return len(batches) * BATCH / (time.perf_counter() - started)


def rate_of_engine(engine: Engine, batches: list[np.ndarray]) -> float:
    started = time.perf_counter()
    for ticket in [engine.submit(batch) for batch in batches]:
        engine.collect(ticket)
    return len(batches) * BATCH / (time.perf_counter() - started)


def rate_of_pass(prepared: Any, engine: Engine, cache: Path) -> float:
    started = time.perf_counter()
    extract_features(prepared.job, Store(cache), lambda _: engine, Quiet(), workers=2)
    return prepared.job.count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbones", default="resnet50,vgg16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        photos = write_photos(Path(name) / "photos", options.images)
        for backbone in options.backbones.split(","):
            request = Request(
                backbone=backbone,
                dataset=str(photos),
                weights="random:0",
                cache_dir=Path(name) / "cache",
                layers=("pool5" if BACKBONES[backbone].family == "vgg" else "gap",),
                batch_size=BATCH,
            )
            prepared = prepare(request)
            cuts = [(cut.layer, cut.pool) for cut in prepared.job.cuts]
            engine, network = prepared.engine_for(cuts), bare_network(prepared)
            rng = np.random.default_rng(0)
            batches = [
                rng.integers(0, 256, (BATCH, 224, 224, 3), dtype=np.uint8)
                for _ in range(options.images // BATCH)
            ]
            rate_of_network(network, batches[:1]), rate_of_engine(engine, batches[:1])
            best = {"bare": 0.0, "engine": 0.0, "pass": 0.0}
            for i in range(options.rounds):
                best["bare"] = max(best["bare"], rate_of_network(network, batches))
                best["engine"] = max(best["engine"], rate_of_engine(engine, batches))
                best["pass"] = max(
                    best["pass"], rate_of_pass(prepared, engine, Path(name) / f"{backbone}{i}")
                )
            print(
                f"{backbone} at 224: bare hybridized {best['bare']:.2f}, "
                f"engine from memory {best['engine']:.2f}, whole pass {best['pass']:.2f} images/s; "
                f"pass/bare {best['pass'] / best['bare']:.3f}, "
                f"pass/engine {best['pass'] / best['engine']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
