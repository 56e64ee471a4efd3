"""What all heads share: scikit-learn's rules, checked input, and labels from scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.core.text import shown
from probe.errors import HeadError, OverflowHeadError
from probe.evaluation.parts import Part
from probe.evaluation.streaming import StreamedRows
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL, Task
from probe.heads.catalog import names_that
from probe.heads.checks import as_head_error, checked_weights, encoded, one_of
from probe.heads.fitted import Array, layered_scores, layers_of
from probe.heads.history import Epoch
from probe.heads.normalize import (
    NORMALIZATIONS,
    Features,
    Normalization,
    Normalizer,
    blocks,
    check_finite,
    fit_normalizer,
)
from probe.heads.spec import HeadSpec
from probe.schedulers import one_thread_each

log = logging.getLogger(__name__)

KEPT_DTYPES = [np.float32, np.float64, np.float16]  # anything else becomes float32

RowsLike = ArrayLike | StreamedRows
Validation = tuple[RowsLike, ArrayLike]
OnEpoch = Callable[[Epoch], None]
Head = TypeVar("Head", bound="BaseHead")


class BaseHead(HeadSpec, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped base classes
    """A classifier on rows of features.

    Where a row may have several labels, y is scikit-learn's indicator matrix, (n_rows, n_classes)
    of 0 and 1, `predict` gives one, and the probabilities of a row are independent.

    Attributes
    ----------
    classes_ : (n_classes,)
        The labels seen in training, sorted; with an indicator matrix its column numbers.
    task_ : Task
        What it was fitted for: one label a row, or several where y was an indicator matrix.
    normalizer_ : Normalizer
        Learnt from the training rows.
    history_ : list of Epoch
        Empty for solvers that know no epochs.
    diverged_ : bool
        Its loss ended above that of guessing: the head is of no use, and is never chosen.
    """

    normalize: Normalization
    classes_: NDArray[Any]
    task_: Task = SINGLE_LABEL  # until a fit says otherwise
    diverged_: bool = False  # likewise
    normalizer_: Normalizer
    history_: list[Epoch]
    n_features_in_: int

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Fit the head; every subclass takes these arguments.

        Those that `takes_weights` take `sample_weight`, too: float, (n_rows,), what each row
        counts, from 0; 2 is a row that is there twice.

        Parameters
        ----------
        X : float, (n_rows, n_features); y : labels, (n_rows,) or (n_rows, n_classes)
            X may be StreamedRows, which are read a block at a time.
        validation : pair of such arrays, optional
            Measured after each epoch, never learnt from.
        on_epoch : callable, optional
            Called with an Epoch after each one.

        Raises
        ------
        HeadError
            NaN, infinity, shapes that do not fit together, also of validation rows; fewer than two
            classes.
        """
        raise NotImplementedError

    def check_params(self) -> None:
        """Check the parameters, not in `__init__` as scikit-learn wants it; `fit` does so first.

        Raises
        ------
        HeadError
            One of them makes no sense, or two contradict each other.
        """
        one_of("normalize", self.normalize, NORMALIZATIONS)

    def decision_function(self, X: RowsLike) -> NDArray[np.float64]:
        """Return the scores before the softmax, or before the sigmoid.

        Returns
        -------
        float64, (n_rows, n_classes)
            With two classes (n_rows,): the second one's score minus the first one's, as
            scikit-learn has it. Not so where a row may have several labels.
        """
        logits = self._logits(X)
        if self.task_.is_binary(logits.shape[1]):
            return logits[:, 1] - logits[:, 0]
        return logits

    def predict_proba(self, X: RowsLike) -> NDArray[np.float64]:
        """Return the probability of each class, float64, (n_rows, n_classes).

        Rows sum to 1, unless a row may have several labels.
        """
        p: NDArray[np.float64] = self.task_.probabilities(self._logits(X))
        return p

    def predict_log_proba(self, X: RowsLike) -> NDArray[np.float64]:
        """Return the logarithm of each class's probability, float64, (n_rows, n_classes).

        It is computed from the scores, so that it is finite where the probability underflows to 0.
        """
        return self.task_.log_probabilities(self.predict_logits(X))

    def predict_logits(self, X: RowsLike) -> NDArray[np.float64]:
        """Return log-probabilities, float64, (n_rows, n_classes), or log odds of several labels.

        What a temperature divides, and what figures that rank go by.
        """
        return self.task_.logits(self._logits(X))

    def predict(self, X: RowsLike) -> NDArray[Any]:
        """Return the most probable class of each row, the first of equals.

        Where a row may have several labels: 1 for those with a probability above 0.5, else 0.
        """
        return self.task_.decide(self._logits(X), self.classes_)

    def fit_candidates(
        self,
        X: RowsLike,
        y: ArrayLike,
        candidates: Sequence[Mapping[str, Any]],
        *,
        validation: Validation | None = None,
        jobs: int = 1,
        sample_weight: ArrayLike | None = None,
    ) -> list[Self | None]:
        """Return a fitted copy for each set of parameters; this head stays unfitted.

        Where they differ in `together` alone, they are fitted at once.

        Parameters
        ----------
        candidates : sequence of mapping
            Parameters to set; the others stay as they are.
        validation : pair of arrays, optional
            For heads that stop by it.
        jobs : int
            Fits at a time, each with one thread, where candidates are fitted one by one.
        sample_weight : float, (n_rows,), optional
            As in `fit`; refused by heads that do not take it.

        Returns
        -------
        list of fitted heads
            None where a candidate's fit diverged.
        """
        if self.together is not None and all(set(one) == {self.together} for one in candidates):
            values = [one[self.together] for one in candidates]
            return self.fit_grid(X, y, values, sample_weight=sample_weight)
        heads = [clone(self).set_params(**one) for one in candidates]
        return fit_each(heads, X, y, validation=validation, jobs=jobs, sample_weight=sample_weight)

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        values: Sequence[float],
        /,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[Any]:
        """Return a fitted copy for each value of the parameter that the solver has a grid of."""
        raise NotImplementedError

    def refuse_weights(self, sample_weight: ArrayLike | None) -> None:
        """Raise HeadError where weights are given: this head counts all rows alike."""
        if sample_weight is not None:
            raise HeadError(
                f"{type(self).__name__} counts all rows alike and takes no sample_weight; "
                f"{names_that('takes_weights')} take it"
            )

    def fit_folds(
        self,
        train: Part,
        folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
        candidates: Sequence[Mapping[str, Any]],
    ) -> list[list[Self | None]] | None:
        """Fit every candidate without each fold in turn; None where folds share no work."""
        del train, folds, candidates
        return None

    def units(self) -> tuple[int, ...]:
        """Return the units of hidden layers; none where a head has no such layers."""
        return ()

    @classmethod
    def predict_many(cls, heads: Sequence[Self], X: Features) -> NDArray[Any]:
        """Return probabilities of heads that were fitted on the same rows.

        Returns
        -------
        float, (n_rows, n_heads, n_classes)
        """
        return np.stack([head.predict_proba(X) for head in heads], axis=1)

    @property
    def watches(self) -> str:
        """The option by which a fit depends on its validation rows; empty where it does not."""
        return ""

    def after_fit(self) -> list[str]:
        """Return what should be said of a fit that has ended: what would make it better."""
        return []

    def for_draw(self, seed: int) -> Self:
        """Return an unfitted copy for rows that are drawn anew, without validation rows."""
        fresh: Self = clone(self)
        if self.seeded:
            fresh.set_params(random_state=seed)
        return fresh

    def for_refit(self) -> Self:
        """Return an unfitted copy for more rows of the same kind, without validation rows."""
        fresh: Self = clone(self)
        return fresh

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learnt, by name, besides classes and normaliser; floats."""
        raise NotImplementedError

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave; classes and normaliser are there already.

        Raises
        ------
        ValueError
            They contradict each other.
        """
        raise NotImplementedError

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled, by version 0.1.0 with a flag in place of the task."""
        if state.pop("multilabel_", False):
            state["task_"] = MULTI_LABEL
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.takes_several
        return tags

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        raise NotImplementedError

    def _checked(self, X: RowsLike) -> Features:
        """Check rows to predict, or to validate on, against those of the fit."""
        check_is_fitted(self)
        if isinstance(X, StreamedRows):
            if X.shape[1] != self.n_features_in_:
                raise HeadError(f"{X.shape[1]} features, fitted on {self.n_features_in_}")
            return X
        rows: Features = as_head_error(
            validate_data, self, X, reset=False, dtype=KEPT_DTYPES, ensure_all_finite=False
        )
        return rows

    def _prepare(
        self,
        X: RowsLike,
        y: ArrayLike,
        validation: Validation | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[Features, NDArray[np.intp], NDArray[np.float64] | None]:
        """Check what `fit` got; set `classes_` and `normalizer_`; return X, labels and weights.

        Labels are indices of classes, or indicators, (n_rows, n_classes), where a row may have
        several.
        Solvers without epochs have no use for validation rows; that they fit is checked all the
        same, so that a mistake shows with every solver.
        """
        self.check_params()
        rows, labels = self._training_rows(X, y)
        if validation is not None:
            self._validation_rows(validation)
        weights = checked_weights(sample_weight, labels, self.classes_)
        self.normalizer_ = fit_normalizer(self.normalize, rows, weights)
        self.history_ = []
        return rows, labels, weights

    def _training_rows(self, X: RowsLike, y: ArrayLike) -> tuple[Features, NDArray[np.intp]]:
        """Check what `fit` got; set `classes_` and return X and the labels as their indices."""
        shape = as_head_error(np.asarray, y).shape
        several = len(shape) == 2 and shape[1] > 1  # a single column is one label a row, too
        self.task_ = MULTI_LABEL if several else SINGLE_LABEL
        if isinstance(X, StreamedRows):
            rows, labels = X, np.asarray(y)
            if len(labels) != len(rows) or not (labels.ndim == 1 or several):
                raise HeadError(f"{len(rows)} rows but labels of shape {labels.shape}")
            self.n_features_in_ = rows.shape[1]
        else:
            rows, labels = as_head_error(
                validate_data, self, X, y,
                dtype=KEPT_DTYPES, ensure_all_finite=False, multi_output=several,
            )  # fmt: skip
        as_head_error(check_classification_targets, labels)
        if several:
            return rows, self._indicators(labels)
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(
                f"all {len(rows)} training rows are of one class, {shown(self.classes_[0])}; "
                "a head needs at least 2 classes to tell apart"
            )
        return rows, encoded.astype(np.intp)

    def _indicators(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        """Check a matrix of 0 and 1; set `classes_`, and return it as whole numbers."""
        if not np.isin(labels, (0, 1)).all():
            raise HeadError("labels of several classes a row must be a matrix of 0 and 1")
        if not self.takes_several:
            raise HeadError(
                f"{type(self).__name__} knows one label a row, and these rows may have several; "
                f"{names_that('takes_several')} take them"
            )
        self.classes_ = np.arange(labels.shape[1])
        return labels.astype(np.intp)

    def _validation_rows(self, validation: Validation) -> tuple[Features, NDArray[np.intp]]:
        """Check the validation rows and return them with their labels, see `encode`."""
        rows = self._checked(validation[0])
        check_finite(rows)
        return rows, self.encode(validation[1], len(rows))

    def encode(self, y: ArrayLike, n_rows: int) -> NDArray[np.intp]:
        """Return labels of rows that were not trained on as indices of `classes_`.

        Parameters
        ----------
        y : labels, (n_rows,) or (n_rows, n_classes)
        n_rows : int

        Returns
        -------
        intp, of y's shape
            -1, always wrong, for a class that training lacks.

        Raises
        ------
        HeadError
            Another number of labels, or labels of another kind than those of the fit.
        """
        labels = as_head_error(np.asarray, y)
        return encoded(labels, self.classes_, n_rows, self.task_)


def fit_each(
    heads: Sequence[Head],
    X: RowsLike,
    y: ArrayLike,
    *,
    validation: Validation | None = None,
    jobs: int = 1,
    sample_weight: ArrayLike | None = None,
) -> list[Head | None]:
    """Fit heads, so many at a time, each with one thread; None for those that diverged.

    See `BaseHead.fit` for `sample_weight`.
    """
    for head in heads:
        if not head.takes_weights:
            head.refuse_weights(sample_weight)
    if jobs == 1 or len(heads) == 1:
        return [_fit_or_none(head, X, y, validation, sample_weight) for head in heads]
    from joblib import Parallel, delayed

    with one_thread_each():
        fitted: list[Head | None] = Parallel(min(jobs, len(heads)))(
            delayed(_fit_or_none)(head, X, y, validation, sample_weight) for head in heads
        )
    return fitted


def _fit_or_none(
    head: Head,
    X: RowsLike,
    y: ArrayLike,
    validation: Validation | None,
    sample_weight: ArrayLike | None,
) -> Head | None:
    try:
        counted = {} if sample_weight is None else {"sample_weight": sample_weight}
        fitted = cast("Any", head).fit(X, y, validation=validation, **counted)
    except OverflowHeadError as error:
        log.warning("left out: %s", error)
        return None
    return None if fitted.diverged_ else cast("Head", fitted)


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
        p: NDArray[Any] = heads[0].task_.probabilities(scores.reshape(len(X), len(heads), -1))
        return p

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
