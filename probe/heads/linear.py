"""Heads that are a linear map under a softmax, after hidden layers where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.heads.base import BaseHead, RowsLike
from probe.heads.normalize import blocks

Array = NDArray[np.floating[Any]]


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
        rows = self._checked(X)
        layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in self.layers()]
        *hidden, (coef, intercept) = layers
        logits = np.empty((len(rows), len(coef)))
        for start, block in blocks(rows):
            h = self.normalizer_.apply(block)
            for weight, bias in hidden:
                h = np.maximum(h @ weight.T + bias, 0)
            logits[start : start + len(block)] = h @ coef.T + intercept
        return logits

    def layers(self) -> list[tuple[Array, Array]]:
        """Return (W, b) of all layers, the hidden ones first; a ReLU stands between them."""
        return [*getattr(self, "hidden_", []), (self.coef_, self.intercept_)]

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
        n_hidden, width = (len(arrays) - 2) // 2, self.n_features_in_
        names = [(f"hidden.{n}.weight", f"hidden.{n}.bias") for n in range(n_hidden)]
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
        if width != len(self.classes_):
            raise ValueError(f"coef has {width} rows for {len(self.classes_)} classes")
        *self.hidden_, (self.coef_, self.intercept_) = layers
