"""The last descent of a logistic regression in float64, where float32 stops short of the minimum.

Rows are float32 for the solvers, and so are path's products. That is enough for features of like
size around zero, as normalised ones are. With an offset, or columns of very different size, the
gradient drowns in rounding far above the minimum.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.many import are_many
from probe.heads.normalize import Features, Normalizer, blocks

SPREAD = 30.0  # offset of a column in its deviations, or deviations of two: beyond, float64
MOST_BYTES = 1 << 30  # of the rows in float64
log = logging.getLogger(__name__)

ROUNDS = 3000
NOTABLE = 1e-3  # of the objective: a gap that is told

Array64 = NDArray[np.float64]


def is_uneven(X: Features, normalizer: Normalizer) -> bool:
    """Return whether float32 is too little for rows after the normaliser."""
    if normalizer.kind == "standard":
        return False
    total, squares = np.zeros((2, X.shape[1]))
    first: Array64 | None = None
    for _, block in blocks(X):
        rows = normalizer.apply(block)
        first = rows[0].copy() if first is None else first
        rows -= first
        total += rows.sum(axis=0)
        squares += np.einsum("nd,nd->d", rows, rows)
    assert first is not None
    mean = total / len(X)
    deviation = np.sqrt(np.maximum(squares / len(X) - mean**2, 0))
    varying = deviation > 1e-12 * max(float(deviation.max()), 1e-300)
    if not varying.any():
        return False
    deviation, offset = deviation[varying], np.abs(mean + first)[varying]
    return bool(deviation.max() > SPREAD * deviation.min() or (offset > SPREAD * deviation).any())


def polish_for(
    X: Features, normalizer: Normalizer, solver: str, n_classes: int = 2
) -> Polish | None:
    """Return what brings heads on these rows to their minimum; None where float32 does.

    None also, with a warning, where the rows do not fit in memory once more, in float64, or there
    are too many classes for the scores of all rows.
    """
    if not is_uneven(X, normalizer):
        return None
    large = not isinstance(X, np.ndarray) or 8 * X.size > MOST_BYTES
    if large or are_many(len(X), n_classes):
        log.warning(
            "%s: columns differ in size, or lie far from zero, by more than %g times: the fit may "
            "end above its minimum; use --normalize standard", solver, SPREAD,
        )  # fmt: skip
        return None
    assert isinstance(X, np.ndarray)
    return Polish(X, normalizer)


def warn_of_gaps(
    solver: str, C: Array64, objective: Array64, gaps: Array64,
    way_out: str = "use --normalize standard",
) -> None:  # fmt: skip
    """Say in one line where heads may be further above their minimum than anybody would accept."""
    far = np.flatnonzero(gaps > NOTABLE * objective)
    if len(far):
        worst = far[np.argmax(gaps[far] / objective[far])]
        log.warning(
            "%s: %d of %d fits may end above the minimum, that with C=%g by up to %.2g %%; "
            "%s", solver, len(far), len(C), C[worst],
            100 * gaps[worst] / objective[worst], way_out,
        )  # fmt: skip


class Polish:
    """Rows in float64, centred, on which heads are brought to their minimum.

    Parameters
    ----------
    X : float, (n_rows, n_features); normalizer : Normalizer
    """

    def __init__(self, X: NDArray[Any], normalizer: Normalizer) -> None:
        rows = np.concatenate([normalizer.apply(block) for _, block in blocks(X)])
        self._mean = rows.mean(axis=0)
        self._rows = rows - self._mean
        self._variance = np.einsum("nd,nd->d", self._rows, self._rows) / len(rows)

    def descend(
        self,
        coef: Array64,
        intercept: Array64,
        y: NDArray[np.intp],
        C: float,
        weights: Array64 | None = None,
    ) -> tuple[Array64, Array64, float, float]:
        """Return the minimum of ``mean cross-entropy + |coef|^2 / (2 C n_rows)``.

        Parameters
        ----------
        coef : float64, (K, D); intercept : float64, (K,)
            Where to start; of the rows as they are, not centred.
        y : int, (n_rows,)
            0 to K - 1.
        C : float
        weights : float64, (n_rows,), optional
            What each row's cross-entropy counts.

        Returns
        -------
        coef, intercept : float64
        objective : float
            There.
        gap : float
            How far, by the gradient, that is above the minimum at the most: see `gap_of`.

        References
        ----------
        Nocedal, Wright, "Numerical Optimization", 2nd edition, 7.2: L-BFGS; 5.1: the scaling by
        the Hessian's diagonal.
        """
        from scipy.optimize import minimize

        rows, penalty = self._rows, 1 / (C * len(y))
        n, width = rows.shape
        classes = len(coef)
        scale = np.concatenate([1 / np.sqrt(self._variance / classes + penalty), [1.0]])
        indices = np.arange(n)

        def loss(flat: Array64) -> tuple[float, Array64]:
            heads = flat.reshape(classes, width + 1) * scale
            scores = rows @ heads[:, :-1].T + heads[:, -1]
            scores -= scores.max(axis=1, keepdims=True)
            own = scores[indices, y].copy()
            np.exp(scores, out=scores)
            sums = scores.sum(axis=1)
            losses = np.log(sums) - own
            scores /= sums[:, None]
            scores[indices, y] -= 1
            if weights is not None:
                losses *= weights
                scores *= weights[:, None]
            value = float(losses.mean())
            gradient = np.empty((classes, width + 1))
            gradient[:, :-1] = scores.T @ rows / n + penalty * heads[:, :-1]
            gradient[:, -1] = scores.mean(axis=0)
            value += 0.5 * penalty * float(np.einsum("kd,kd->", heads[:, :-1], heads[:, :-1]))
            return value, (gradient * scale).ravel()

        start = np.column_stack([coef, intercept + coef @ self._mean]) / scale
        zero = np.zeros_like(start)
        first = min((start, zero), key=lambda one: loss(one.ravel())[0])
        options = {
            "maxiter": ROUNDS,
            "maxfun": 2 * ROUNDS,
            "ftol": 1e-15,
            "gtol": 1e-9,
            "maxcor": 30,
        }
        found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options=options)
        value, gradient = loss(found.x)
        heads = found.x.reshape(classes, width + 1) * scale
        heads -= heads.mean(axis=0)
        gap = gap_of(gradient.reshape(classes, -1)[:, :-1] / scale[:-1], penalty)
        return heads[:, :-1], heads[:, -1] - heads[:, :-1] @ self._mean, value, gap


def gap_of(gradient: Array64, penalty: float) -> float:
    """Return how far an objective is above its minimum at the most, for its gradient there.

    The penalty makes it strongly convex: ``|gradient|^2 / (2 penalty)``, the biases, which are not
    penalised, being at their own minimum.

    References
    ----------
    Boyd, Vandenberghe, "Convex Optimization", 2004, 9.1.2.
    """
    return float(np.einsum("kd,kd->", gradient, gradient)) / (2 * penalty)
