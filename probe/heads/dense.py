"""The dense head: fully connected layers and cross-entropy, by mini-batches with Gluon."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from probe.errors import HeadError, OverflowHeadError
from probe.heads.base import OnEpoch, RowsLike, Validation
from probe.heads.dense_rules import checked_optimizer, divergence, hidden_units
from probe.heads.epoch import run_epoch
from probe.heads.linear import LinearHead
from probe.heads.network import Network, Shape
from probe.heads.normalize import Normalization, NormalizedRows, Rows32
from probe.heads.schedule import (
    ClassWeight,
    Sampling,
    Schedule,
    class_weights,
    epoch_order,
    prior_scores,
    step_sizes,
    yes_weights,
)
from probe.heads.softmax import Optimizer, OptimizerName, SoftmaxLayer

log = logging.getLogger(__name__)


class DenseHead(LinearHead):
    """Fully connected layers under a softmax, trained by mini-batches with MXNet.

    Where a row may have several labels, under a sigmoid a class; the loss is then the sum of the
    classes' cross-entropies, so that another class changes nothing for a linear head's others.

    Fitting needs MXNet, predicting only NumPy. The same `random_state` gives the same bits on the
    same machine and thread count.

    Parameters
    ----------
    epochs : int, default=50
    batch_size : int, default=256
        The last batch of an epoch holds what is left.
    optimizer : {"adam", "sgd"}, default="adam"
    lr : float, optional
        Step size at the start; 0.001 for adam and 0.01 for sgd unless given.
    wd : float, default=0.0
        L2 penalty: ``wd * coef`` is added to the gradient of the mean loss. Never on biases.
    momentum : float, optional
        Of sgd, 0.9 unless given; adam has none.
    schedule : {"constant", "cosine", "step"}, default="constant"
        How the step size falls; see `step_sizes`.
    hidden : text like "256,128", or sequence of int, default=""
        Units of ReLU layers before the last one; none: a linear head.
    dropout : float, default=0.0
        Chance that a unit is left out of a step: of hidden layers, or else of the features.
    label_smoothing : float, default=0.0
        That part of each target is spread over all classes, or over yes and no.
    class_weight : {"balanced"}, mapping of class to float, or None, default=None
        What a row of a class counts; ``balanced``: so much that all classes count alike. Where a
        row may have several: what a class's yes counts; ``balanced``: as much as all its noes.
    sampling : {"all", "balanced"}, default="all"
        Each epoch has every row once, or as many rows drawn so that classes are equally frequent,
        which needs one label a row. Not together with `class_weight`: either corrects for rare
        classes, both would do so twice.
    patience : int, optional
        Stop after so many epochs without a lower loss on the validation rows, and keep the best
        epoch's weights.
    normalize : {"standard", "l2", "none"}, default="standard"
        What is done to the features first; learnt from the training rows alone.
    random_state : int, RandomState or None, default=None
        The order of rows, hidden layers' first weights and dropout. The last layer starts at zero,
        see also `first_biases`.

    Attributes
    ----------
    classes_, coef_, intercept_, hidden_, normalizer_, history_ :
        See LinearHead; weights are float32.
    best_epoch_ : int
        Whose weights these are: the last, or with `patience` the best.

    References
    ----------
    Kingma, Ba, "Adam", arXiv:1412.6980. Prechelt, "Early stopping, but when?", 1998.
    """

    best_epoch_: int

    def __init__(
        self,
        *,
        epochs: int = 50,
        batch_size: int = 256,
        optimizer: OptimizerName = "adam",
        lr: float | None = None,
        wd: float = 0.0,
        momentum: float | None = None,
        schedule: Schedule = "constant",
        hidden: Sequence[int] | str = "",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: ClassWeight = None,
        sampling: Sampling = "all",
        patience: int | None = None,
        normalize: Normalization = "standard",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.wd = wd
        self.momentum = momentum
        self.schedule = schedule
        self.hidden = hidden
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.sampling = sampling
        self.patience = patience
        self.normalize = normalize
        self.random_state = random_state

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train for all epochs, or until `patience` ends it; see `BaseHead.fit` for the arguments.

        Raises
        ------
        OverflowHeadError
            The loss is no longer finite: the learning rate is too large.
        HeadError
            Also where `patience` has no validation rows to go by.
        EngineError
            MXNet cannot be imported.
        """
        optimizer = checked_optimizer(self)
        if self.patience is not None and validation is None:
            raise HeadError("patience goes by validation rows, and there are none")
        rows, labels, _ = self._prepare(X, y)
        self.check_sampling()
        random = check_random_state(self.random_state)
        layers = self._layers(self.normalizer_.transform(rows), labels, optimizer, random)
        held_out = self._held_out(layers, validation) if validation is not None else None
        steps = -(-len(rows) // int(self.batch_size))
        rates = optimizer.lr * step_sizes(self.schedule, steps * self.epochs).reshape(-1, steps)
        best = np.inf
        for number, of_epoch in enumerate(rates.tolist(), start=1):
            order = epoch_order(random, labels, self.sampling)
            epoch = run_epoch(
                number, layers, order=order, rates=of_epoch, labels=labels, held_out=held_out
            )
            self.history_.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            watched = self.patience is not None and epoch.val_loss is not None
            if not watched or epoch.val_loss < best:  # type: ignore[operator]
                best, self.best_epoch_ = epoch.val_loss or 0.0, number
                if watched or number == self.epochs:
                    self._keep(layers)
            elif number - self.best_epoch_ >= int(self.patience or 0):
                break
        loss = self.history_[self.best_epoch_ - 1].train_loss
        self.diverged_ = loss > divergence(self)
        if self.diverged_:
            log.warning(
                "dense: the fit diverged, training loss %.3g is worse than guessing; lower lr=%g",
                loss, optimizer.lr,
            )  # fmt: skip
        return self

    def for_refit(self) -> Self:
        """Return an unfitted copy: after early stopping, for as many epochs as were best."""
        fresh = super().for_refit()
        if self.patience is not None:
            fresh.set_params(patience=None, epochs=self.best_epoch_)
        return fresh

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        lr: Sequence[float],
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[DenseHead]:
        """Return a fitted head for each learning rate; this head stays unfitted.

        Raises
        ------
        HeadError
            As `fit`.
        """
        self.refuse_weights(sample_weight)
        fitted = self.fit_candidates(X, y, [{"lr": float(one)} for one in lr])
        for one, head in zip(lr, fitted, strict=True):
            if head is None:
                raise OverflowHeadError(f"the fit diverges with lr={one:g}; lower it")
        return [head for head in fitted if head is not None]

    def fit_candidates(
        self,
        X: RowsLike,
        y: ArrayLike,
        candidates: Sequence[Mapping[str, Any]],
        *,
        validation: Validation | None = None,
        jobs: int = 1,
        sample_weight: ArrayLike | None = None,
    ) -> list[DenseHead | None]:
        """Return a fitted head for each candidate, None where it diverged; see `BaseHead`.

        Linear heads of any learning rates, weight decays and seeds are trained at once.
        """
        self.refuse_weights(sample_weight)
        swept = all(set(one) <= {"lr", "wd", "random_state"} for one in candidates)
        if swept and self._is_plain() and self.patience is None:
            from probe.heads.sweep import fit_swept

            return fit_swept(self, X, y, candidates)
        del jobs  # MXNet's threads are the parallel part
        return super().fit_candidates(X, y, candidates, validation=validation)

    def _is_plain(self) -> bool:
        """Whether it is one layer on rows that count alike."""
        return not self.units() and not self.dropout and self.class_weight is None

    def _layers(
        self,
        X: Rows32,
        labels: NDArray[np.intp],
        optimizer: Optimizer,
        random: np.random.RandomState,
    ) -> SoftmaxLayer | Network:
        n_classes, size = len(self.classes_), int(self.batch_size)
        if self._is_plain() and not isinstance(X, NormalizedRows):
            return SoftmaxLayer(
                X, labels, n_classes=n_classes, batch_size=size, optimizer=optimizer,
                smoothing=self.label_smoothing, start=self.first_biases(labels),
            )  # fmt: skip
        return Network(
            X, labels, n_classes=n_classes, batch_size=size, optimizer=optimizer,
            shape=Shape(hidden=self.units(), dropout=self.dropout), random=random,
            smoothing=self.label_smoothing, start=self.first_biases(labels),
            weights=(yes_weights if self.multilabel_ else class_weights)(
                self.class_weight, self.classes_, labels
            ),
        )  # fmt: skip

    def _held_out(self, layers: Any, validation: Validation) -> tuple[Any, NDArray[np.intp]]:
        rows, labels = self._validation_rows(validation)
        return layers.share(self.normalizer_.transform(rows)), labels

    def _keep(self, layers: SoftmaxLayer | Network) -> None:
        *self.hidden_, (self.coef_, self.intercept_) = layers.parameters()

    def first_biases(self, labels: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return the biases that training starts at, (n_classes,); None for zeros."""
        if not self.multilabel_:
            return None
        return prior_scores(labels, yes_weights(self.class_weight, self.classes_, labels))

    def check_sampling(self) -> None:
        """Raise HeadError where rows of several labels should be drawn by their label."""
        if self.multilabel_ and self.sampling == "balanced":
            raise HeadError(
                "sampling='balanced' (--balanced) draws rows by their label, and these may have "
                "several; class_weight='balanced' lets rare ones count more"
            )

    def units(self) -> tuple[int, ...]:
        """Return the units of the hidden layers; see `hidden_units`."""
        return hidden_units(self.hidden)

    def check_params(self) -> None:
        """Raise HeadError where a parameter makes no sense; see `BaseHead.check_params`."""
        super().check_params()
        checked_optimizer(self)
        if self.sampling == "balanced" and self.class_weight is not None:
            raise HeadError(
                "sampling='balanced' (--balanced) and class_weight each correct for rare classes, "
                "and both would do so twice; leave one of them out"
            )
