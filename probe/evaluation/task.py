"""The task: whether an image has one label or may have several, and all that follows from it.

Everything that differs between the two is a method or a name of `Task`: how scores become
probabilities, which metric ranks heads, how rows are divided, what an answer is, and the words for
it. It is made once from the labels (`task_of`) and passed on or asked where the difference matters.
Another kind of task, as regression, is one more class in `TASKS`.

N rows, C classes. Labels of one class a row are int, (N,); of several a matrix of 0 and 1, (N, C).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.core.text import shown
from probe.errors import UsageError
from probe.evaluation import logits as maths
from probe.evaluation import many
from probe.evaluation.metrics import UNSEEN_LOSS, Metrics, calibration_error, log_loss, score
from probe.evaluation.multilabel import (
    HALF,
    MultiLabelMetrics,
    average_precisions,
    best_thresholds,
    binary_calibration_error,
    binary_losses,
    bootstrap_map,
    mean_of,
    score_labels,
)
from probe.evaluation.statistics import (
    Units,
    apply_binary_temperature,
    apply_temperature,
    bootstrap_mean,
    fit_binary_temperature,
    fit_temperature,
    share_interval,
)
from probe.evaluation.stratify import (
    check_two_classes,
    exact_shares,
    iterative_folds,
    iterative_split,
    most_folds,
    shuffled_folds,
)

Array = NDArray[Any]
Array64 = NDArray[np.float64]
Array32 = NDArray[np.float32]
Labels = NDArray[np.integer[Any]]
RowNumbers = NDArray[np.intp]
Parts = tuple[RowNumbers, RowNumbers]  # rows to train on, rows that are held out
Bounds = tuple[float, float]


class Task(ABC):
    """What differs between one label and several labels an image.

    Attributes
    ----------
    name, gives : str
        In words: ``single-label`` or ``multi-label``, and what an image is given.
    exclusive : bool
        Classes exclude one another: a row has one label, so that its answer is right or wrong, can
        be confused with another class, and counts for one class alone.
    metric, metric_label : str
        What heads are ranked by, more being better, as records and as screens have it.
    step_metric : str
        What is watched of a training batch: the share of right answers, or of right decisions.
    activation : str
        The activation that turns scores into probabilities: ``softmax`` or ``sigmoid``.
    dtype : numpy dtype
        Of labels on disk.
    columns : str
        What the columns of probabilities are called: ``classes``, or ``labels, several an image``.
    axes : (str, str)
        What a reliability diagram shows along, and up.
    largest : str
        What limits the number of folds, in words.
    needs : str
        What training rows must have for a head to be fitted.
    kept_dtype : numpy dtype
        Of labels beside predictions.
    together : str
        What is said after a number of classes, where a row may have several of them.
    """

    name: ClassVar[str]
    gives: ClassVar[str]
    exclusive: ClassVar[bool]
    metric: ClassVar[str]
    metric_label: ClassVar[str]
    step_metric: ClassVar[str]
    activation: ClassVar[str]
    dtype: ClassVar[type[np.integer[Any]]]
    columns: ClassVar[str]
    axes: ClassVar[tuple[str, str]]
    largest: ClassVar[str]
    needs: ClassVar[str]
    kept_dtype: ClassVar[type[np.integer[Any]]]
    together: ClassVar[str] = ""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return task_by_metric, (self.metric,)  # one object a task, also in another process

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # labels

    @abstractmethod
    def shape(self, n_rows: int, n_classes: int) -> tuple[int, ...]:
        """Return the shape of the labels of so many rows."""

    @abstractmethod
    def pairs(self, labels: Labels) -> tuple[RowNumbers, NDArray[np.int64]]:
        """Return every (row, class) that the labels name, as two vectors, by rows."""

    @abstractmethod
    def n_classes(self, labels: Labels) -> int:
        """Return how many classes the labels can name: one more than the greatest, or C."""

    @abstractmethod
    def present(self, labels: Labels) -> NDArray[np.intp]:
        """Return the numbers of the classes that some row has, ascending."""

    @abstractmethod
    def n_learnt(self, labels: Labels) -> int:
        """Return how many classes are told apart: those that occur, or C."""

    @abstractmethod
    def tables(self, labels: Labels) -> list[NDArray[np.bool_]]:
        """Return which rows have which value, (n_values, N), a table for each decision."""

    @abstractmethod
    def indicators(self, labels: Labels) -> Array:
        """Return which rows have each class that tells rows apart, (n_told, N)."""

    @abstractmethod
    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[Labels, Sequence[str]]:
        """Return which stratum each row is drawn from, (N,), and the names of the strata.

        They are the classes; where a row may have several, all rows are one stratum.
        """

    def is_binary(self, n_classes: int) -> bool:
        """Return whether every row is of one of two classes: a positive and a negative one."""
        return False

    @abstractmethod
    def moved(self, labels: Labels, places: RowNumbers, n_classes: int) -> Labels:
        """Return labels as numbers of other classes: `places[i]` is that of class i."""

    @abstractmethod
    def differ(self, a: Labels, b: Labels) -> NDArray[np.bool_]:
        """Return which rows have other labels in one than in the other, (N,)."""

    @abstractmethod
    def text(self, label: Any, classes: Sequence[str]) -> str:
        """Return the name of a row's class, or the names of its labels: ``cat, dog``."""

    def stored(self, labels: Labels) -> Array:
        """Return labels of the type that files have them in."""
        return labels.astype(self.dtype)

    def has(self, labels: Labels, number: int) -> NDArray[np.bool_]:
        """Return which rows have a class, (N,)."""
        rows, named = self.pairs(labels)
        found = np.zeros(len(labels), bool)
        found[rows[named == number]] = True
        return found

    def counts(self, labels: Labels, n_classes: int | None = None) -> NDArray[np.int64]:
        """Return how many rows have each class, (C,)."""
        count = self.n_classes(labels) if n_classes is None else n_classes
        return np.bincount(self.pairs(labels)[1], minlength=count)

    @abstractmethod
    def valid(self, labels: Labels, n_rows: int, n_classes: int) -> bool:
        """Return whether these can be the labels of so many rows and classes."""

    @abstractmethod
    def encode(self, labels: Array, classes: Array) -> RowNumbers:
        """Return labels as places in sorted classes, -1 for one that is not there; or 0 and 1."""

    @abstractmethod
    def soft_targets(self, labels: Labels, n_classes: int, smoothing: float) -> Array32:
        """Return targets, (N, C), of which a part is spread over all classes, or yes and no."""

    @abstractmethod
    def alike(self, labels: Labels, classes: Sequence[str]) -> str | None:
        """Return what all rows have in common, after "they", where nothing tells them apart."""

    def ranked_by(self, asked: str) -> str:
        """Return what decides between heads, where one of the other metrics may be asked for."""
        return self.metric

    @abstractmethod
    def require_one_label(self, what: str, instead: str = "leave it out") -> None:
        """Refuse what is for images of one label each, where these may have several.

        Parameters
        ----------
        what : str
            As ``--per-class counts images of one label each``.

        Raises
        ------
        UsageError
        """

    # scores, logits and probabilities

    @abstractmethod
    def probabilities(self, scores: Array) -> Array:
        """Return the probabilities of scores, (..., C), by softmax (in place) or sigmoid."""

    @abstractmethod
    def logits(self, scores: Array) -> Array64:
        """Return log-probabilities, or log odds of several labels, of scores, (N, C)."""

    @abstractmethod
    def probabilities_of(self, logits: Array64) -> Array64:
        """Return the probabilities of what `logits` gives."""

    @abstractmethod
    def logits_of(self, probabilities: Array) -> Array64:
        """Return the logits of probabilities that are no softmax; infinite for 0 and 1."""

    @abstractmethod
    def log_probabilities(self, logits: Array64) -> Array64:
        """Return the logarithms of probabilities from logits, (N, C)."""

    @abstractmethod
    def mean_logits(self, logits: Array64) -> Array64:
        """Return the logits of the mean of probabilities over the first axis of their logits."""

    @abstractmethod
    def scores_of(self, probabilities: Array64) -> Array64:
        """Return finite scores whose probabilities are these; `probabilities` undoes it."""

    @abstractmethod
    def ranked(self, logits: Array) -> Array64:
        """Return by what a class's rows are ranked, (N, C): log odds, without their noise."""

    def compared(self, probabilities: Array, logits: Array | None) -> Array:
        """Return what `figure` and `interval` take, and what heads are compared by, (N, C)."""
        return probabilities

    @abstractmethod
    def fit_temperature(self, logits: Array, labels: Labels) -> float:
        """Return the temperature with the least log loss; see `statistics.fit_temperature`."""

    @abstractmethod
    def apply_temperature(self, logits: Array, temperature: float) -> Array64:
        """Return the probabilities of logits that are divided by a temperature."""

    # answers

    @abstractmethod
    def decide(self, logits: Array, classes: Array) -> Array:
        """Return the answers to rows: a class each, or 0 and 1 of every class."""

    @abstractmethod
    def votes(self, probabilities: Array) -> Array:
        """Return 1 for each class that is answered, else 0, (N, C)."""

    @abstractmethod
    def chance(self, n_classes: int) -> float:
        """Return the probability that guessing gives a class."""

    @abstractmethod
    def watched(self, share: float) -> str:
        """Return `step_metric` of a training batch in words."""

    @abstractmethod
    def right(self, probabilities: Array, labels: Labels) -> NDArray[np.bool_] | None:
        """Return which rows are answered right; None where no row is right or wrong as a whole."""

    def thresholds(self, probabilities: Array, labels: Labels) -> Array64 | None:
        """Return from which probability each class is given; None where the likeliest is."""
        return None

    # figures

    @abstractmethod
    def figure(self, scores: Array, labels: Labels) -> float | None:
        """Return `metric` of scores or probabilities; None where it cannot be measured."""

    @abstractmethod
    def measure(
        self, probabilities: Array, labels: Labels, logits: Array64
    ) -> Metrics | MultiLabelMetrics:
        """Return all figures of rows."""

    @abstractmethod
    def loss_and_figure(self, probabilities: Array, targets: Labels) -> tuple[float, float]:
        """Return the mean cross-entropy in nats and `metric`; targets as `encode` gives them."""

    @abstractmethod
    def log_loss(self, probabilities: Array, labels: Labels) -> float:
        """Return the mean cross-entropy of rows, or of all decisions, in nats."""

    @abstractmethod
    def calibration_error(self, probabilities: Array, labels: Labels) -> float:
        """Return the expected calibration error of answers, or of all decisions."""

    @abstractmethod
    def losses(self, probabilities: Array, labels: Labels) -> Array64:
        """Return each row's cross-entropy, or the mean of its decisions', in nats, (N,)."""

    @abstractmethod
    def interval(self, scores: Array, labels: Labels, units: Units) -> Bounds | None:
        """Return the 95 % interval of `figure`; None where that cannot be measured."""

    def intervals(
        self, probabilities: Array, labels: Labels, logits: Array, units: Units
    ) -> dict[str, Bounds]:
        """Return 95 % intervals of `metric` and of the log loss, by name."""
        found = {self.metric: self.interval(self.compared(probabilities, logits), labels, units)}
        loss = bootstrap_mean(self.losses(probabilities, labels), units=units)
        found["log_loss"] = loss.low, loss.high
        return {name: bounds for name, bounds in found.items() if bounds is not None}

    def are_many(self, n_rows: int, n_classes: int) -> bool:
        """Return whether scores, (n_rows, n_classes), are too many to be kept whole."""
        return False

    # rows divided into parts

    @abstractmethod
    def hold_out(self, labels: Labels, wanted: int, val_size: float, seed: int) -> Parts:
        """Hold out so many rows, of which each is alone; see `splitting.validation_split`."""

    def folds(
        self, labels: Labels, folds: int, seed: int, units: RowNumbers | None = None
    ) -> list[Parts]:
        """Divide rows into folds, units whole; see `splitting.fold_split`."""
        named, n_classes = self.pairs(labels), self.n_classes(labels)
        rows = len(labels)
        sizes = [rows // folds + (fold < rows % folds) for fold in range(folds)]
        return iterative_folds(named, n_classes, sizes, seed, units)

    @abstractmethod
    def most_folds(self, labels: Labels, folds: int) -> int:
        """Return how many folds there can be at most."""

    def check_folds(
        self, labels: Labels, folds: Sequence[Parts], classes: Sequence[str] | None
    ) -> None:
        """Refuse folds that leave nothing to tell apart."""
        return


class SingleLabel(Task):
    """Each image has one of the classes, which exclude one another."""

    name, gives = "single-label", "one label"
    exclusive = True
    metric, metric_label, step_metric = "top1", "top-1", "top1"
    activation = "softmax"
    dtype = np.int32
    columns = "classes"
    axes = "confidence, %", "accuracy (line), rows (bars), %"
    largest = "the rows of the largest class"
    needs = "at least 2 classes to tell apart"
    kept_dtype = np.int64

    def shape(self, n_rows: int, n_classes: int) -> tuple[int, ...]:
        return (n_rows,)

    def pairs(self, labels: Labels) -> tuple[RowNumbers, NDArray[np.int64]]:
        return np.arange(len(labels)), labels.astype(np.int64)

    def n_classes(self, labels: Labels) -> int:
        return int(labels.max()) + 1 if len(labels) else 0

    def valid(self, labels: Labels, n_rows: int, n_classes: int) -> bool:
        return labels.shape == (n_rows,) and bool(((labels >= 0) & (labels < n_classes)).all())

    def encode(self, labels: Array, classes: Array) -> RowNumbers:
        found = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        return np.where(classes[found] == labels, found, -1).astype(np.intp)

    def soft_targets(self, labels: Labels, n_classes: int, smoothing: float) -> Array32:
        found = np.full((len(labels), n_classes), smoothing / n_classes, np.float32)
        found[np.arange(len(labels)), labels] += 1 - smoothing
        return found

    def alike(self, labels: Labels, classes: Sequence[str]) -> str | None:
        same = bool((labels == labels[:1]).all())
        return f"are of one class, {shown(classes[labels[0]])}" if same else None

    def ranked_by(self, asked: str) -> str:
        return asked

    def require_one_label(self, what: str, instead: str = "leave it out") -> None:
        return None

    def present(self, labels: Labels) -> NDArray[np.intp]:
        return np.unique(labels).astype(np.intp)

    def n_learnt(self, labels: Labels) -> int:
        return len(np.unique(labels))

    def tables(self, labels: Labels) -> list[NDArray[np.bool_]]:
        return [labels[None] == np.unique(labels)[:, None]]

    def indicators(self, labels: Labels) -> Array:
        (found,) = self.tables(labels)
        return found if len(found) > 1 else found[:0]

    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[Labels, Sequence[str]]:
        return labels, classes

    def is_binary(self, n_classes: int) -> bool:
        return n_classes == 2

    def moved(self, labels: Labels, places: RowNumbers, n_classes: int) -> Labels:
        return places[labels].astype(self.dtype)

    def differ(self, a: Labels, b: Labels) -> NDArray[np.bool_]:
        return np.asarray(a != b)

    def text(self, label: Any, classes: Sequence[str]) -> str:
        return classes[int(label)]

    def probabilities(self, scores: Array) -> Array:
        return maths.softmax(scores)

    def logits(self, scores: Array) -> Array64:
        return maths.log_softmax(scores)

    def probabilities_of(self, logits: Array64) -> Array64:
        return np.asarray(np.exp(logits))

    def logits_of(self, probabilities: Array) -> Array64:
        return maths.log_probabilities(probabilities)

    def log_probabilities(self, logits: Array64) -> Array64:
        return logits

    def mean_logits(self, logits: Array64) -> Array64:
        return logits[0] if len(logits) == 1 else maths.mean_log_probabilities(logits)

    def scores_of(self, probabilities: Array64) -> Array64:
        return maths.finite_logs(probabilities)

    def ranked(self, logits: Array) -> Array64:
        return maths.ranked_against_rest(logits)

    def fit_temperature(self, logits: Array, labels: Labels) -> float:
        return fit_temperature(logits, labels)

    def apply_temperature(self, logits: Array, temperature: float) -> Array64:
        return apply_temperature(logits, temperature)

    def decide(self, logits: Array, classes: Array) -> Array:
        answers: Array = classes[logits.argmax(axis=1)]
        return answers

    def votes(self, probabilities: Array) -> Array:
        votes = np.zeros_like(probabilities)
        votes[np.arange(len(votes)), probabilities.argmax(axis=1)] = 1
        return votes

    def chance(self, n_classes: int) -> float:
        return 1 / n_classes

    def watched(self, share: float) -> str:
        return f"top-1 {100 * share:.0f} %"

    def right(self, probabilities: Array, labels: Labels) -> NDArray[np.bool_]:
        return np.asarray(probabilities.argmax(axis=1) == labels)

    def figure(self, scores: Array, labels: Labels) -> float | None:
        return float(self.right(scores, labels).mean())

    def measure(self, probabilities: Array, labels: Labels, logits: Array64) -> Metrics:
        return score(probabilities, labels, probabilities.shape[1], logits)

    def loss_and_figure(self, probabilities: Array, targets: Labels) -> tuple[float, float]:
        rows = np.arange(len(targets))
        own = probabilities[rows, np.maximum(targets, 0)].astype(np.float64)
        losses = -np.log(np.clip(own, np.finfo(float).eps, 1))
        losses = np.where(targets < 0, UNSEEN_LOSS, losses)
        return float(losses.mean()), float(self.right(probabilities, targets).mean())

    def log_loss(self, probabilities: Array, labels: Labels) -> float:
        return log_loss(probabilities, labels)

    def calibration_error(self, probabilities: Array, labels: Labels) -> float:
        return calibration_error(probabilities, labels)

    def losses(self, probabilities: Array, labels: Labels) -> Array64:
        own = np.take_along_axis(probabilities, labels[:, None].astype(np.intp), axis=1)[:, 0]
        return np.asarray(-np.log(np.clip(own, np.finfo(np.float64).eps, 1)))

    def interval(self, scores: Array, labels: Labels, units: Units) -> Bounds:
        found = share_interval(self.right(scores, labels), units=units)
        return found.low, found.high

    def are_many(self, n_rows: int, n_classes: int) -> bool:
        return many.are_many(n_rows, n_classes)

    def hold_out(self, labels: Labels, wanted: int, val_size: float, seed: int) -> Parts:
        return exact_shares(labels, wanted, val_size, seed)

    def folds(
        self, labels: Labels, folds: int, seed: int, units: RowNumbers | None = None
    ) -> list[Parts]:
        if units is None:
            return shuffled_folds(labels, folds, seed)
        return super().folds(labels, folds, seed, units)

    def most_folds(self, labels: Labels, folds: int) -> int:
        return most_folds(labels, folds)

    def check_folds(
        self, labels: Labels, folds: Sequence[Parts], classes: Sequence[str] | None
    ) -> None:
        check_two_classes(labels, folds, classes)


class MultiLabel(Task):
    """An image may have several labels, or none; each is a decision of its own."""

    name, gives = "multi-label", "several labels"
    exclusive = False
    metric, metric_label, step_metric = "map", "mAP", "decisions"
    activation = "sigmoid"
    dtype = np.uint8
    columns = "labels, several an image"
    axes = "probability of a label, %", "it is there (line), decisions (bars), %"
    largest = "the number of rows"
    needs = "at least one class that some of them have and others have not"
    together = " that may go together"
    kept_dtype = np.uint8

    def shape(self, n_rows: int, n_classes: int) -> tuple[int, ...]:
        return n_rows, n_classes

    def pairs(self, labels: Labels) -> tuple[RowNumbers, NDArray[np.int64]]:
        rows, named = np.nonzero(labels)
        return rows, named.astype(np.int64)

    def n_classes(self, labels: Labels) -> int:
        return int(labels.shape[1])

    def valid(self, labels: Labels, n_rows: int, n_classes: int) -> bool:
        return labels.shape == (n_rows, n_classes) and bool(np.isin(labels, (0, 1)).all())

    def encode(self, labels: Array, classes: Array) -> RowNumbers:
        return labels.astype(np.intp)

    def soft_targets(self, labels: Labels, n_classes: int, smoothing: float) -> Array32:
        return ((1 - smoothing) * labels + smoothing / 2).astype(np.float32)

    def alike(self, labels: Labels, classes: Sequence[str]) -> str | None:
        return "have the same labels" if (labels == labels[:1]).all() else None

    def require_one_label(self, what: str, instead: str = "leave it out") -> None:
        raise UsageError(f"{what}, and these may have several; {instead}")

    def present(self, labels: Labels) -> NDArray[np.intp]:
        return np.flatnonzero(labels.any(axis=0))

    def n_learnt(self, labels: Labels) -> int:
        return int(labels.shape[1])

    def tables(self, labels: Labels) -> list[NDArray[np.bool_]]:
        return [np.stack([one == 0, one == 1]) for one in labels.T]

    def indicators(self, labels: Labels) -> Array:
        return labels[:, (labels != labels[:1]).any(axis=0)].T

    def strata(self, labels: Labels, classes: Sequence[str]) -> tuple[Labels, Sequence[str]]:
        return np.zeros(len(labels), np.int32), ("",)

    def moved(self, labels: Labels, places: RowNumbers, n_classes: int) -> Labels:
        matrix = np.zeros((len(labels), n_classes), self.dtype)  # nobody has one that is not listed
        matrix[:, places] = labels
        return matrix

    def differ(self, a: Labels, b: Labels) -> NDArray[np.bool_]:
        return np.asarray((a != b).any(axis=1))

    def text(self, label: Any, classes: Sequence[str]) -> str:
        return ", ".join(classes[place] for place in np.flatnonzero(label)) or "no label"

    def has(self, labels: Labels, number: int) -> NDArray[np.bool_]:
        return np.asarray(labels[:, number] == 1)

    def counts(self, labels: Labels, n_classes: int | None = None) -> NDArray[np.int64]:
        return np.asarray(labels.sum(axis=0, dtype=np.int64))

    def probabilities(self, scores: Array) -> Array:
        return maths.sigmoid(scores)

    def logits(self, scores: Array) -> Array64:
        logits: Array64 = scores.astype(np.float64)
        return logits

    def probabilities_of(self, logits: Array64) -> Array64:
        return maths.sigmoid(logits)

    def logits_of(self, probabilities: Array) -> Array64:
        return maths.log_odds(probabilities)

    def log_probabilities(self, logits: Array64) -> Array64:
        return -np.logaddexp(0, -logits)

    def mean_logits(self, logits: Array64) -> Array64:
        return logits[0] if len(logits) == 1 else maths.mean_log_odds(logits)

    def scores_of(self, probabilities: Array64) -> Array64:
        return maths.finite_logs(probabilities) - maths.finite_logs(1 - probabilities)

    def ranked(self, logits: Array) -> Array64:
        return maths.ranked_odds(logits)

    def compared(self, probabilities: Array, logits: Array | None) -> Array:
        return probabilities if logits is None else self.ranked(logits)

    def fit_temperature(self, logits: Array, labels: Labels) -> float:
        return fit_binary_temperature(logits, labels)

    def apply_temperature(self, logits: Array, temperature: float) -> Array64:
        return apply_binary_temperature(logits, temperature)

    def decide(self, logits: Array, classes: Array) -> Array:
        return (logits > 0).astype(np.intp)

    def votes(self, probabilities: Array) -> Array:
        return (probabilities > HALF).astype(np.intp)

    def chance(self, n_classes: int) -> float:
        return HALF

    def watched(self, share: float) -> str:
        return f"{100 * share:.0f} % of decisions"

    def right(self, probabilities: Array, labels: Labels) -> None:
        return None

    def thresholds(self, probabilities: Array, labels: Labels) -> Array64:
        return best_thresholds(probabilities, labels)

    def figure(self, scores: Array, labels: Labels) -> float | None:
        return mean_of(average_precisions(scores, labels))

    def measure(self, probabilities: Array, labels: Labels, logits: Array64) -> MultiLabelMetrics:
        return score_labels(probabilities, labels, self.ranked(logits))

    def loss_and_figure(self, probabilities: Array, targets: Labels) -> tuple[float, float]:
        loss = self.log_loss(probabilities, targets)
        return loss, self.figure(probabilities, targets) or 0.0

    def log_loss(self, probabilities: Array, labels: Labels) -> float:
        return float(binary_losses(probabilities, labels).mean())

    def calibration_error(self, probabilities: Array, labels: Labels) -> float:
        return binary_calibration_error(probabilities, labels)

    def losses(self, probabilities: Array, labels: Labels) -> Array64:
        return np.asarray(binary_losses(probabilities, labels).mean(axis=1))

    def interval(self, scores: Array, labels: Labels, units: Units) -> Bounds | None:
        return bootstrap_map(scores, labels, units=units)

    def hold_out(self, labels: Labels, wanted: int, val_size: float, seed: int) -> Parts:
        named, n_classes = self.pairs(labels), self.n_classes(labels)
        return iterative_split(named, n_classes, (len(labels) - wanted, wanted), val_size, seed)

    def most_folds(self, labels: Labels, folds: int) -> int:
        return len(labels)


SINGLE_LABEL, MULTI_LABEL = SingleLabel(), MultiLabel()
TASKS: tuple[Task, ...] = (SINGLE_LABEL, MULTI_LABEL)


def task_of(labels: NDArray[Any]) -> Task:
    """Return the task of labels: of several where they are a matrix, of one where a vector."""
    return MULTI_LABEL if labels.ndim == 2 else SINGLE_LABEL


def task_of_splits(splits: Iterable[NDArray[Any]]) -> Task:
    """Return the task of the labels of all splits of a dataset."""
    return next((task_of(one) for one in splits if not task_of(one).exclusive), SINGLE_LABEL)


def task_by_metric(metric: str) -> Task:
    """Return the task whose heads are ranked by a metric, as records name it.

    One of `probe.evaluation.gains.METRICS` stands for a single label.
    """
    return next((task for task in TASKS if task.metric == metric), SINGLE_LABEL)
