"""What the linear heads share: checked input, and predictions from `coef_` with NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.errors import HeadError
from probe.heads.normalize import Features, Normalizer, blocks

KEPT_DTYPES = [np.float32, np.float64, np.float16]  # anything else becomes float32


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training rows, measured with the parameters at its end.

    Parameters
    ----------
    epoch : int
        From 1.
    train_loss, val_loss : float or None
        Mean cross-entropy in nats, without the penalty; None where there is no validation.
    train_top1, val_top1 : float or None
        Fraction of rows whose label has the highest score.
    seconds : float
        Wall time of this epoch, the measuring included.
    """

    epoch: int
    train_loss: float
    train_top1: float
    val_loss: float | None = None
    val_top1: float | None = None
    seconds: float = field(default=0.0, compare=False)  # the same run twice is the same history


Validation = tuple[ArrayLike, ArrayLike]
OnEpoch = Callable[[Epoch], None]


class LinearHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped base classes
    """A softmax over a linear map of normalised features.

    Attributes
    ----------
    classes_ : (n_classes,)
        The labels seen in training, sorted.
    coef_ : (n_classes, n_features); intercept_ : (n_classes,)
        They apply to normalised features.
    normalizer_ : Normalizer
        Learnt from the training rows.
    history_ : list of Epoch
        Empty for solvers that know no epochs.
    """

    classes_: NDArray[Any]
    coef_: NDArray[np.floating[Any]]
    intercept_: NDArray[np.floating[Any]]
    normalizer_: Normalizer
    history_: list[Epoch]
    n_features_in_: int

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Fit the head; every subclass takes the same arguments.

        Parameters
        ----------
        X : float, (n_rows, n_features); y : labels, (n_rows,)
        validation : pair of such arrays, optional
            Measured after each epoch, never learnt from.
        on_epoch : callable, optional
            Called with an Epoch after each one.

        Raises
        ------
        HeadError
            NaN, infinity, shapes that do not fit together, fewer than two classes.
        """
        raise NotImplementedError

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the scores before the softmax.

        Returns
        -------
        float64, (n_rows, n_classes)
            With two classes (n_rows,): the second one's score minus the first one's, as
            scikit-learn has it.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, float64, (n_rows, n_classes); rows sum to 1."""
        logits = self._logits(X)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each row; the first of equals."""
        winners = self._logits(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[winners]
        return labels

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        rows = self._checked(X)
        coef, intercept = self.coef_.astype(np.float64), self.intercept_.astype(np.float64)
        logits = np.empty((len(rows), len(coef)))
        for start, block in blocks(rows):
            logits[start : start + len(block)] = self.normalizer_.apply(block) @ coef.T + intercept
        return logits

    def _checked(self, X: ArrayLike) -> Features:
        """Check rows to predict, or to validate on, against those of the fit."""
        rows: Features = _as_head_error(
            validate_data, self, X, reset=False, dtype=KEPT_DTYPES, ensure_all_finite=False
        )
        return rows

    def _training_rows(self, X: ArrayLike, y: ArrayLike) -> tuple[Features, NDArray[np.intp]]:
        """Check what `fit` got; set `classes_` and return X and the labels as their indices."""
        rows, labels = _as_head_error(
            validate_data, self, X, y, dtype=KEPT_DTYPES, ensure_all_finite=False
        )
        _as_head_error(check_classification_targets, labels)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(
                f"all {len(rows)} training rows are of one class, {self.classes_[0]!r}; "
                "a head needs at least 2 classes to tell apart"
            )
        return rows, encoded.astype(np.intp)

    def _validation_rows(self, validation: Validation) -> tuple[Features, NDArray[np.intp]]:
        """Check the validation rows; a class that training lacks becomes -1, always wrong."""
        rows, labels = self._checked(validation[0]), np.asarray(validation[1])
        if labels.shape != (len(rows),):
            raise HeadError(f"validation: {len(rows)} rows but labels of shape {labels.shape}")
        found = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        return rows, np.where(self.classes_[found] == labels, found, -1).astype(np.intp)


def _as_head_error(check: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run one of scikit-learn's checks; its ValueError becomes a HeadError of one line."""
    try:
        return check(*args, **options)
    except ValueError as error:
        raise HeadError(" ".join(str(error).split())) from error


def require(condition: bool, name: str, value: object, wanted: str) -> None:
    """Raise HeadError unless a parameter is what it should be."""
    if not condition:
        raise HeadError(f"{name} must be {wanted}, not {value!r}")


def one_of(name: str, value: object, names: Sequence[str]) -> None:
    """Raise HeadError unless a parameter is one of the names."""
    require(value in names, name, value, f"one of {', '.join(names)}")
