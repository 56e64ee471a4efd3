"""Do intervals hold the truth, and tests stay at their level, as often as they say?

    python -m benchmarks.intervals            # about 10 minutes on one core

Shares and paired differences are summed over every outcome, so these figures are exact; the rest is
simulated. The peer of each is the bootstrap, or the plain test, that stood in its place.

Seen (coverage where 95 % is written, lowest over the grid; level where 5 % is asked for):

    share, Clopper and Pearson's           95.4 %      (the bootstrap: 1.0 %, n = 5, share 0.002)
    paired difference, Tango's + 1/2 row   95.1 %      (the bootstrap: 1.0 %, n = 5, 0.002 and 0)
    McNemar's exact test                   4.5 % at most

    related rows, 500 tries   share          difference   test (McNemar's on rows)
    15 patients of 4          96.4 %         96.0 %       4.0 %  (14.0 %)
    30 patients of 8          97.6           95.6         4.4    (22.4)
    60 patients of 5          95.4           95.8         4.2    (20.0)
    200 patients of 3         96.2           95.2         4.8    (12.0)
    (the share's interval over rows alone: 84.0, 76.2, 80.8, 87.8 %)

    mAP, 500 tries            interval   permutation   (bootstrap's error, as before)
    20 rows, 10 % positive    79.4 %     3.8 %         (8.6 %)
    50 rows, 10 %             85.0       6.4           (7.6)
    50 rows, 30 %, little noise 99.0     1.6           (0.4)
    200 rows, 10 %            89.4       4.6           (5.4)
    200 rows, 30 %            94.0       4.8           (5.6)

mAP's interval loses where positive rows are few: average precision itself is then too high (0.48 on
20 rows where many have 0.29), and no interval around it mends that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from probe.evaluation.multilabel import average_precisions, bootstrap_map
from probe.evaluation.paired import compare_pair, difference_interval, mcnemar
from probe.evaluation.pairs import compare_drawn, evidence
from probe.evaluation.statistics import DRAWS, bootstrap_mean, share_interval

ROWS = (5, 10, 20, 30, 50, 100, 200, 1000)
SHARES = (0.002, 0.01, 0.03, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
PAIRS = (  # only the first right, only the second
    (0.002, 0), (0.005, 0.001), (0.01, 0), (0.03, 0), (0.05, 0), (0.1, 0), (0.3, 0), (0.9, 0),
    (0.02, 0.01), (0.05, 0.05), (0.1, 0.05), (0.3, 0.3), (0.5, 0.1),
)  # fmt: skip
LEAST = 1e-8  # chance of an outcome: rarer ones are left out
TRIES = 1000


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=TRIES)
    tries = parser.parse_args().tries
    shares()
    differences()
    related(tries)
    precisions(tries)


def shares() -> None:
    """Coverage of the interval of a share, exact."""
    worst: dict[str, tuple[float, int, float]] = {}
    for n in ROWS:
        own = [share_interval(np.arange(n) < hits) for hits in range(n + 1)]
        drawn = [bootstrap_mean(np.arange(n) < hits) for hits in range(n + 1)]
        for share in SHARES:
            chance = binom.pmf(np.arange(n + 1), n, share)
            for name, bounds in (("Clopper-Pearson", own), ("bootstrap", drawn)):
                inside = [one.low <= share <= one.high for one in bounds]
                found = (float(chance @ np.array(inside)), n, share)
                worst[name] = min(worst.get(name, found), found)
    for name, (coverage, n, share) in worst.items():
        print(f"share, {name}: at least {coverage:.3f} (n {n}, share {share})", flush=True)


def outcomes(n: int, a: float, b: float) -> Iterator[tuple[int, int, float]]:
    """Yield (only_a, only_b, chance) of every outcome that is not too rare."""
    first = binom.pmf(np.arange(n + 1), n, a)
    for only_a in np.flatnonzero(first > LEAST):
        rest = n - only_a
        second = binom.pmf(np.arange(rest + 1), rest, b / (1 - a))
        for only_b in np.flatnonzero(second > LEAST):
            yield int(only_a), int(only_b), float(first[only_a] * second[only_b])


def differences() -> None:
    """Coverage of the interval of a paired difference, exact, and the test's level."""
    worst: dict[str, tuple[float, int, tuple[float, float]]] = {}
    level = (0.0, 0, (0.0, 0.0))
    random = np.random.default_rng(0)
    for n in ROWS:
        for a, b in PAIRS:
            held, told = {"score": 0.0, "bootstrap": 0.0}, 0.0
            for only_a, only_b, chance in outcomes(n, a, b):
                p = mcnemar(only_a, only_b)
                told += chance * (p <= 0.05)
                one = difference_interval(only_a, only_b, n, p=p)
                held["score"] += chance * (one.low - 1e-9 <= a - b <= one.high + 1e-9)
                if chance > 1e-5:
                    kept = [only_a / n, only_b / n, max(0.0, 1 - (only_a + only_b) / n)]
                    counts = random.multinomial(n, kept, DRAWS)
                    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
                    held["bootstrap"] += chance * (low - 1e-9 <= a - b <= high + 1e-9)
            for name, value in held.items():
                worst[name] = min(worst.get(name, (value, n, (a, b))), (value, n, (a, b)))
            if a == b:
                level = max(level, (told, n, (a, b)))
    for name, (coverage, n, pair) in worst.items():
        print(f"difference, {name}: at least {coverage:.3f} (n {n}, {pair})", flush=True)
    print(f"difference, McNemar: at most {level[0]:.3f} at 0.05 (n {level[1]}, {level[2]})")


def related(tries: int) -> None:
    """Shares and differences where a patient's rows go alike, by simulation."""
    for patients, each in ((15, 4), (30, 8), (60, 5), (200, 3)):
        random, units = np.random.default_rng(patients), np.repeat(np.arange(patients), each)
        share = np.zeros(2)
        pair = np.zeros(3)
        for _ in range(tries):
            chance = random.beta(1.2, 0.8, (patients, 2))  # each patient is easy or hard
            a, b = (random.random((patients, each)) < chance[:, [i]] for i in (0, 1))
            right, other = a.ravel(), b.ravel()
            for i, bounds in enumerate((share_interval(right, units=units), share_interval(right))):
                share[i] += bounds.low <= 0.6 <= bounds.high
            test = compare_pair(right, other, units=units)
            pair += (test.interval.low <= 0 <= test.interval.high, test.p <= 0.05,
                     compare_pair(right, other).p <= 0.05)  # fmt: skip
        share, pair = share / tries, pair / tries
        print(
            f"{patients} patients of {each}: share holds {share[0]:.3f} (rows {share[1]:.3f}), "
            f"difference holds {pair[0]:.3f}, test rejects {pair[1]:.3f} (McNemar {pair[2]:.3f})",
            flush=True,
        )


def precisions(tries: int) -> None:
    """Mean average precision: coverage of its interval, and the permutation test's level."""
    for n, prevalence, noise in (
        (20, 0.1, 1.0), (50, 0.1, 1.0), (50, 0.3, 0.3), (200, 0.1, 1.0), (200, 0.3, 0.5),
    ):  # fmt: skip
        random = np.random.default_rng(n)
        truth = mean_precision(random, 100_000, prevalence, noise)
        held = told = old = 0
        for seed in range(tries):
            labels, a = draw(random, n, prevalence, noise)
            b = labels + random.normal(scale=noise, size=labels.shape)
            one, other = (evidence(spread(x), labels, seed=seed) for x in (a, b))
            bounds = bootstrap_map(spread(a), labels, seed=seed)
            held += bounds is not None and bounds[0] <= truth <= bounds[1]
            told += compare_drawn(one, other, seed=seed)[1] <= 0.05
            old += normal_p(one.drawn, other.drawn, one.value - other.value) <= 0.05
        print(
            f"mAP of {n} rows, {prevalence:.0%} positive, noise {noise}: interval holds "
            f"{held / tries:.3f}, permutation rejects {told / tries:.3f} (bootstrap's error "
            f"{old / tries:.3f}), truth {truth:.3f}",
            flush=True,
        )


def draw(
    random: np.random.Generator, n: int, prevalence: float, noise: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return labels of three classes, one positive row at least, and noisy scores of them."""
    labels = np.zeros((n, 3), np.uint8)
    while not labels.any():
        labels = (random.random((n, 3)) < prevalence).astype(np.uint8)
    return labels, labels + random.normal(scale=noise, size=labels.shape)


def mean_precision(random: np.random.Generator, n: int, prevalence: float, noise: float) -> float:
    """Return the mAP of many rows of the same kind."""
    labels, scores = draw(random, n, prevalence, noise)
    return float(average_precisions(scores, labels).mean())


def spread(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities that rank as the scores do."""
    return 1 / (1 + np.exp(-scores))


def normal_p(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None, seen: float) -> float:
    """Return p of a difference in units of its bootstrap standard error, as it was before."""
    from math import erfc, sqrt

    assert a is not None
    assert b is not None
    error = float(np.nanstd(a - b))
    return erfc(abs(seen) / error / sqrt(2)) if error > 0 else float(seen == 0)


if __name__ == "__main__":
    main()
