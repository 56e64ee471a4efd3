"""The network in training: its state, and an executor for each input shape."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.machine import give_back_memory
from probe.engines import load_mxnet
from probe.finetune.graph import (
    DATA,
    TARGET,
    Architecture,
    bind,
    frozen_graph,
    mask_shapes,
    prediction_graph,
    training_graph,
)
from probe.finetune.rates import Rate
from probe.finetune.state import State

mx = load_mxnet("fine-tuning").mx

Masks = Callable[[str, tuple[int, ...]], NDArray[np.float32]]


class Network:
    """A backbone and a head whose upper part learns.

    Parameters
    ----------
    batch_size : int
        Images per batch in training.
    accumulate : bool
        Several batches make one step, so that gradients are added up.
    """

    def __init__(
        self, arch: Architecture, state: State, *, batch_size: int, accumulate: bool
    ) -> None:
        self.arch, self.state, self.batch_size = arch, state, batch_size
        self.part: int | None = None  # images computed at a time; None: a whole batch
        self._accumulate = accumulate
        self._frozen = 0
        self._learning: Mapping[str, Rate] = {}
        self._lower: dict[int, Any] = {}
        self._upper: dict[int, Any] = {}
        self._whole: dict[tuple[int, ...], Any] = {}
        self._dropout: dict[int, tuple[str, ...]] = {}

    @property
    def frozen(self) -> int:
        """Number of frozen blocks, counted from the input."""
        return self._frozen

    @property
    def parts(self) -> int:
        """How many parts a batch is computed in; gradients are then sums over them."""
        return self.batch_size // (self.part or self.batch_size)

    @property
    def adds(self) -> bool:
        """Whether gradients are added up over several passes."""
        return self._accumulate or self.parts > 1

    def release(self) -> None:
        """Free working memory; it is allocated again when it is needed."""
        self._lower, self._upper, self._whole = {}, {}, {}
        _give_back()

    def learn(self, rates: Mapping[str, Rate], frozen: int) -> None:
        """Set which parameters learn, and the number of frozen blocks below them."""
        self._frozen, self._learning = frozen, rates
        if self._lower or self._upper:
            self._lower, self._upper = {}, {}
            _give_back()
        self.state.learn(rates)

    def step(
        self, data: NDArray[Any], targets: NDArray[np.float32], masks: Masks, *, size: int
    ) -> Any:
        """Compute the gradient of a batch: the sum over its `parts`, each of a part's mean loss.

        Parameters
        ----------
        data : uint8, (N, S, S, 3), RGB; or float32, (N, ...)
            Images, or the frozen blocks' output of them.
        targets : float32, (N, K)
        masks : callable
            From (name, shape) to a Dropout mask.
        size : int
            S.

        Returns
        -------
        NDArray, (2,)
            Mean loss and share of right images, or decisions; still being computed.
        """
        count, figures = len(data), mx.nd.zeros(2)
        part = min(self.part or count, count)
        drawn: dict[str, NDArray[np.float32]] = {}
        for start in range(0, count, part):
            some = data[start : start + part]
            given = self._below(some)
            upper = self._training(size, given.shape)
            arrays = upper.arg_dict
            arrays[DATA][:] = given
            arrays[TARGET][:] = mx.nd.array(targets[start : start + part])
            for name in self._dropout[size]:
                if name not in drawn:  # for the whole batch, however it is divided
                    drawn[name] = masks(name, (count, *arrays[name].shape[1:]))
                arrays[name][:] = mx.nd.array(drawn[name][start : start + part])
            outputs = upper.forward(is_train=True)
            upper.backward()
            figures = figures + outputs[1]
        return figures * (part / count)

    def planned(self, images: int, size: int) -> tuple[int, int]:
        """Return the bytes that MXNet plans for so many images in training, and in prediction.

        Executors are bound and freed again; nothing is computed.
        """
        shape = (images, size, size, 3)
        own = self.arch.preprocess.size
        predicted = _planned(self._prediction((images, own, own, 3)))
        learnt = 0
        if self._frozen:
            lower = self._bind_lower(shape)
            learnt += _planned(lower)
            shape = lower.outputs[0].shape
        learnt += _planned(self._training(size, shape))
        self.release()
        return learnt, predicted

    def _below(self, data: NDArray[Any]) -> Any:
        """Return the input of the learning part: images, or the frozen blocks' output of them."""
        if self._frozen and data.dtype == np.uint8:
            return self._map(data)
        return mx.nd.array(data, dtype=data.dtype)

    def lower(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the frozen blocks' output of images, float32, (N, ...)."""
        found: NDArray[np.float32] = self._map(images).asnumpy()
        return found

    def predict(
        self, batches: Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]]:
        """Yield (rows, features, probabilities) of batches of one size, the last one padded."""
        for rows, images in batches:
            executor = self._prediction(images.shape)
            executor.arg_dict[DATA][:] = mx.nd.array(images, dtype="uint8")
            features, p, _ = executor.forward(is_train=True)  # see `probe.finetune.graph`
            yield rows, features.asnumpy()[: len(rows)], p.asnumpy()[: len(rows)]

    def _map(self, images: NDArray[np.uint8]) -> Any:
        size, shape = images.shape[1], images.shape
        if size not in self._lower:
            self._lower[size] = self._bind_lower(shape)
        executor = self._lower[size]
        executor.arg_dict[DATA][:] = mx.nd.array(images, dtype="uint8")
        return executor.forward(is_train=True)[0]

    def _bind_lower(self, shape: tuple[int, ...]) -> Any:
        graph = frozen_graph(self.arch, shape[1], self._frozen)
        return bind(graph, self.state.arrays(), {DATA: (shape, "uint8")})

    def _training(self, size: int, shape: tuple[int, ...]) -> Any:
        if size not in self._upper:
            graph = training_graph(self.arch, size, self._frozen)
            target = (shape[0], self.arch.widths[-1])
            arrays = self.state.arrays()
            shapes = mask_shapes(graph, arrays, shape, target)
            kind = "float32" if self._frozen else "uint8"
            inputs = {DATA: (shape, kind), TARGET: (target, "float32")}
            inputs |= {name: (one, "float32") for name, one in shapes.items()}
            slices = self.state.weights.slices(self.state.gradients)
            gradients = {name: slices[name] for name in self._learning}
            shared = next(iter(self._upper.values()), None)
            self._upper[size] = bind(
                graph, arrays, inputs, gradients=gradients, add=self.adds,
                shared=shared,
            )  # fmt: skip
            self._dropout[size] = graph.masks
        return self._upper[size]

    def _prediction(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._whole:  # few validation images are a batch of their own size
            if self._whole:  # one at a time: validation and test follow one another
                self._whole.clear()
                _give_back()
            graph = prediction_graph(self.arch, shape[1])
            arrays = self.state.arrays(averaged=True)
            self._whole[shape] = bind(graph, arrays, {DATA: (shape, "uint8")})
        return self._whole[shape]


def _planned(executor: Any) -> int:
    """Return the bytes that an executor plans, in whole megabytes."""
    found = re.search(r"Total (\d+) MB allocated", executor.debug_str())
    return int(found[1]) << 20 if found else 0


def _give_back() -> None:
    """Return freed memory of executors to the system, which the allocator would keep."""
    mx.nd.waitall()
    gc.collect()
    give_back_memory()
