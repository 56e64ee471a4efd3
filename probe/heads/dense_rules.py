"""What a dense head's parameters may be, and at which loss its fit counts as diverged."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from probe.errors import HeadError
from probe.heads.checks import above_zero, one_of, part, require, whole
from probe.heads.schedule import SAMPLINGS, SCHEDULES
from probe.heads.softmax import Optimizer, OptimizerName

if TYPE_CHECKING:
    from probe.heads.dense import DenseHead

LEARNING_RATES: dict[OptimizerName, float] = {"adam": 1e-3, "sgd": 1e-2}
MOMENTUM = 0.9
MARGIN = 1.01  # of rounding, above what guessing costs


def checked_optimizer(head: DenseHead) -> Optimizer:
    """Check a head's parameters and return the optimizer that they describe.

    Raises
    ------
    HeadError
        One of them makes no sense, or two contradict each other.
    """
    one_of("optimizer", head.optimizer, tuple(LEARNING_RATES))
    one_of("schedule", head.schedule, SCHEDULES)
    one_of("sampling", head.sampling, SAMPLINGS)
    whole("epochs", head.epochs)
    whole("batch_size", head.batch_size)
    if head.patience is not None:
        whole("patience", head.patience)
    lr = LEARNING_RATES[head.optimizer] if head.lr is None else head.lr
    momentum = MOMENTUM if head.momentum is None else head.momentum
    above_zero("lr", lr)
    require(isinstance(head.wd, Real) and 0 <= head.wd < np.inf, "wd", head.wd, "a number from 0")
    part("momentum", momentum)
    part("dropout", head.dropout)
    part("label_smoothing", head.label_smoothing)
    if head.optimizer == "adam" and head.momentum is not None:
        raise HeadError("momentum is of sgd; adam has none: leave it out, or optimizer='sgd'")
    hidden_units(head.hidden)
    return Optimizer(name=head.optimizer, lr=float(lr), wd=float(head.wd), momentum=float(momentum))


def hidden_units(hidden: Sequence[int] | str) -> tuple[int, ...]:
    """Return the units of the hidden layers.

    Raises
    ------
    HeadError
        They are not whole numbers from 1.
    """
    asked = hidden.split(",") if isinstance(hidden, str) else hidden
    try:
        units = tuple(int(one) for one in asked if one != "")
    except (TypeError, ValueError):
        units = (0,)
    wanted = "whole numbers from 1, as in 256 or 256,128"
    require(all(one >= 1 for one in units), "hidden", hidden, wanted)
    return units


def divergence(head: DenseHead) -> float:
    """Return the mean loss on training rows, in nats, above which a fit has diverged.

    Training starts at the loss of guessing, log K, or log 2 a class where a row may have several,
    and only steps that are too long end above it. Where classes count alike whatever their size,
    the weighted loss stays below that, so no class's own mean above K log K, nor above 2 log 2.
    """
    several, n_classes = head.multilabel_, len(head.classes_)
    guessing = float(np.log(2 if several else n_classes)) * MARGIN
    if head.class_weight is None and head.sampling == "all":
        return guessing
    if head.class_weight in (None, "balanced"):
        return guessing * (2 if several else n_classes)
    return np.inf  # weights of one's own: any mean may be the least weighted one
