"""The network while it trains: its numbers, and an executor for each shape that is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.mx import mx
from probe.promote.graph import (
    DATA,
    TARGET,
    Architecture,
    bind,
    frozen_graph,
    mask_shapes,
    prediction_graph,
    training_graph,
)
from probe.promote.groups import Rate
from probe.promote.state import State

Masks = Callable[[str, tuple[int, ...]], NDArray[np.float32]]


class Network:
    """A backbone and a head whose upper part learns.

    Parameters
    ----------
    arch : Architecture
    state : State
    batch_size : int
        Of training.
    accumulate : bool
        Several batches make one step: gradients are added up.
    """

    def __init__(
        self, arch: Architecture, state: State, *, batch_size: int, accumulate: bool
    ) -> None:
        self.arch, self.state, self.batch_size = arch, state, batch_size
        self._accumulate = accumulate
        self._frozen = 0
        self._learning: Mapping[str, Rate] = {}
        self._lower: dict[int, Any] = {}
        self._upper: dict[int, Any] = {}
        self._whole: dict[tuple[int, ...], Any] = {}
        self._dropout: dict[int, tuple[str, ...]] = {}

    @property
    def frozen(self) -> int:
        """Blocks, from the input up, that stay as they are."""
        return self._frozen

    def learn(self, rates: Mapping[str, Rate], frozen: int) -> None:
        """Let these parameters learn, above so many frozen blocks."""
        self._frozen, self._learning = frozen, rates
        self._lower, self._upper = {}, {}
        self.state.learn(rates)

    def step(
        self, data: NDArray[Any], targets: NDArray[np.float32], masks: Masks, *, size: int
    ) -> Any:
        """Compute the gradient of a batch.

        Parameters
        ----------
        data : uint8, (N, S, S, 3), RGB; or float32, (N, ...)
            Images, or what the frozen blocks made of them.
        targets : float32, (N, K)
        masks : callable
            (name, shape) -> what a Dropout multiplies by.
        size : int
            S.

        Returns
        -------
        NDArray, (2,)
            Mean loss and the part of images, or decisions, that are right; not waited for.
        """
        pixels = data.dtype == np.uint8
        given = self._map(data) if pixels and self._frozen else mx.nd.array(data, dtype=data.dtype)
        upper = self._training(size, given.shape)
        arrays = upper.arg_dict
        arrays[DATA][:] = given
        arrays[TARGET][:] = mx.nd.array(targets)
        for name in self._dropout[size]:
            arrays[name][:] = mx.nd.array(masks(name, arrays[name].shape))
        outputs = upper.forward(is_train=True)
        upper.backward()
        return outputs[1].copy()

    def lower(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the frozen blocks make of images, float32, (N, ...)."""
        found: NDArray[np.float32] = self._map(images).asnumpy()
        return found

    def predict(
        self, batches: Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]]:
        """Yield (rows, features, probabilities) of batches of one size, the last one padded."""
        for rows, images in batches:
            executor = self._prediction(images.shape)
            executor.arg_dict[DATA][:] = mx.nd.array(images, dtype="uint8")
            features, p, _ = executor.forward(is_train=True)  # see `probe.promote.graph`
            yield rows, features.asnumpy()[: len(rows)], p.asnumpy()[: len(rows)]

    def _map(self, images: NDArray[np.uint8]) -> Any:
        size, shape = images.shape[1], images.shape
        if size not in self._lower:
            graph = frozen_graph(self.arch, size, self._frozen)
            self._lower[size] = bind(graph, self.state.arrays(), {DATA: (shape, "uint8")})
        executor = self._lower[size]
        executor.arg_dict[DATA][:] = mx.nd.array(images, dtype="uint8")
        return executor.forward(is_train=True)[0]

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
                graph, arrays, inputs, gradients=gradients, add=self._accumulate,
                shared=shared,
            )  # fmt: skip
            self._dropout[size] = graph.masks
        return self._upper[size]

    def _prediction(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._whole:  # few validation images are a batch of their own size
            graph = prediction_graph(self.arch, shape[1])
            arrays = self.state.arrays(averaged=True)
            self._whole[shape] = bind(graph, arrays, {DATA: (shape, "uint8")})
        return self._whole[shape]
