"""SGD, Adam and AdamW on slices of one buffer, with one operator for each group of parameters.

MXNet 1.9.1 has AdamW's update but no class for it. Adam's bias correction is part of the learning
rate, as in MXNet's own Adam; `adamw_update` takes it apart from the decay, which must not have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probe.engines import load_mxnet
from probe.finetune.options import OptimizerName

mx = load_mxnet("fine-tuning").mx

Arrays = list[Any]  # weight, gradient, and the optimizer's own, all of one length

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
STATES: dict[OptimizerName, int] = {"sgd": 1, "adam": 2, "adamw": 2}  # buffers beside the weights


@dataclass(frozen=True, kw_only=True)
class Update:
    """The values of a step that all groups share.

    Parameters
    ----------
    step : int
        Number of the step, from 1.
    momentum : float
        SGD momentum.
    rescale : float
        Factor on the gradient, for accumulation and clipping.
    """

    step: int
    lr: float
    momentum: float
    rescale: float


def sgd(update: Update, arrays: Arrays, lr: float, wd: float) -> None:
    """``m = momentum * m - lr * (g + wd * w); w = w + m``, as MXNet has it.

    torch has ``m = momentum * m + g; w = w - lr * m``: the same while `lr` is constant; when it
    changes, past gradients count at the current rate there and at that of their step here.
    """
    mx.nd.sgd_mom_update(
        *arrays, out=arrays[0], lr=lr, wd=wd, momentum=update.momentum,
        rescale_grad=update.rescale,
    )  # fmt: skip


def adam(update: Update, arrays: Arrays, lr: float, wd: float) -> None:
    """Adam with an L2 penalty that is added to the gradient."""
    mx.nd.adam_update(
        *arrays, out=arrays[0], lr=lr * _correction(update.step), wd=wd,
        beta1=BETA1, beta2=BETA2, epsilon=EPSILON, rescale_grad=update.rescale,
    )  # fmt: skip


def adamw(update: Update, arrays: Arrays, lr: float, wd: float) -> None:
    """Adam with decoupled weight decay, ``lr * wd * w``, outside the moments.

    References
    ----------
    Loshchilov, Hutter, "Decoupled weight decay regularization", arXiv:1711.05101.
    """
    mx.nd.contrib.adamw_update(
        *arrays, mx.nd.array([update.rescale]), out=arrays[0], eta=lr,
        lr=_correction(update.step), wd=wd, beta1=BETA1, beta2=BETA2, epsilon=EPSILON,
    )  # fmt: skip


def _correction(step: int) -> float:
    return math.sqrt(1 - BETA2**step) / (1 - BETA1**step)


OPTIMIZERS: dict[OptimizerName, Callable[[Update, Arrays, float, float], None]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}
