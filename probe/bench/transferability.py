"""Transferability scores of features. Each takes training rows; more is better.

References stand with each function. They are cheap, and often wrong: `probe bench` says how well
each ranked the backbones on the dataset at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.nearest import leave_out_itself, nearest
from probe.errors import UsageError
from probe.evaluation.task import task_of

Features = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Array64 = NDArray[np.float64]

BEYOND, GRID = 16.0, 2  # LogME: logarithms beyond the singular values, and points in one of them
NEIGHBOURS = 5
BLOCK = 1024  # rows of similarities at a time
EXACT = 1e-9  # of an indicator's squared length: less outside the features' span is rounding
SINGULAR = 1e-12  # of a covariance's largest direction: less is none


def logme(X: Features, y: Labels) -> float:
    """Return the log of the maximum evidence a row, averaged over the classes' indicators.

    Each class's indicator is modelled as a Bayesian linear regression on the features, without a
    bias; alpha (of the weights) and beta (of the noise) are those that make it most likely, found
    over all ratios of the two, since the paper's fixed point can end at a lower maximum.

    The evidence has no maximum where the features reproduce an indicator without an error and span
    fewer dimensions than there are rows, as with a column that is the label, or with copied rows
    among fewer rows than features: it grows without bound as the noise goes to 0. Then it is inf.

    Parameters
    ----------
    X : float, (n_rows, n_features)
    y : int, (n_rows,), or 0 and 1, (n_rows, n_classes)
        Of several labels a row each one's column is an indicator; one that never changes is none.

    Returns
    -------
    float
        Finite, or inf.

    References
    ----------
    You et al., "LogME: practical assessment of pre-trained models for transfer learning", ICML
    2021, arXiv:2102.11005, algorithm 1; You et al., arXiv:2110.10545: its fixed point converges.
    """
    told = task_of(y).indicators(y)
    if not len(told):
        raise UsageError(
            "one class alone, or the same labels everywhere, leave nothing to tell apart"
        )
    squares, basis = _spectrum(X, np.zeros(X.shape[1]))
    evidences = []
    for one in told:
        target = one.astype(np.float64)
        z2 = (basis.T @ _product(X, target)) ** 2 / squares  # of the left singular coordinates z
        evidences.append(_evidence(z2, squares, float(target.sum()), len(X)))
    return float(np.mean(evidences))


def _spectrum(X: Features, centre: Array64) -> tuple[Array64, Array64]:
    """Return what spans the rows less a centre: squared singular values, right vectors.

    Those that are 0 are left out: (rank,), (d, rank).
    """
    width = X.shape[1]
    if len(X) < width:  # the products of few rows are a far smaller matrix than those of columns
        rows = np.asarray(X[:], np.float64) - centre
        squares, left = np.linalg.eigh(rows @ rows.T)
        there = squares > squares[-1] * width * np.finfo(np.float64).eps
        return squares[there], rows.T @ (left[:, there] / np.sqrt(squares[there]))
    squares, basis = np.linalg.eigh(_moments(X, centre)[0])
    there = squares > squares[-1] * width * np.finfo(np.float64).eps
    return squares[there], basis[:, there]


def _moments(X: Features, centre: Array64) -> tuple[Array64, float]:
    """Return the sum of the outer products of rows less a centre, (d, d), and of |row|^4."""
    from scipy.linalg.blas import dsyrk  # NumPy's own BLAS may be five times slower

    upper, fourth = np.zeros((X.shape[1], X.shape[1])), 0.0
    for start in range(0, len(X), BLOCK * 4):
        block = np.ascontiguousarray(X[start : start + BLOCK * 4] - centre, np.float64)
        upper += dsyrk(1.0, block.T)
        fourth += float(((block**2).sum(axis=1) ** 2).sum())
    return upper + np.triu(upper, 1).T, fourth


def _product(X: Features, target: Array64) -> Array64:
    rows = np.flatnonzero(target)
    summed: Array64 = np.asarray(X[rows], np.float64).sum(axis=0)
    return summed


def _evidence(z2: Array64, squares: Array64, y2: float, n: int) -> float:
    """Return the maximum log evidence a row of one indicator; `y2` is its squared length.

    For a ratio of alpha to beta the best beta is known, so one number is left to be found: on a
    grid, for there may be several maxima, and then between the neighbours of the grid's best.
    """
    from scipy.optimize import minimize_scalar

    outside, width = max(y2 - float(z2.sum()), 0.0), len(squares)
    if width < n and outside <= EXACT * y2:
        return np.inf

    def loss(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        residual = outside + float((z2 * (ratio / (squares + ratio))).sum())
        log_det = float(np.log1p(squares / ratio).sum())
        return n * float(np.log(2 * np.pi * residual / n)) + n + log_det

    if not width:  # nothing but noise
        return -loss(0.0) / (2 * n)
    low, high = np.log(squares.min()) - BEYOND, np.log(squares.max()) + BEYOND
    grid = np.linspace(low, high, max(2, int(GRID * (high - low))))
    losses = [loss(one) for one in grid]
    best = int(np.argmin(losses))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    return -min(float(found.fun), losses[best]) / (2 * n)


def h_score(X: Features, y: Labels, *, shrink: bool = False) -> float:
    """Return tr(cov(f)^-1 cov(E[f|y])): variance between classes in units of all variance.

    Parameters
    ----------
    X : float, (n_rows, n_features)
    y : int, (n_rows,)
    shrink : bool
        Ledoit and Wolf's shrunk covariance: with few rows a feature the plain one is noise. Both
        covariances shrink, as Ibrahim et al. do it.

    Returns
    -------
    float
        0 to n_classes - 1.

    References
    ----------
    Bao et al., "An information-theoretic approach to transferability in task transfer learning",
    ICIP 2019. Ibrahim, Ponomareva, Mazumder, "Newer is not always better", arXiv:2110.06893.
    """
    classes = _classes(y)
    mean = np.asarray(X.mean(axis=0, dtype=np.float64))
    n_rows = len(X)
    counts = np.array([np.sum(y == label) for label in classes])
    means = np.stack([np.asarray(X[y == c].mean(axis=0, dtype=np.float64)) for c in classes])
    between = (means - mean) * np.sqrt(counts / n_rows)[:, None]  # (n_classes, d)
    if not shrink and n_rows <= X.shape[1]:  # no inverse, and the pseudoinverse is of few vectors
        squares, basis = _spectrum(X, mean)
        there = squares > SINGULAR * squares.max(initial=0)
        along = (basis[:, there].T @ between.T) ** 2  # (rank, n_classes)
        return float(np.sum(along / (squares[there, None] / n_rows)))
    covariance, fourth = _moments(X, mean)
    covariance /= n_rows
    if not shrink:
        return float(np.sum(between.T * _solved(covariance, between.T)))
    amount = _ledoit_wolf(covariance, fourth, n_rows)
    scale = np.trace(covariance) / len(covariance)
    shrunk = (1 - amount) * covariance + amount * scale * np.eye(len(covariance))
    return float((1 - amount) * np.sum(between.T * _solved(shrunk, between.T)))


def _solved(covariance: Array64, right: Array64) -> Array64:
    """Return the (pseudo)inverse of a covariance times some columns."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    try:
        factor, lower = cho_factor(covariance)
        pivots = np.diagonal(factor) ** 2
        if pivots.min() > SINGULAR * pivots.max():
            found: Array64 = cho_solve((factor, lower), right)
            return found
    except LinAlgError:
        pass  # fewer rows than features, or one that never moves
    inverse: Array64 = np.linalg.pinv(covariance, rcond=SINGULAR, hermitian=True)
    return inverse @ right


def _ledoit_wolf(covariance: Array64, fourth: float, n: int) -> float:
    """Return how much of the covariance is replaced by a sphere.

    References
    ----------
    Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", J.
    Multivar. Anal. 88, 2004.
    """
    d, square = len(covariance), float(np.sum(covariance**2))
    scale = float(np.trace(covariance)) / d
    distance = square - d * scale**2
    noise = min((fourth / n - square) / n, distance)
    return noise / distance if distance > 0 else 0.0


def nce(source: Labels, y: Labels) -> float:
    """Return minus the entropy of the labels that is left when the source's label is known, nats.

    Parameters
    ----------
    source : int, (n_rows,)
        Classes that the backbone's own classifier sees.

    References
    ----------
    Tran, Nguyen, Hassner, "Transferability and hardness of supervised classification tasks", ICCV
    2019, arXiv:1908.08142.
    """
    _, y_index = np.unique(y, return_inverse=True)
    _, z_index = np.unique(source, return_inverse=True)
    joint = np.zeros((z_index.max() + 1, y_index.max() + 1))
    np.add.at(joint, (z_index, y_index), 1 / len(y))
    given = joint / joint.sum(axis=1, keepdims=True)
    logs = np.log(given, out=np.zeros_like(given), where=given > 0)
    return float((joint * logs).sum())


def leep(probabilities: Features, y: Labels) -> float:
    """Return the mean log likelihood of labels guessed from the source's probabilities alone.

    Parameters
    ----------
    probabilities : float, (n_rows, n_source_classes)
        What the backbone's own classifier says of each row.

    References
    ----------
    Nguyen et al., "LEEP: a new measure to evaluate transferability of learned representations",
    ICML 2020, arXiv:2002.12462.
    """
    classes = _classes(y)
    joint = np.stack([probabilities[y == c].sum(axis=0, dtype=np.float64) for c in classes])
    total = joint.sum(axis=0)
    given = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)  # P(y | z)
    index = np.searchsorted(classes, y)
    own = np.einsum("nz,nz->n", np.asarray(probabilities, np.float64), given[index])
    return float(np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())


def knn_score(
    X: Features,
    y: Labels,
    *,
    k: int = NEIGHBOURS,
    units: NDArray[np.integer[Any]] | None = None,
) -> float:
    """Return how often most of a row's k nearest others have its label, by cosine; ties: nearest.

    Parameters
    ----------
    X : float, (n_rows, n_features)
    y : int, (n_rows,)
    units : int, (n_rows,), optional
        Rows of one number belong together: they are left out together.

    References
    ----------
    Renggli et al., "Which model to transfer? Finding the needle in the growing haystack", CVPR
    2022, arXiv:2010.06402: a nearest-neighbour proxy. Leaving one out is ours.
    """
    classes, index = np.unique(y, return_inverse=True)
    if not 1 <= k < len(X):
        raise UsageError(f"{k} neighbours of {len(X)} rows: give 1 to {len(X) - 1}")
    unit = np.asarray(X, np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)

    def leave_out(part: slice, cosines: NDArray[np.float32]) -> None:
        leave_out_itself(part, cosines)
        if units is not None:
            cosines[units[part, None] == units] = -np.inf

    close, best = nearest(unit, unit, k, leave_out=leave_out)
    # a nearer neighbour's vote weighs a little more: that decides ties and nothing else
    weight = np.where(np.isfinite(close), 1 + (close.astype(np.float64) + 1) / (4 * k), 0)
    votes = np.zeros((len(unit), len(classes)))
    np.add.at(votes, (np.arange(len(unit))[:, None], index[best]), weight)
    return int(np.sum(votes.argmax(axis=1) == index)) / len(unit)


def _classes(y: Labels) -> Labels:
    classes: Labels = np.unique(y)
    if len(classes) < 2:
        raise UsageError("one class alone cannot be told apart from others")
    return classes
