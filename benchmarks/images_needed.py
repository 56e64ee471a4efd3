"""Does the number of images that would settle a tie come true?

    python -m benchmarks.images_needed CACHE/runs/A CACHE/runs/B [...]

Takes the test predictions of two or more runs on the same images. For each pair of runs it draws
500 and 1,000 of the rows, 100 times, and asks of each draw how many images the paired test would
need (`probe.evaluation.paired.images_needed`). The rows held back say how many it really takes. The
peer is the plain figure without an interval.

Seen on 10,000 test images of CIFAR-10, EfficientNet-Lite0 at 64 and 48 pixels and VGG16 at 32, path
heads on 3,000 images each (the three pairs; 500 images drawn, then 1,000):

    images it takes        773          1,775         4,506
    interval holds it      95, 92 %     97, 95 %      95, 95 %
    no upper end           40, 11 %     73, 52 %      85, 79 %
    figure over truth      0.96, 1.11   1.16, 1.27    0.59, 0.98    (medians)
    then told apart        68, 77 %     68, 73 %      40, 56 %      (80 % if the figure were right)

So the interval can be relied on and the figure alone cannot: from few images it is far too small or
far too large (0.15 to 31 times, the middle eight of ten draws).
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.paired import ImagesNeeded, images_needed, mcnemar
from probe.evaluation.predictions import load_predictions

DRAWN, DRAWS = (500, 1000), 100


def main() -> None:
    """Print a line a pair and size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+")
    right = {run.name: correct(run) for run in parser.parse_args().runs}
    for (name, a), (other, b) in combinations(right.items(), 2):
        for size in DRAWN:
            print(f"{name} and {other}, from {size} images: {foretold(a, b, size)}", flush=True)


def correct(run: Path) -> NDArray[np.bool_]:
    """Return which test images a run got right, ordered by id."""
    found = load_predictions(run)["test"]
    order = np.argsort(found.ids)
    hits: NDArray[np.bool_] = (found.probabilities.argmax(axis=1) == found.labels)[order]
    return hits


def needed(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> ImagesNeeded:
    """Return what two heads' rows ask for."""
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    return images_needed(first, second, len(a), p=mcnemar(first, second))


def foretold(a: NDArray[np.bool_], b: NDArray[np.bool_], size: int) -> str:
    """Return how draws of so many rows foretold what the rest asks for."""
    random, held, ratios, open_ended, told = np.random.default_rng(0), 0, [], 0, []
    ties = 0
    for _ in range(DRAWS):
        order = random.permutation(len(a))
        drawn, rest = order[:size], order[size:]
        said, truth = needed(a[drawn], b[drawn]), needed(a[rest], b[rest]).count or np.inf
        if said.count is None or said.low is None:
            ties += 1
            continue
        high = np.inf if said.high is None else said.high
        held += said.low <= truth <= high
        open_ended += said.high is None
        ratios.append(said.count / truth)
        if said.count <= len(rest):
            some = rest[: said.count]
            first, second = int((a[some] & ~b[some]).sum()), int((b[some] & ~a[some]).sum())
            told.append(mcnemar(first, second) <= 0.05)
    asked = DRAWS - ties
    after = f"{np.mean(told):.0%} of {len(told)}" if told else "none could be tried"
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    return (
        f"truth {needed(a, b).count:,}; interval holds it in {held / asked:.0%} of {asked}, "
        f"without an upper end in {open_ended / asked:.0%}; the figure is {middle:.2f} of it "
        f"({low:.2f} to {high:.2f}); tested on so many others a difference was shown in {after}"
    )


if __name__ == "__main__":
    main()
