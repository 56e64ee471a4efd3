"""Find doubtful labels and copies in a dataset, and score a head without its leaked test images.

Near-duplicates are found in `probe.runs.duplicates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.audit.record import LabelError
from probe.errors import UsageError
from probe.evaluation.multilabel import HALF
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.splitting import Labels, fold_split, warn_of_unknown
from probe.evaluation.task import task_of
from probe.heads.grid import Search, choose
from probe.heads.path import PathHead
from probe.runs.duplicates import NearDuplicate
from probe.runs.selection import out_of_fold_blocks, out_of_fold_logits

Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Out-of-fold probabilities: of each training image by heads that were not fitted on it.

    Parameters
    ----------
    blocks : callable
        Each call yields (row numbers, probabilities, float64, (n_rows, n_classes)) until all
        images were there; with thousands of classes in blocks of rows.
    """

    blocks: Callable[[], Iterable[tuple[NDArray[np.intp], Array64]]]

    @classmethod
    def of(cls, probabilities: Array64) -> OutOfFold:
        """Wrap probabilities that are in memory."""
        return cls(blocks=lambda: [(np.arange(len(probabilities)), probabilities)])

    @property
    def whole(self) -> Array64:
        """All probabilities, (n_images, n_classes)."""
        every = list(self.blocks())
        found = np.empty((sum(len(rows) for rows, _ in every), every[0][1].shape[1]))
        for rows, p in every:
            found[rows] = p
        return found


def label_errors(out_of_fold: OutOfFold, train: Part, classes: Sequence[str]) -> list[LabelError]:
    """Return the training images whose label is confidently contradicted, largest margin first.

    An image counts as confidently of class j where its probability of j is at least the mean
    probability of j over the images that are labelled j. If the most probable such class is not
    the given one, the label is doubted. The only image of a class is never doubted, since heads
    that did not see it cannot know the class. With multi-label images, having a label and not
    having it are the two classes, for each label by itself.

    Parameters
    ----------
    out_of_fold : OutOfFold
        Out-of-fold probabilities of the training images.

    References
    ----------
    Northcutt, Jiang, Chuang, "Confident learning", arXiv:1911.00068: the thresholds and the
    off-diagonal of the confident joint; ranked by the margin between the two classes. Thyagarajan
    et al., arXiv:2211.13895: multi-label images.
    """
    if not train.task.exclusive:
        return _doubted_labels(out_of_fold.whole, train, classes)
    given = train.y.astype(np.intp)
    own, likely = np.empty((2, len(given)))
    for images, p in out_of_fold.blocks():
        own[images] = np.take_along_axis(p, given[images, None], axis=1)[:, 0]
    counts = np.bincount(given, minlength=len(classes))
    sums = np.bincount(given, weights=own, minlength=len(classes))
    thresholds = np.divide(sums, counts, out=np.full(len(classes), np.inf), where=counts > 1)
    suggested, doubted = given.copy(), np.zeros(len(given), bool)
    for images, p in out_of_fold.blocks():
        confident = np.where(p >= thresholds, p, -1)
        suggested[images] = confident.argmax(axis=1)
        doubted[images] = confident.max(axis=1) > 0
        likely[images] = np.take_along_axis(p, suggested[images, None], axis=1)[:, 0]
    doubted &= (suggested != given) & (likely > own) & (counts[given] > 1)
    rows = np.flatnonzero(doubted)
    order = rows[np.argsort((own - likely)[rows], kind="stable")]
    return [
        LabelError(
            id=train.ids[row], split="train", given=classes[given[row]],
            suggested=classes[suggested[row]], given_probability=float(own[row]),
            probability=float(likely[row]),
        )
        for row in order
    ]  # fmt: skip


def _doubted_labels(
    probabilities: Array64, train: Part, classes: Sequence[str]
) -> list[LabelError]:
    """Return the multi-label decisions that are confidently contradicted, the surest first."""
    there = train.y == 1
    other = np.where(there, 1 - probabilities, probabilities)  # of the opposite decision
    sure = np.stack([_mean_where(1 - probabilities, ~there), _mean_where(probabilities, there)])
    least = np.where(there, sure[0], sure[1])
    rows, columns = np.nonzero((other >= least) & (other > 1 - other))
    order = np.argsort(-other[rows, columns], kind="stable")
    found = []
    for row, column in zip(rows[order], columns[order], strict=True):
        has, has_not = classes[column], f"not {classes[column]}"
        given, suggested = (has, has_not) if there[row, column] else (has_not, has)
        p = float(other[row, column])
        found.append(
            LabelError(
                id=train.ids[row], split="train", given=given, suggested=suggested,
                given_probability=1 - p, probability=p,
            )
        )  # fmt: skip
    return found


def _mean_where(values: Array64, wanted: NDArray[np.bool_]) -> Array64:
    """Return each column's mean over its wanted rows, (n_classes,); infinite without any."""
    counts = wanted.sum(axis=0)
    sums = np.where(wanted, values, 0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.inf), where=counts > 0)


def out_of_fold_probabilities(
    train: Part, n_classes: int, *, folds: int, seed: int, C: float
) -> OutOfFold:
    """Return out-of-fold probabilities of logistic regression for the training images.

    Parameters
    ----------
    C : float
        Inverse of the L2 penalty, see PathHead.

    Raises
    ------
    UsageError
        There are too few images for the folds, see `fold_split`.
    """
    rows = fold_split(train.y, folds, seed, units=train.units)
    warn_of_unknown(train.y, rows)
    choice = choose(PathHead(C=C), train, None, Search(candidates=[{}], folds=rows))
    if train.task.are_many(len(train), n_classes):
        return OutOfFold(
            blocks=lambda: (
                (images, train.task.probabilities_of(logits))
                for images, logits in out_of_fold_blocks(train, choice.heads, rows, n_classes)
            )
        )
    logits = out_of_fold_logits(train, choice.heads, rows, n_classes)
    return OutOfFold.of(train.task.probabilities_of(logits))


def leak_scores(test: Predictions, pairs: Sequence[NearDuplicate]) -> dict[str, float]:
    """Return a head's accuracy (multi-label: mAP) with, without and on leaked test images.

    Raises
    ------
    UsageError
        The predictions are of other images than the pairs.
    """
    leaked = {pair.b for pair in pairs if pair.split_b == "test"}
    if unknown := leaked - set(test.ids.tolist()):
        raise UsageError(f"the run has no prediction of {min(unknown)}; it is of other features")
    out = np.array([one in leaked for one in test.ids.tolist()])
    task, p, labels = test.task, test.probabilities, test.label_columns
    metric = task.metric
    scores: dict[str, float | None] = {
        f"test_{metric}": task.figure(p, labels),
        "n_leaked": float(out.sum()),
    }
    if 0 < out.sum() < len(out):
        scores[f"test_{metric}_without"] = task.figure(p[~out], labels[~out])
        scores[f"duplicates_{metric}"] = task.figure(p[out], labels[out])
    return {name: value for name, value in scores.items() if value is not None}


def out_of_fold_scores(out_of_fold: OutOfFold, labels: Labels) -> dict[str, float]:
    """Return the scores of out-of-fold probabilities, by their names in `Audit.scores`."""
    task = task_of(labels)
    if task.exclusive:
        right = np.concatenate(
            [p.argmax(axis=1) == labels[rows] for rows, p in out_of_fold.blocks()]
        )
        return {f"oof_{task.metric}": float(right.mean())}
    probabilities = out_of_fold.whole
    value = task.figure(probabilities, labels)
    scores = {} if value is None else {f"oof_{task.metric}": value}
    scores["oof_hamming_loss"] = float(((probabilities >= HALF) != (labels == 1)).mean())
    return scores
