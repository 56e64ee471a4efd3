"""The order of rows and the learning rates of a training, however many heads share it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from probe.errors import HeadError

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None
Schedule = Literal["constant", "cosine", "step"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
DROPS = (0.5, 0.75)  # parts of the training after which `step` takes a tenth
Sampling = Literal["all", "balanced"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)


def step_sizes(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """Return what the learning rate is multiplied with at each step, (steps,).

    ``cosine`` falls from 1 towards 0 along half a wave; ``step`` is 1, then 0.1 from half and 0.01
    from three quarters of the steps on.

    References
    ----------
    Loshchilov, Hutter, "SGDR", arXiv:1608.03983: the cosine. He et al., "Deep residual learning",
    arXiv:1512.03385, 4.2: tenths at a half and three quarters.
    """
    done = np.arange(steps) / steps
    if schedule == "cosine":
        wave: NDArray[np.float64] = (1 + np.cos(np.pi * done)) / 2
        return wave
    if schedule == "step":
        return np.asarray(0.1 ** np.sum([done >= drop for drop in DROPS], axis=0), np.float64)
    return np.ones(steps)


def epoch_order(
    random: np.random.RandomState, labels: NDArray[np.intp], sampling: Sampling
) -> NDArray[np.intp]:
    """Return the row numbers of one epoch.

    ``all`` is every row once, shuffled; ``balanced`` draws as many with replacement, each class
    equally often on average.
    """
    if sampling == "all":
        order: NDArray[np.intp] = random.permutation(len(labels))
        return order
    chances = 1 / np.bincount(labels)[labels]
    drawn: NDArray[Any] = random.choice(len(labels), len(labels), p=chances / chances.sum())
    return drawn.astype(np.intp)


def class_weights(
    wanted: ClassWeight, classes: NDArray[Any], labels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what a row of each class counts; balanced ones average to 1 over the rows.

    Parameters
    ----------
    wanted : {"balanced"}, mapping of class to float, or None
        As in scikit-learn; a class that the mapping leaves out counts 1.
    classes : (n_classes,)
    labels : int, (n_rows,)
        Indices into `classes`.

    Raises
    ------
    HeadError
        It is neither, or a weight is not a number from 0.

    References
    ----------
    King, Zeng, "Logistic regression in rare events data", Political Analysis 9, 2001.
    """
    from sklearn.utils.class_weight import compute_class_weight

    try:
        found = compute_class_weight(wanted, classes=classes, y=classes[labels])
    except (TypeError, ValueError) as error:
        raise HeadError(f"class_weight {wanted!r}: {error}") from error
    weights = np.asarray(found, np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise HeadError(f"class_weight {wanted!r}: weights are numbers from 0")
    return weights


def yes_weights(
    wanted: ClassWeight, classes: NDArray[Any], labels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what a yes of each class counts, where a no counts 1; labels (n_rows, n_classes).

    Balanced: as many times as there are noes for each yes; 1 for a class without a yes.

    Raises
    ------
    HeadError
        It is neither "balanced", None nor a mapping, or a weight is not a number from 0.
    """
    yes = labels.sum(axis=0)
    if wanted is None:
        return np.ones(len(classes))
    if isinstance(wanted, str) and wanted == "balanced":
        return np.where(yes > 0, (len(labels) - yes) / np.maximum(yes, 1), 1.0)
    if not isinstance(wanted, Mapping):
        raise HeadError(f"class_weight {wanted!r}: it is 'balanced' or a weight a class")
    try:
        weights = np.array([float(wanted.get(one, 1.0)) for one in classes.tolist()])
    except (TypeError, ValueError) as error:
        raise HeadError(f"class_weight {wanted!r}: {error}") from error
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise HeadError(f"class_weight {wanted!r}: weights are numbers from 0")
    return weights


def prior_scores(labels: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of a yes of each class, (n_classes,): where a sigmoid's bias starts.

    Steps are then for what the features tell, not for how rare a label is.

    Parameters
    ----------
    labels : int, (n_rows, n_classes)
    weights : float64, (n_classes,)
        What a yes of each class counts.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, 3.3: the prior.
    """
    yes = labels.sum(axis=0)
    scores: NDArray[np.float64] = np.log((yes * weights + 0.5) / (len(labels) - yes + 0.5))
    return scores
