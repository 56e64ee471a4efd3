"""Logistic regression for 45 values of C: our path solver against a loop over scikit-learn.

    python -m benchmarks.logistic_path --entry cache/features/KEY.h5              # the headline
    python -m benchmarks.logistic_path parts warm tight --entry ...               # the rest

40,000 training rows and the other 10,000 for validation, drawn from the entry's training split by
seed 0 and standardised beforehand for both. Ours is timed from rows in memory to a chosen C: the
covariance, its eigenvectors, all fits, the scores on validation. scikit-learn is LogisticRegression
(lbfgs, max_iter 1000, its own tolerance), as installed.

headline  ours, three times, between five values of C fitted by scikit-learn, every eleventh; its
          other times are interpolated in log C: the whole loop takes an hour or two.
parts     what the solver takes without each of its parts, on every --every-th value of C: seconds,
          passes over the rows, and gradients of a head in them, which no other process disturbs.
warm      scikit-learn at the headline's values of C, from scratch and from the head of the C
          before it on the grid, as a warm-started loop has it.
tight     where scikit-learn goes at one large C when its stop is tightened, and from our solution.

Showed, with VGG16's conv5_3 at 32 x 32, flattened, of CIFAR-10, on two idle cores, with
OPENBLAS_CORETYPE=SKYLAKEX so that both sides run the same kernel (NumPy's OpenBLAS does not know
each newer processor, and ours is SciPy's):

    path, all 45 and the choice      30, 32 and 33 s; chosen C=0.00178; within one standard error of
                                     its 68.03 %: C from 0.001 to 0.00562
    scikit-learn, 5 of 45 fitted     3234 s by interpolation: 98 times the slowest, 107 the fastest

          C    scikit-learn               its objective above ours    top-1: theirs, ours
      1e-06     12 iterations,    3 s     4e-9                        53.64, 53.63 %
    5.6e-04     77 iterations,   18 s     -2e-6                       67.46, 67.46 %
    3.2e-01    298 iterations,   69 s     4e-4                        64.03, 64.12 %
    1.8e+02    560 iterations,  134 s     1.8e-3                      62.38, 62.17 %
    1.0e+05    551 iterations,  130 s     1.8e-3                      62.29, 62.14 %

Before heads were looked at again in coordinates of where they came to, ours took 31, 35 and 41 s
(86 to 114 times 3568 s); that costs 11 % more gradients here. Without it a weak penalty alone, or
on few rows, stopped far from its minimum: on 1,000 rows of 512 features C=1e5 had 33 % of test
instead of 65 %, though the whole grid hid it.

Before products let go of the interpreter's lock it took 56, 59 and 61 s in the same place (56 to
61 times), and with other work beside both 54 to 110 s (65 to 125 times).

The 0.21 points at C=178 are where scikit-learn stops, and not a matter of its minimum: it ends at a
slope of 1e-4, 1.8e-3 above ours in the objective, and on another number of threads elsewhere. On
one thread it took 521 iterations instead of 489 in another run, and had 62.31 instead of 62.46 %.
So it does not agree with itself to 0.1 points there, though it reports convergence; both are 6
points below the best C. With tighter stops both go to the same place (`tight`; ours alone at these
C, from zero; all of this before both changes above):

    C=178   scikit-learn, tol 1e-4 (its own)   560 iterations, 307 s   1.1e-3 above ours   62.38 %
            scikit-learn, tol 3e-5, going on   554 more, 537 s         1.6e-3 below        62.05 %
            ours, as installed                 122 gradients, 36 s *                       62.26 %
            ours, tol 4e-8                     279 gradients, 106 s *  1.7e-3 below        62.09 %
    * with C=1e5 beside it: 62.23 %, and 62.06 % with tol 4e-8, 2.0e-3 below

So where scikit-learn is at its minimum the two agree to 0.04 points; as installed, neither is. On
the path ours could be: LOOSEST at 5 instead of 25 took 2.5 times as long, ended 1.5e-3 lower at
C=178 and moved top-1 by 0.03 points.

Warm-started from the head of the C before, scikit-learn took 57 iterations instead of 77 at
C=5.6e-4, and none at 0.32, 178 and 1e5: the head of the C before is within its tolerance at once.
It keeps that head, 4e-3 above the minimum at C=0.32.

What the parts bought, on every eleventh C: five, so that little is shared, and the last two take
most of the time (seconds idle; gradients of a head; what the objective is above the first line's):

    all parts                          28 s   339
    without warm starts                44 s   510   5e-5
    without the covariance            176 s  2072   1e-3
    without the classes' curvature     22 s   239   3e-3: the stop is blind to what is left
    without sharing passes             48 s   360
    without the looser stop           101 s  1073
    without float32                    57 s   362
    without scores by class            31 s   359
    before the second look:
    all parts                          31 s   306
    without cores sharing rows         57 s   302
    without letting go of the lock     68 s   306   (36 s with all parts in that run)
    without SciPy's BLAS               34 s   306   (with NumPy's, told which kernel to take)

`--jobs 2` of scikit-learn's own fits (`probe head --head logistic --C 1e-4,1e-3,1e-2,1e-1` on
35,000 x 512 rows): 24 and 25 s against 36 and 38 s with `--jobs 1`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.path_parts import PARTS, Count, counted, without

GRID = np.logspace(-6, 5, 45)
AT = (0, 11, 22, 33, 44)  # of the grid, where scikit-learn is fitted


@dataclass(frozen=True)
class Data:
    """Standardised rows, float32, and labels."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray


@dataclass(frozen=True)
class Path45:
    """Our heads for a grid of C, and what they took."""

    heads: list[Any]
    top1: np.ndarray
    seconds: float
    count: Count
    objective: np.ndarray = field(default_factory=lambda: np.zeros(0))


def load(path: Path, n_rows: int | None) -> Data:
    """Return 4 of 5 of the entry's training rows, or fewer, and the fifth to validate on."""
    from probe import FeatureSet
    from probe.heads.normalize import fit_normalizer

    split = FeatureSet.open(path)["train"]
    X, y = split.features.reshape(len(split), -1), np.asarray(split.labels, np.intp)
    order = np.random.default_rng(0).permutation(len(X))
    train, val = order[: len(X) * 4 // 5][:n_rows], order[len(X) * 4 // 5 :]
    normalizer = fit_normalizer("standard", X[train])
    return Data(normalizer.transform(X[train]), y[train], normalizer.transform(X[val]), y[val])


def objective_and_slope(data: Data, coef: Any, intercept: Any, C: float) -> tuple[float, float]:
    """Return mean cross-entropy plus penalty, and its largest partial derivative, in float64."""
    coef, total = coef.astype(np.float64), 0.0
    gradient, biases = np.zeros_like(coef), np.zeros(len(coef))
    for start in range(0, len(data.X), 4096):
        rows, y = data.X[start : start + 4096].astype(np.float64), data.y[start : start + 4096]
        p = rows @ coef.T + intercept
        own, top = p[np.arange(len(y)), y], p.max(axis=1)
        p = np.exp(p - top[:, None])
        sums = p.sum(axis=1)
        total += float((np.log(sums) + top - own).sum())
        p /= sums[:, None]
        p[np.arange(len(y)), y] -= 1
        gradient += p.T @ rows
        biases += p.sum(axis=0)
    n_rows = len(data.X)
    gradient = gradient / n_rows + coef / (C * n_rows)
    slope = max(float(np.abs(gradient).max()), float(np.abs(biases).max()) / n_rows)
    return total / n_rows + float((coef**2).sum()) / (2 * C * n_rows), slope


def time_path(data: Data, grid: np.ndarray) -> Path45:
    """Solve the grid and score it on validation."""
    from probe.evaluation.parts import Part
    from probe.heads.grid import score_rows
    from probe.heads.path import PathHead

    with counted() as count:
        started = time.perf_counter()
        heads = PathHead(normalize="none").fit_grid(data.X, data.y, grid.tolist())
        val = Part(X=data.X_val, y=data.y_val, ids=[""] * len(data.y_val))
        top1, *_ = score_rows(heads, val)
        seconds = time.perf_counter() - started
    values = [objective_and_slope(data, one.coef_, one.intercept_, one.C)[0] for one in heads]
    return Path45(heads, top1, seconds, count, np.array(values))


@contextmanager
def silent() -> Iterator[list[Any]]:
    """Catch what scikit-learn says about convergence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def time_peer(data: Data, model: Any, C: float, ours: Path45 | None = None) -> dict[str, Any]:
    """Fit scikit-learn's model at one C, and print and return what came of it."""
    model.set_params(C=C)
    with silent() as caught:
        started = time.perf_counter()
        model.fit(data.X, data.y)
        seconds = time.perf_counter() - started
    value, slope = objective_and_slope(data, model.coef_, model.intercept_, C)
    found = {
        "C": C, "seconds": seconds, "converged": not caught, "n_iter": int(model.n_iter_[0]),
        "objective": value, "slope": slope,
        "top1": float((model.predict(data.X_val) == data.y_val).mean()),
    }  # fmt: skip
    about = (
        f"  C {C:8.2g}, tol {model.tol:g}: {found['n_iter']:5} of {model.max_iter} iterations, "
        f"{seconds:6.1f} s, slope {slope:.1e}, {100 * found['top1']:.2f} %"
    )
    if ours is not None:
        own = int(np.abs(np.log([one.C / C for one in ours.heads])).argmin())
        about += (
            f"; objective {value / ours.objective[own] - 1:+.1e} of ours, "
            f"{100 * ours.top1[own]:.2f} %"
        )
    print(about, flush=True)
    return found


def peer(**options: Any) -> Any:
    """Return scikit-learn's estimator, as the claim names it."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"max_iter": 1000} | options)


def headline(data: Data, rounds: int) -> None:
    """Print the ratio of times: ours, whole, between the values of C that scikit-learn fits."""
    theirs: list[dict[str, Any]] = []
    runs: list[Path45] = []
    for number, at in enumerate(AT):
        if number < rounds:
            runs.append(time_path(data, GRID))
            print(f"path, all {len(GRID)} and the choice: {runs[-1].seconds:.1f} s", flush=True)
        theirs.append(time_peer(data, peer(), GRID[at], runs[0]))
    seconds = float(np.interp(range(len(GRID)), AT, [one["seconds"] for one in theirs]).sum())
    ours = sorted(run.seconds for run in runs)
    first = runs[0]
    excess = max(
        first.objective[at] / one["objective"] - 1 for at, one in zip(AT, theirs, strict=True)
    )
    print(
        f"scikit-learn: {seconds:.0f} s ({len(AT)} of {len(GRID)} values fitted, the rest "
        f"interpolated in log C): {seconds / ours[-1]:.0f} to {seconds / ours[0]:.0f} times ours; "
        f"our objective is at most {excess:+.1e} above theirs"
    )
    choice(first, len(data.y_val))


def choice(found: Path45, n_rows: int) -> None:
    """Print the chosen C, and which others are within one standard error."""
    top = int(found.top1.argmax())
    error = np.sqrt(found.top1[top] * (1 - found.top1[top]) / n_rows)
    close = GRID[found.top1 >= found.top1[top] - error]
    print(
        f"chosen C={GRID[top]:.3g}, validation top-1 {100 * found.top1[top]:.2f} %; within one "
        f"standard error of it: C from {close[0]:.3g} to {close[-1]:.3g}"
    )


def parts(data: Data, every: int) -> None:
    """Print what the solver takes without each of its parts, on every so-manieth value of C."""
    grid = GRID[::every]
    best = time_path(data, grid)
    print(f"{len(grid)} values of C; the excess is of the objective over the first line's")
    print(f"  {'all parts':<34} {best.seconds:6.1f} s  {best.count}", flush=True)
    for part in PARTS:
        with without(part):
            found = time_path(data, grid)
        worst = float((found.objective / best.objective - 1).max())
        name = f"without {part}"
        print(f"  {name:<34} {found.seconds:6.1f} s  {found.count}  {worst:+.0e}", flush=True)


def warm(data: Data) -> None:
    """Print scikit-learn from the head of the C before it on the grid, which we found, and cold."""
    ours = time_path(data, GRID)
    steps = {"cold": 0, "warm": 0}
    for at in AT[1:]:
        before = ours.heads[at - 1]
        started = peer(warm_start=True)
        started.coef_, started.intercept_ = before.coef_.copy(), before.intercept_.copy()
        started.classes_ = np.unique(data.y)
        for name, model in (("cold", peer()), ("warm", started)):
            print(name, end="")
            steps[name] += time_peer(data, model, GRID[at], ours)["n_iter"]
    print(", ".join(f"{name}: {count} iterations" for name, count in steps.items()))


def tight(data: Data, C: float) -> None:
    """Print where scikit-learn goes when its stop is tightened, and when it starts from ours."""
    ours = time_path(data, np.array([C]))
    (head,) = ours.heads
    value, slope = objective_and_slope(data, head.coef_, head.intercept_, C)
    print(
        f"ours at C={C:.3g}: objective {value:.6f}, slope {slope:.1e}, {100 * ours.top1[0]:.2f} %"
    )
    model = peer(warm_start=True)
    model.coef_, model.intercept_ = head.coef_.copy(), head.intercept_.copy()
    model.classes_ = np.unique(data.y)
    print("from our solution")
    time_peer(data, model, C, ours)
    print("from zero, going on with each tolerance", flush=True)
    model = peer(warm_start=True)
    for tol in (1e-4, 3e-5, 1e-5):
        model.set_params(tol=tol, max_iter=20_000)
        time_peer(data, model, C, ours)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=("headline", "parts", "warm", "tight"))
    parser.add_argument("--entry", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="of ours, in the headline")
    parser.add_argument("--rows", type=int, help="fewer training rows")
    parser.add_argument("--every", type=int, default=4, help="of the grid, for parts")
    parser.add_argument("--C", type=float, default=GRID[33], help="for tight")
    args = parser.parse_args()
    data = load(args.entry, args.rows)
    print(f"{data.X.shape} rows", flush=True)
    for what in args.what or ("headline",):
        print(what, flush=True)
        if what == "headline":
            headline(data, args.rounds)
        elif what == "warm":
            warm(data)
        elif what == "tight":
            tight(data, args.C)
        else:
            parts(data, args.every)
    print("BLAS:", *sorted({f"{i['filepath'].split('/')[-1]} {i['architecture']}" for i in blas()}))


def blas() -> list[dict[str, Any]]:
    """Return the BLAS libraries that are loaded, with the kernel each has chosen."""
    from threadpoolctl import threadpool_info

    return [one for one in threadpool_info() if one["user_api"] == "blas"]


if __name__ == "__main__":
    main()
