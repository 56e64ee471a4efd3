"""L-BFGS on one smooth convex problem, as a state that asks for a point and is told its value.

That turns the loop inside out: many problems ask, one product answers them all.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from probe.heads.limits import L_BFGS_PAIRS

ARMIJO = 1e-4  # of the decrease that the slope promises
SHORTEST = 1e-8  # a step below it: the value is flat to rounding

Vector = NDArray[np.float64]


class Lbfgs:
    """One minimisation.

    The caller evaluates `trial`, and tells the value and the gradient there.

    Parameters
    ----------
    start : float64, (n,)
    tolerance : float
        Done when half the squared gradient norm is at most this part of the value. In coordinates
        where the Hessian is near the identity that is how far the value is above the minimum.
    max_iter : int
        Values asked for at most.
    pairs : int
        Of steps and gradient changes that are remembered.

    Attributes
    ----------
    trial, point : float64, (n,)
        Where a value is wanted; the best point so far.
    done, converged : bool
    n_iter : int
        Values told.

    References
    ----------
    Nocedal, Wright, "Numerical Optimization", 2nd edition, algorithms 7.4 and 3.1.
    """

    def __init__(
        self, start: Vector, *, tolerance: float, max_iter: int, pairs: int = L_BFGS_PAIRS
    ) -> None:
        self.trial = self.point = start
        self.value, self.n_iter = np.inf, 0
        self.done = self.converged = False
        self._tolerance, self._max_iter = tolerance, max_iter
        self._pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=pairs)
        self._gradient = self._direction = np.zeros_like(start)
        self._step, self._slope = 1.0, 0.0

    def tell(self, value: float, gradient: Vector) -> None:
        """Take the value and the gradient at `trial`; move `trial` on, or be done."""
        self.n_iter += 1
        enough = self.value + ARMIJO * self._step * self._slope
        if np.isfinite(value) and (self.n_iter == 1 or value <= enough):
            self._accept(value, gradient)
        else:
            self._shorten(value)
        self.done = self.done or self.n_iter >= self._max_iter

    def _accept(self, value: float, gradient: Vector) -> None:
        step, change = self.trial - self.point, gradient - self._gradient
        curvature = float(step @ change)
        if self.n_iter > 1 and curvature > 1e-12 * float(change @ change):
            self._pairs.append((step, change, curvature))
        self.point, self.value, self._gradient = self.trial, value, gradient
        if 0.5 * float(gradient @ gradient) <= self._tolerance * value:
            self.done = self.converged = True
            return
        self._direction = self._descent(gradient)
        self._slope = float(self._direction @ gradient)
        self._step = 1.0
        self.trial = self.point + self._direction

    def _shorten(self, value: float) -> None:
        """Go back to where the parabola through value, slope and the trial has its minimum."""
        best = 0.1
        if np.isfinite(value):
            bend = value - self.value - self._step * self._slope
            best = -0.5 * self._step * self._slope / bend if bend > 0 else 0.5
        self._step *= min(0.5, max(0.1, best))
        if self._step < SHORTEST:
            self.done = True
        self.trial = self.point + self._step * self._direction

    def _descent(self, gradient: Vector) -> Vector:
        """Return the two-loop recursion's step: minus the inverse Hessian times the gradient."""
        direction, weights = -gradient, []
        for step, change, curvature in reversed(self._pairs):
            weight = float(step @ direction) / curvature
            direction = direction - weight * change
            weights.append(weight)
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            direction = direction * (curvature / float(change @ change))
        for (step, change, curvature), weight in zip(self._pairs, reversed(weights), strict=True):
            direction = direction + (weight - float(change @ direction) / curvature) * step
        return direction
