"""The state of a training in a few buffers, of which each parameter is a slice.

weights    all parameters that may learn
gradients  of the same layout
aux        running statistics of BatchNorms
fixed      constants of preprocessing and of the features' normalisation
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.engines import load_mxnet
from probe.finetune.optimizers import OPTIMIZERS, STATES, Update
from probe.finetune.options import OptimizerName
from probe.finetune.rates import Rate, block_of

mx = load_mxnet("fine-tuning").mx

ALIGNMENT = 16  # float32 numbers: 64 bytes, a cache line, which MKL-DNN's kernels like
STATISTICS = ("running_mean", "running_var")

Float32 = NDArray[np.float32]


def finish() -> None:
    """Wait for all computation that was dispatched.

    MXNet does not count the backward pass of a BatchNorm as a writer of its running statistics, so
    that they could be read before they are updated.
    """
    mx.nd.waitall()


class Buffer:
    """One float32 array and its slices by name."""

    def __init__(self, values: Mapping[str, Float32], order: Sequence[str]) -> None:
        self.places: dict[str, tuple[int, tuple[int, ...]]] = {}
        size = 0
        for name in order:
            self.places[name] = size, values[name].shape
            size += -(-math.prod(values[name].shape) // ALIGNMENT) * ALIGNMENT
        whole = np.zeros(max(size, ALIGNMENT), np.float32)
        for name, (start, shape) in self.places.items():
            whole[start : start + math.prod(shape)] = values[name].ravel()
        self.array = mx.nd.array(whole)

    def __len__(self) -> int:
        return int(self.array.size)

    def like(self) -> Any:
        """Return zeros of the same length."""
        return mx.nd.zeros(len(self))

    def slices(self, array: Any | None = None) -> dict[str, Any]:
        """Return each parameter as a view of this buffer, or of another of the same layout."""
        base = self.array if array is None else array
        return {
            name: base[start : start + math.prod(shape)].reshape(shape)
            for name, (start, shape) in self.places.items()
        }

    def values(self, array: Any | None = None) -> dict[str, Float32]:
        """Return copies by name."""
        finish()
        whole = (self.array if array is None else array).asnumpy()
        return {
            name: whole[start : start + math.prod(shape)].reshape(shape).copy()
            for name, (start, shape) in self.places.items()
        }


@dataclass(frozen=True, kw_only=True)
class Group:
    """A range of the buffer whose parameters have the same rate."""

    start: int
    stop: int
    rate: Rate


def group_parameters(buffer: Buffer, rates: Mapping[str, Rate]) -> list[Group]:
    """Return the ranges of parameters with the same rate; frozen parameters are in none."""
    found: list[Group] = []
    for name, (start, shape) in buffer.places.items():
        rate, stop = rates.get(name), start + -(-math.prod(shape) // ALIGNMENT) * ALIGNMENT
        if rate is None:
            continue
        if found and found[-1].stop == start and found[-1].rate == rate:
            found[-1] = Group(start=found[-1].start, stop=stop, rate=rate)
        else:
            found.append(Group(start=start, stop=stop, rate=rate))
    return found


@dataclass(kw_only=True, eq=False)
class State:
    """Weights, running statistics, optimizer state and averages: what a step changes.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        Parameters of backbone and head, with running statistics.
    fixed : mapping of name to float32 array
    ema : float
        See Options.
    """

    __repr__ = short_repr

    parameters: Mapping[str, Float32]
    fixed: Mapping[str, Float32]
    optimizer: OptimizerName
    ema: float
    groups: list[Group] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        names = [n for n in self.parameters if not n.endswith(STATISTICS)]
        # weights with decay first, each from the input to the output, so that there are few groups
        names.sort(key=lambda n: (not n.endswith(".weight"), block_of(n) % (1 << 30), n))
        self.weights = Buffer(self.parameters, names)
        self.aux = Buffer(self.parameters, [n for n in self.parameters if n.endswith(STATISTICS)])
        self.gradients = self.weights.like()
        self.moments = [self.weights.like() for _ in range(STATES[self.optimizer])]
        self.constants = {name: mx.nd.array(value) for name, value in self.fixed.items()}
        self.averages = [self.weights.array.copy(), self.aux.array.copy()] if self.ema else []
        self.parameters = {}  # they are in the buffers now

    def arrays(self, *, averaged: bool = False) -> dict[str, Any]:
        """Return the arrays to bind graphs to, by canonical name."""
        weights, aux = self.averages if averaged and self.ema else (None, None)
        return self.weights.slices(weights) | self.aux.slices(aux) | self.constants

    def best_values(self) -> dict[str, Float32]:
        """Return copies of what is evaluated: the averages if there are any, else the weights."""
        weights, aux = self.averages if self.ema else (None, None)
        return self.weights.values(weights) | self.aux.values(aux)

    def put(self, values: Mapping[str, Float32]) -> None:
        """Set parameters by name for evaluation, as weights and as averages."""
        for arrays in (self.arrays(), self.arrays(averaged=True)):
            for name, value in values.items():
                arrays[name][:] = mx.nd.array(value)

    def learn(self, rates: Mapping[str, Rate]) -> None:
        """Set which parameters learn, and at which rates."""
        self.groups = group_parameters(self.weights, rates)
        self.gradients[:] = 0  # frozen parameters must not count in the norm

    def norm(self) -> float:
        """Return the Euclidean norm of the gradient."""
        return math.sqrt(float(mx.nd.dot(self.gradients, self.gradients).asscalar()))

    def update(self, *, lr: float, wd: float, momentum: float, rescale: float) -> None:
        """Take one step of the optimizer and update the averages."""
        self.steps += 1
        shared = Update(step=self.steps, lr=lr, momentum=momentum, rescale=rescale)
        step = OPTIMIZERS[self.optimizer]
        for group in self.groups:
            arrays = [
                array[group.start : group.stop]
                for array in (self.weights.array, self.gradients, *self.moments)
            ]
            step(shared, arrays, lr * group.rate.factor, wd if group.rate.decayed else 0.0)
        if self.averages:
            finish()
        for average, now in zip(self.averages, (self.weights.array, self.aux.array), strict=False):
            # ema * average + (1 - ema) * now, by the one operator that does both in place
            mx.nd.sgd_update(average, now, out=average, lr=1 - self.ema, wd=1.0, rescale_grad=-1.0)

    def snapshot(self) -> dict[str, Float32]:
        """Return copies of all buffers by name, for a checkpoint."""
        finish()
        return {name: array.asnumpy() for name, array in self._buffers().items()}

    def restore(self, saved: Mapping[str, Float32], steps: int) -> None:
        """Copy a snapshot into the same arrays.

        Raises
        ------
        ValueError
            The snapshot is of another network or optimizer.
        """
        buffers = self._buffers()
        if {n: a.shape for n, a in saved.items()} != {n: a.shape for n, a in buffers.items()}:
            raise ValueError("it is of another network or optimizer")
        for name, array in buffers.items():
            array[:] = mx.nd.array(saved[name])
        self.steps = steps

    def _buffers(self) -> dict[str, Any]:
        found = {"weights": self.weights.array, "aux": self.aux.array}
        found |= {f"moment{n}": one for n, one in enumerate(self.moments)}
        return found | {f"average{n}": one for n, one in enumerate(self.averages)}
