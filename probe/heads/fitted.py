"""What predicting needs of a head: NumPy alone, neither scikit-learn nor MXNet.

A head that is a stack of layers is a few arrays in its file. `LayeredHead` answers from those; the
estimators that fit such heads compute their scores by the same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import HeadError
from probe.evaluation.task import SINGLE_LABEL, Task
from probe.heads.normalize import Features, Normalizer, blocks

Array = NDArray[np.floating[Any]]
Layers = Sequence[tuple[Array, Array]]


class FittedHead(Protocol):
    """A head that can predict; every fitted estimator is one.

    Attributes
    ----------
    classes_ : (n_classes,)
        Labels, sorted.
    n_features_in_ : int
    """

    @property
    def classes_(self) -> NDArray[Any]: ...

    @property
    def n_features_in_(self) -> int: ...

    def predict_proba(self, X: NDArray[Any], /) -> NDArray[np.float64]:
        """Return the probability of each class, float64, (n_rows, n_classes)."""
        ...

    def predict_logits(self, X: NDArray[Any], /) -> NDArray[np.float64]:
        """Return log-probabilities, or log odds of several labels; see `Task.logits`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredHead:
    """A stack of layers on normalised features, as its file has it.

    Parameters
    ----------
    classes_ : (n_classes,)
        Labels, sorted.
    normalizer_ : Normalizer
    stack : sequence of (W, b) : (width out, width in), (width out,)
        First to last; a ReLU stands between two of them.
    task_ : Task
        A row may have several labels.
    """

    __repr__ = short_repr

    classes_: NDArray[Any]
    normalizer_: Normalizer
    stack: Layers
    task_: Task = SINGLE_LABEL

    @property
    def n_features_in_(self) -> int:
        """How many features a row has."""
        return len(self.normalizer_.mean)

    def layers(self) -> Layers:
        """Return (W, b) of all layers, as `LinearHead.layers` does."""
        return self.stack

    def predict_proba(self, X: NDArray[Any], /) -> NDArray[np.float64]:
        """Return the probability of each class, float64, (n_rows, n_classes).

        Rows sum to 1, unless a row may have several labels.

        Raises
        ------
        HeadError
            `X` has another width, or a number is NaN or infinite.
        """
        p: NDArray[np.float64] = self.task_.probabilities(self._scores(X))
        return p

    def predict_logits(self, X: NDArray[Any], /) -> NDArray[np.float64]:
        """Return log-probabilities, or log odds of several labels, float64, (n_rows, n_classes).

        Raises
        ------
        HeadError
            As `predict_proba`.
        """
        return self.task_.logits(self._scores(X))

    def _scores(self, X: NDArray[Any]) -> NDArray[np.float64]:
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise HeadError(f"features of shape {X.shape}, fitted on {self.n_features_in_} a row")
        return layered_scores(X, self.normalizer_, self.stack)


def votes(head: FittedHead) -> int:
    """Return how many heads vote where an ensemble's probabilities are shares of votes, else 0."""
    return len(getattr(head, "members_", ())) if getattr(head, "how", None) == "vote" else 0


def layered_scores(X: Features, normalizer: Normalizer, layers: Layers) -> NDArray[np.float64]:
    """Return the scores of a stack of layers before the softmax, float64, (n_rows, n_classes).

    With ``h`` the normalised row, each layer but the last gives ``h = max(0, W h + b)``.
    """
    doubles = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in layers]
    *hidden, (coef, intercept) = doubles
    scores = np.empty((len(X), len(coef)))
    for start, block in blocks(X):
        h = normalizer.apply(block)
        for weight, bias in hidden:
            h = np.maximum(h @ weight.T + bias, 0)
        scores[start : start + len(block)] = h @ coef.T + intercept
    return scores


def layers_of(arrays: Mapping[str, Array], width: int, n_classes: int) -> list[tuple[Array, Array]]:
    """Return the layers that a head's file holds by name, first to last.

    Parameters
    ----------
    arrays : mapping of name to array
        ``coef`` and ``intercept`` of the last layer, ``hidden.N.weight`` and ``hidden.N.bias``.
    width : int
        Features a row.

    Raises
    ------
    ValueError
        Shapes contradict each other, or a name is unknown.
    """
    names = [(f"hidden.{n}.weight", f"hidden.{n}.bias") for n in range((len(arrays) - 2) // 2)]
    names.append(("coef", "intercept"))
    if set(arrays) != {name for pair in names for name in pair}:
        raise ValueError(f"it holds {', '.join(sorted(arrays))}")
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError("weights are not floats")
    layers = [(arrays[weight], arrays[bias]) for weight, bias in names]
    for (name, _), (weight, bias) in zip(names, layers, strict=True):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise ValueError(f"{name} has the shape {weight.shape} after {width} numbers")
        width = len(weight)
    if width != n_classes:
        raise ValueError(f"coef has {width} rows for {n_classes} classes")
    return layers
