"""The dense head: a Gluon Dense layer and softmax cross-entropy, for a number of epochs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from probe.errors import HeadError
from probe.heads.linear import Epoch, LinearHead, OnEpoch, Validation, one_of, require
from probe.heads.normalize import NORMALIZATIONS, Normalization, fit_normalizer
from probe.heads.softmax import Optimizer, OptimizerName, SoftmaxLayer, share

log = logging.getLogger(__name__)

LEARNING_RATES: dict[OptimizerName, float] = {"adam": 1e-3, "sgd": 1e-2}


class DenseHead(LinearHead):
    """One fully connected layer under a softmax, trained by mini-batches with MXNet.

    Fitting needs MXNet, predicting only NumPy. The same `random_state` gives the same bits on the
    same machine and thread count.

    Parameters
    ----------
    epochs : int, default=50
    batch_size : int, default=256
        The last batch of an epoch holds what is left.
    optimizer : {"adam", "sgd"}, default="adam"
    lr : float, optional
        Step size; 0.001 for adam and 0.01 for sgd unless given.
    wd : float, default=0.0
        L2 penalty: ``wd * coef`` is added to the gradient of the mean loss. Never on biases.
    momentum : float, default=0.9
        Of sgd; adam does not use it.
    normalize : {"standard", "l2", "none"}, default="standard"
        What is done to the features first; learnt from the training rows alone.
    random_state : int, RandomState or None, default=None
        The order of rows; there is no other chance in it, the layer starts at zero.

    Attributes
    ----------
    classes_, coef_, intercept_, normalizer_, history_ :
        See LinearHead; `coef_` and `intercept_` are float32.

    References
    ----------
    Kingma, Ba, "Adam", arXiv:1412.6980.
    """

    def __init__(
        self,
        *,
        epochs: int = 50,
        batch_size: int = 256,
        optimizer: OptimizerName = "adam",
        lr: float | None = None,
        wd: float = 0.0,
        momentum: float = 0.9,
        normalize: Normalization = "standard",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.wd = wd
        self.momentum = momentum
        self.normalize = normalize
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train for all epochs; see `LinearHead.fit` for the arguments.

        Raises
        ------
        HeadError
            Also where the loss is no longer finite: the learning rate is too large.
        EngineError
            MXNet cannot be imported.
        """
        optimizer = self._checked_parameters()
        rows, labels = self._training_rows(X, y)
        random = check_random_state(self.random_state)
        self.normalizer_ = fit_normalizer(self.normalize, rows)
        layer = SoftmaxLayer(
            self.normalizer_.transform(rows),
            labels,
            n_classes=len(self.classes_),
            batch_size=int(self.batch_size),
            optimizer=optimizer,
        )
        held_out = self._held_out(validation) if validation is not None else None
        self.history_ = []
        for number in range(1, self.epochs + 1):
            order = random.permutation(len(rows))
            self.history_.append(
                _run_epoch(
                    number, layer, order=order, labels=labels, held_out=held_out, lr=optimizer.lr
                )
            )
            if on_epoch is not None:
                on_epoch(self.history_[-1])
        if self.history_[-1].train_loss > np.log(len(self.classes_)):  # where it started
            log.warning("dense: ended worse than guessing; lower lr=%g", optimizer.lr)
        self.coef_, self.intercept_ = layer.parameters()
        return self

    def fit_grid(self, X: ArrayLike, y: ArrayLike, lr: Sequence[float]) -> list[DenseHead]:
        """Return a fitted head for each learning rate, all trained at once; see `sweep`.

        Raises
        ------
        HeadError
            As `fit`.
        """
        from probe.heads.sweep import fit_dense_sweep

        return fit_dense_sweep(self, X, y, lr=lr, wd=[self.wd])

    def _held_out(self, validation: Validation) -> tuple[Any, NDArray[np.intp]]:
        from probe.mx import mx

        rows, labels = self._validation_rows(validation)
        return share(mx, self.normalizer_.transform(rows)), labels

    def _checked_parameters(self) -> Optimizer:
        """Check the parameters, here and not in `__init__` as scikit-learn wants it."""
        one_of("optimizer", self.optimizer, tuple(LEARNING_RATES))
        one_of("normalize", self.normalize, NORMALIZATIONS)
        lr = LEARNING_RATES[self.optimizer] if self.lr is None else self.lr
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            require(
                isinstance(value, Integral) and value >= 1, name, value, "a whole number from 1"
            )
        require(isinstance(lr, Real) and 0 < lr < np.inf, "lr", lr, "a number above 0")
        require(
            isinstance(self.wd, Real) and 0 <= self.wd < np.inf, "wd", self.wd, "a number from 0"
        )
        require(
            isinstance(self.momentum, Real) and 0 <= self.momentum < 1,
            "momentum", self.momentum, "a number from 0 to below 1",
        )  # fmt: skip
        return Optimizer(
            name=self.optimizer, lr=float(lr), wd=float(self.wd), momentum=float(self.momentum)
        )


def _run_epoch(
    number: int,
    layer: SoftmaxLayer,
    *,
    order: NDArray[np.integer[Any]],
    labels: NDArray[np.intp],
    held_out: tuple[Any, NDArray[np.intp]] | None,
    lr: float,
) -> Epoch:
    started = time.perf_counter()
    layer.train_epoch(order)
    loss, top1 = layer.evaluate_training(labels)
    if not np.isfinite(loss):
        raise HeadError(f"the loss is {loss} in epoch {number}; lower lr={lr:g}")
    val_loss, val_top1 = layer.evaluate(*held_out) if held_out else (None, None)
    return Epoch(
        epoch=number,
        train_loss=loss,
        train_top1=top1,
        val_loss=val_loss,
        val_top1=val_top1,
        seconds=time.perf_counter() - started,
    )
