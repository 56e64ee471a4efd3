"""One pass over the training rows, and the measuring after it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import OverflowHeadError
from probe.heads.history import Epoch
from probe.heads.network import Network
from probe.heads.softmax import SoftmaxLayer


def run_epoch(
    number: int,
    layers: SoftmaxLayer | Network,
    *,
    order: NDArray[np.intp],
    rates: Sequence[float],
    labels: NDArray[np.intp],
    held_out: tuple[Any, NDArray[np.intp]] | None,
) -> Epoch:
    """Train for one epoch and measure it.

    Parameters
    ----------
    order : intp, (n_rows,)
        Row numbers, as they come.
    rates : sequence of float
        A learning rate a step.
    labels : intp, (n_rows,)
    held_out : pair of rows as `layers.share` gives them and their labels, optional

    Raises
    ------
    OverflowHeadError
        The loss is no longer finite.
    """
    started = time.perf_counter()
    layers.train_epoch(order, rates)
    loss, top1 = layers.evaluate_training(labels)
    if not np.isfinite(loss):
        raise OverflowHeadError(f"the loss is {loss} in epoch {number}; lower lr={rates[0]:g}")
    val_loss, val_top1 = layers.evaluate(*held_out) if held_out else (None, None)
    return Epoch(
        epoch=number,
        train_loss=loss,
        train_top1=top1,
        val_loss=val_loss,
        val_top1=val_top1,
        lr=rates[0],
        seconds=time.perf_counter() - started,
    )
