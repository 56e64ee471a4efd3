"""The bare network through each engine, for every backbone at its own size.

    python -m benchmarks.engines [--backbones A,B] [--size 64] [--rounds 3] [--seconds 1]

Parameters are drawn, batches of 16 uint8 images come from memory; preprocessing, network, cut at
the deepest layer and pooling are in one graph, as `probe extract` runs it. The engines take turns;
the best of all rounds counts. Peer: ONNX Runtime. ``rows`` says how far the rows are from those of
its own, as a part of a row's norm.

Seen on a noisy two-core machine, two rounds of half a second, 22 VGGs and ResNets at 224: MXNet at
0.87 to 1.28 of ONNX Runtime's rate, median 0.98. The five of them beyond 1.03 are noise at least in
part: resnet18 was 1.28, and 0.98 when measured again. The other 14 backbones were not run.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import resolve_pool
from probe.engines import ENGINES, Engine, engine_is_installed, make_engine, relative_differences
from probe.preprocess.spec import TORCHVISION
from tests.parameters import draw_parameters

BATCH = 16
INSTALLED = [name for name in ENGINES if engine_is_installed(name)]


def rate(engine: Engine, batch: np.ndarray, seconds: float) -> float:
    """Return images per second over at least two batches, the next one submitted ahead."""
    start, done = time.perf_counter(), 0
    ticket = engine.submit(batch)
    while done < 2 * BATCH or time.perf_counter() - start < seconds:
        following = engine.submit(batch)
        engine.collect(ticket)
        ticket, done = following, done + BATCH
    engine.collect(ticket)
    return (done + BATCH) / (time.perf_counter() - start)


def compare(name: str, size: int | None, rounds: int, seconds: float) -> dict[str, float]:
    """Print a backbone's lines and return the rates of the others as parts of ONNX Runtime's."""
    spec = BACKBONES[name]
    preprocess = TORCHVISION.with_size(size or spec.input_size)
    layer = spec.layers[-1]
    parameters = draw_parameters(spec, layer)
    cuts = [(layer, resolve_pool(layer, None))]
    shape = (BATCH, preprocess.size, preprocess.size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    engines = {
        one: make_engine(
            spec, parameters, cuts, preprocess, batch_size=BATCH, engine=one, device="cpu"
        )
        for one in INSTALLED
    }
    rows = {one: engine.collect(engine.submit(batch))[0] for one, engine in engines.items()}
    best = dict.fromkeys(engines, 0.0)
    for _ in range(rounds):
        for one, engine in engines.items():
            best[one] = max(best[one], rate(engine, batch, seconds))
    parts = {one: best[one] / best["onnx"] for one in INSTALLED[1:]}
    for one, part in parts.items():
        apart = relative_differences(rows[one], rows["onnx"]).max()
        print(
            f"{name:20} {preprocess.size:3}  onnx {best['onnx']:7.1f}  {one:8} {best[one]:7.1f} "
            f"images/s  {one} / onnx {part:4.2f}  rows {apart:.0e}",
            flush=True,
        )
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--size", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    parts = [
        compare(name, options.size, options.rounds, options.seconds)
        for name in options.backbones.split(",")
    ]
    for one in INSTALLED[1:]:
        own = [each[one] for each in parts]
        print(
            f"{one} by {len(own)} backbones: median {statistics.median(own):.2f}, "
            f"largest {max(own):.2f}, {sum(part > 1.03 for part in own)} beyond 1.03"
        )


if __name__ == "__main__":
    main()
