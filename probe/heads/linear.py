"""Heads that are a linear map under a softmax, after hidden layers where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.logits import from_scores
from probe.heads.base import BaseHead, RowsLike
from probe.heads.fitted import Array, layered_scores, layers_of
from probe.heads.normalize import Features, blocks


class LinearHead(BaseHead):
    """A softmax over a linear map of normalised features, predicted with NumPy alone.

    With ``h`` the normalised row, each hidden layer gives ``h = max(0, W h + b)``; the scores are
    ``coef_ h + intercept_``.

    Attributes
    ----------
    coef_ : (n_classes, width); intercept_ : (n_classes,)
        The last layer; `width` is that of the features, or of the last hidden layer.
    hidden_ : list of (W, b) : (width out, width in), (width out,)
        ReLU layers in front of it, first to last; empty where the head is linear.
    classes_, normalizer_, history_ :
        See BaseHead.
    """

    coef_: Array
    intercept_: Array
    hidden_: list[tuple[Array, Array]]

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        return layered_scores(self._checked(X), self.normalizer_, self.layers())

    def layers(self) -> list[tuple[Array, Array]]:
        """Return (W, b) of all layers, the hidden ones first; a ReLU stands between them."""
        return [*getattr(self, "hidden_", []), (self.coef_, self.intercept_)]

    @classmethod
    def predict_many(cls, heads: Sequence[Self], X: Features) -> NDArray[Any]:
        """Return probabilities, see `BaseHead.predict_many`; one product scores linear heads.

        Heads that were fitted on the same rows share a normaliser.
        """
        if any(len(head.layers()) > 1 for head in heads):
            return super().predict_many(heads, X)
        weights = np.concatenate([head.coef_ for head in heads]).T.astype(np.float32)
        biases = np.concatenate([head.intercept_ for head in heads]).astype(np.float32)
        scores = np.empty((len(X), weights.shape[1]), np.float32)
        for start, block in blocks(X):
            rows = heads[0].normalizer_.apply(block).astype(np.float32)
            scores[start : start + len(block)] = rows @ weights + biases
        return from_scores(scores.reshape(len(X), len(heads), -1), heads[0].multilabel_)

    def arrays(self) -> dict[str, Array]:
        """Return the last layer as coef and intercept, hidden ones as hidden.N.weight and .bias."""
        found = {"coef": self.coef_, "intercept": self.intercept_}
        for number, (weight, bias) in enumerate(self.layers()[:-1]):
            found |= {f"hidden.{number}.weight": weight, f"hidden.{number}.bias": bias}
        return found

    def set_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Take what `arrays` gave.

        Raises
        ------
        ValueError
            Shapes contradict each other, or a name is unknown.
        """
        layers = layers_of(arrays, self.n_features_in_, len(self.classes_))
        *self.hidden_, (self.coef_, self.intercept_) = layers


def constant_score(yes: int, n_rows: int) -> float:
    """Return the score of a class that all training rows have, or none: no row tells more.

    Half a row is added to either side, so that the score is finite (Haldane's correction).
    """
    return float(np.log((yes + 0.5) / (n_rows - yes + 0.5)))
