"""The order of rows and the step sizes of a training, the same however many heads share it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

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


def balanced_weights(labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return a weight a class that lets all classes count alike; of rows they average to 1.

    References
    ----------
    King, Zeng, "Logistic regression in rare events data", Political Analysis 9, 2001.
    """
    counts = np.bincount(labels)
    return np.asarray(len(labels) / (len(counts) * counts), np.float64)
