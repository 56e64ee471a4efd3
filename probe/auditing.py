"""What cached features tell of a dataset without a forward pass: leaks, and labels to doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.audit import LabelError, NearDuplicate
from probe.errors import UsageError
from probe.parts import Part
from probe.predictions import Predictions
from probe.splitting import Labels

CLOSEST = 6  # rows looked at for each row within train, itself included
THRESHOLD = 0.95  # of the cosine between standardised rows

Array64 = NDArray[np.float64]


def leaks(
    train: Part, test: Part, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Return the test images that have a near-duplicate in train, each with its closest.

    Features are standardised by the training rows first: as they come from a network, all are
    positive, and any two images point much the same way. Of several views the plain one counts.

    Parameters
    ----------
    threshold : float
        Cosine from which a pair counts.

    Returns
    -------
    list of NearDuplicate
        The most alike first.
    """
    from probe.heads.knn import nearest

    reference, queries = _directions(train, train), _directions(test, train)
    similarity, numbers = nearest(reference, queries, 1)
    found = [
        NearDuplicate(
            a=train.ids[near], split_a="train", label_a=classes[train.y[near]],
            b=test.ids[row], split_b="test", label_b=classes[test.y[row]],
            similarity=min(1.0, float(cosine)),
        )
        for row, (cosine, near) in enumerate(zip(similarity[:, 0], numbers[:, 0], strict=True))
        if cosine >= threshold
    ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.similarity)


def contradictions(
    train: Part, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Return near-duplicates within train whose labels differ; see `leaks`.

    Of each image the CLOSEST - 1 nearest others are looked at.
    """
    from probe.heads.knn import nearest

    rows = _directions(train, train)
    similarity, numbers = nearest(rows, rows, min(CLOSEST, len(rows)))
    pairs: dict[tuple[int, int], float] = {}
    for row, column in np.argwhere(similarity >= threshold):
        near = int(numbers[row, column])
        if train.y[row] != train.y[near]:
            pairs[min(row, near), max(row, near)] = min(1.0, float(similarity[row, column]))
    found = [
        NearDuplicate(
            a=train.ids[a], split_a="train", label_a=classes[train.y[a]],
            b=train.ids[b], split_b="train", label_b=classes[train.y[b]], similarity=cosine,
        )
        for (a, b), cosine in pairs.items()
    ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.similarity)


def _directions(part: Part, train: Part) -> NDArray[np.float32]:
    """Return the plain view of each image, standardised as train is, at length 1."""
    from probe.heads.normalize import blocks, fit_normalizer, to_length_one

    normalizer = fit_normalizer("standard", train.X[:: train.views])
    plain = part.X[:: part.views]
    rows = np.empty(plain.shape, np.float32)
    for start, block in blocks(plain):
        rows[start : start + len(block)] = to_length_one(normalizer.apply(block))
    return rows


def label_errors(probabilities: Array64, train: Part, classes: Sequence[str]) -> list[LabelError]:
    """Return the training images whose label is confidently contradicted, the surest first.

    An image counts as confidently of class j where its probability of j is at least the mean
    probability of j over the images that are labelled j. Where the likeliest such class is not
    the one that was given, the label is doubted.

    Parameters
    ----------
    probabilities : float64, (n_images, n_classes)
        Of each image by heads that did not see it.

    References
    ----------
    Northcutt, Jiang, Chuang, "Confident learning", arXiv:1911.00068: the thresholds and the
    off-diagonal of the confident joint; ranked by the margin between the two classes.
    """
    given = train.y.astype(np.intp)
    own = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
    counts = np.bincount(given, minlength=len(classes))
    sums = np.bincount(given, weights=own, minlength=len(classes))
    thresholds = np.divide(sums, counts, out=np.full(len(classes), np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    suggested = confident.argmax(axis=1)
    doubted = (confident.max(axis=1) > 0) & (suggested != given)
    likely = np.take_along_axis(probabilities, suggested[:, None], axis=1)[:, 0]
    doubted &= likely > own
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


def out_of_fold_probabilities(
    train: Part, n_classes: int, *, folds: int, seed: int, C: float
) -> Array64:
    """Return probabilities of each training image by logistic regression that did not see it.

    Parameters
    ----------
    C : float
        Inverse of the penalty, see PathHead.

    Raises
    ------
    UsageError
        There are fewer images of a class than folds.
    """
    from probe.heads.grid import Search, choose
    from probe.heads.path_head import PathHead
    from probe.selection import out_of_fold
    from probe.splitting import fold_split

    rows = fold_split(train.y, folds, seed)
    choice = choose(PathHead(C=C), train, None, Search(candidates=[{}], folds=rows))
    return out_of_fold(train, choice.heads, rows, n_classes).probabilities


def leak_scores(test: Predictions, pairs: Sequence[NearDuplicate]) -> dict[str, float]:
    """Return a head's accuracy on all test images, without those that leaked, and on those.

    Raises
    ------
    UsageError
        The predictions are not of the images that the pairs are of.
    """
    leaked = {pair.b for pair in pairs if pair.split_b == "test"}
    if unknown := leaked - set(test.ids.tolist()):
        raise UsageError(f"the run has no prediction of {min(unknown)}; it is of other features")
    out = np.array([one in leaked for one in test.ids.tolist()])
    right = test.probabilities.argmax(axis=1) == test.labels
    scores = {"test_top1": float(right.mean()), "n_leaked": float(out.sum())}
    if 0 < out.sum() < len(out):
        scores["test_top1_without"] = float(right[~out].mean())
        scores["duplicates_top1"] = float(right[out].mean())
    return scores


def top1(probabilities: Array64, labels: Labels) -> float:
    """Return the fraction of rows whose label is the most probable class."""
    return float((probabilities.argmax(axis=1) == labels).mean())
