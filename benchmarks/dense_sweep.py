"""52 dense heads together against one after another.

    python benchmarks/dense_sweep.py [--entry cache/features/KEY.h5]

13 learning rates times 4 weight decays, Adam, batch 256, on 35,000 x 512 features. One after
another is timed on --alone of them, spread over the grid, and multiplied; DenseHead measures loss
and top-1 each epoch, which the sweep does not, so it is also timed with that switched off.

Showed, on two cores that others were using too (load 3 to 4, three epochs, best of two rounds):

    together               1.7 s
    alone                 13.8 s   8.1 times
    alone, not measured   11.4 s   6.7 times

and weights within 7e-6 of those alone. Under other loads the first ratio was 8 to 11.

Idle, on 50,000 rows of VGG16's pool5 (`--entry`), five epochs, best of three: 4.0 s together, 7.4
and 6.0 times; heads that diverge are computed with the others and left out of the comparison.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
from dense_head import from_entry, synthetic

RATES, DECAYS = np.logspace(-5, -1, 13).tolist(), [0.0, 1e-5, 1e-4, 1e-3]


def main() -> None:
    """Print both times, their ratio, and how far weights are apart."""
    from probe.heads import DenseHead, softmax
    from probe.heads.dense import fit_swept

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entry", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--alone", type=int, default=4, help="heads fitted one after another")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = from_entry(args.entry) if args.entry else synthetic(35_000, 512, 10)
    X, y = data["X"], data["y"]
    head = DenseHead(epochs=args.epochs, random_state=0)
    DenseHead(epochs=1).fit(X, y)
    times: dict[str, list[float]] = {"together": [], "alone": [], "alone, not measured": []}
    grid = [{"lr": lr, "wd": wd} for lr, wd in product(RATES, DECAYS)]
    some = slice(None, None, len(grid) // args.alone)
    worst = 0.0
    measure = softmax.SoftmaxLayer.evaluate_training
    for _ in range(args.rounds):
        started = time.perf_counter()
        heads = fit_swept(head, X, y, grid)
        times["together"].append(time.perf_counter() - started)
        for name in ("alone", "alone, not measured"):
            if name != "alone":
                softmax.SoftmaxLayer.evaluate_training = lambda *_: (0.0, 0.0)
            started = time.perf_counter()
            alone = [DenseHead(**head.get_params() | one).fit(X, y) for one in grid[some]]
            times[name].append((time.perf_counter() - started) * len(grid) / len(alone))
            softmax.SoftmaxLayer.evaluate_training = measure
        for one, other in zip(heads[some], alone, strict=True):
            if one is None:  # it diverged, and is never chosen
                continue
            gap = np.linalg.norm(one.coef_ - other.coef_) / np.linalg.norm(other.coef_)
            worst = max(worst, float(gap))
    best = {name: min(values) for name, values in times.items()}
    for name, seconds in best.items():
        print(f"{name:20} {seconds:6.1f} s  {seconds / best['together']:.2f}")
    print(f"weights are within {worst:.1e} (relative norm) of those alone")


if __name__ == "__main__":
    main()
