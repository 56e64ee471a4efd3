"""What every reader of weight files returns: names of tensors that are read only when needed.

A tensor knows its position in the file, and `read` reads exactly those bytes, a block at a time,
into one float32 array. Files are not memory-mapped: mapped pages count as the process's own memory
once they are touched, and the process is killed if the file shrinks meanwhile.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.architecture import Graph

Shape = tuple[int, ...]
Float32 = NDArray[np.float32]

PREPROCESS_KEY = "probe.preprocess"  # of a file's metadata, where probe wrote it

AS_FLOAT32 = (
    "load it in PyTorch and save it as float32, "
    "torch.save({name: one.float() for name, one in model.state_dict().items()}, FILE)"
)
BLOCK_BYTES = 1 << 24
MAX_DIMENSIONS = 8
FLOATING = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")
ITEM_BYTES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float8_e4m3fn": 1, "float8_e5m2": 1,
}  # fmt: skip
MAX_EXPANDED = 1 << 24  # bytes of a tensor that repeats few stored elements (torch's `expand`)
AS_BITS = {  # types that NumPy does not have -> the type that they are read as
    "bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8",
}  # fmt: skip


def _e4m3fn() -> Float32:
    """Return the float8 value of each byte: a sign, 4 bits of exponent (bias 7), 3 of fraction."""
    byte = np.arange(256)
    exponent, fraction = byte >> 3 & 15, byte & 7
    size = np.where(
        exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0)
    )
    size = np.where(byte & 127 == 127, np.nan, size)
    return np.where(byte & 128, -size, size).astype(np.float32)


_E4M3FN = _e4m3fn()


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a file that is read when it is needed.

    Parameters
    ----------
    dtype : str
        The stored type: ``float32``, ``float16``, ``bfloat16``, ``float64``, ``int64`` ...
    fetch : callable
        ``fetch(start, stop)`` returns those rows of the first axis in the stored type; a scalar
        counts as one row.
    in_blocks : bool, default=True
        Whether rows lie one after another, so that reading them in blocks costs no extra time.
    fill : callable, optional
        ``fill(start, into)`` reads rows directly into a float32 array; only of float32 tensors.
    """

    shape: Shape
    dtype: str
    fetch: Callable[[int, int], NDArray[Any]]
    in_blocks: bool = True
    fill: Callable[[int, Float32], None] | None = None

    @property
    def nbytes(self) -> int:
        """Return the size in bytes of the stored type."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def rows(self, start: int, stop: int) -> Float32:
        """Return rows `start` to `stop` of the first axis, float32, C-contiguous.

        Raises
        ------
        WeightsError
            The stored type is not a floating point type, or the file ends too early.
        """
        if self.dtype not in FLOATING:
            raise WeightsError(f"a tensor is stored as {self.dtype}, not as floating point numbers")
        stored = self.fetch(start, stop)
        if self.dtype == "bfloat16":  # the upper half of a float32
            return (stored.astype(np.uint32) << 16).view(np.float32)
        if self.dtype == "float8_e5m2":  # the upper half of a float16
            return (stored.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
        if self.dtype == "float8_e4m3fn":
            values: Float32 = _E4M3FN[stored]
            return values
        with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf: see `load`
            return np.ascontiguousarray(stored, dtype=np.float32)

    def rows_into(self, start: int, into: Float32) -> None:
        """Fill `into`, C-contiguous, with the rows of the first axis from `start` on.

        Raises
        ------
        WeightsError
            As `rows`.
        """
        if self.fill is not None:
            self.fill(start, into)
        else:
            into[...] = self.rows(start, start + len(into))

    def read(self) -> Float32:
        """Return the whole tensor, float32, C-contiguous, writable.

        Raises
        ------
        WeightsError
            The stored type is not a floating point type, or the file ends too early.
        """
        count = self.shape[0] if self.shape else 1
        row_bytes = self.nbytes // max(count, 1)
        step = max(1, BLOCK_BYTES // max(row_bytes, 1)) if self.in_blocks else count
        if step >= count:
            return self.rows(0, count).reshape(self.shape)
        whole = np.empty(self.shape, np.float32)
        for start in range(0, count, step):
            stop = min(start + step, count)
            self.rows_into(start, whole[start:stop])
        return whole


@dataclass(frozen=True)
class TensorFile:
    """The contents of a weight file.

    Parameters
    ----------
    format : str
        ``torch``, ``keras``, ``gluon``, ``safetensors``, ``caffe`` or ``onnx``.
    tensors : mapping of str to LazyTensor
    metadata : mapping of str to str
        What the format stores beside the tensors; ``probe.preprocess`` is a PreprocessSpec.
    unsure : mapping of str to str
        Tensors whose layout is ambiguous -> the reason, for messages.
    notes : tuple of str
        How the tensors were changed, and what was left out, for messages.
    graph : Graph, optional
        The network that the file describes.
    """

    __repr__ = short_repr

    path: Path
    format: str
    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    unsure: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    graph: Graph | None = None


def check_shape(path: Path, name: str, shape: object) -> Shape:
    """Return a shape read from a file as a tuple.

    Raises
    ------
    UnsafeFileError
        It is not a sequence of at most 8 whole numbers from 0 up.
    """
    ok = isinstance(shape, tuple | list) and len(shape) <= MAX_DIMENSIONS
    if not ok or any(type(side) is not int or side < 0 for side in shape):  # type: ignore[attr-defined]
        raise UnsafeFileError(f"{path}: tensor {name!r} has an impossible shape; nothing was read")
    return tuple(shape)  # type: ignore[arg-type]


def raw_tensor(
    path: Path, name: str, dtype: str, shape: Shape, *, offset: int, available: int,
    strides: Shape | None = None,
) -> LazyTensor:  # fmt: skip
    """Return a tensor that is stored in a file as little-endian elements.

    Parameters
    ----------
    offset : int
        Position of its first element, in bytes from the start of the file.
    available : int
        Bytes from `offset` on that may belong to it.
    strides : tuple of int, optional
        In elements; default: C order. Where one is 0, stored elements are repeated.

    Raises
    ------
    UnsafeFileError
        The tensor needs more bytes than there are.
    WeightsError
        It repeats stored elements and would have more than 16 MiB.
    """
    item = ITEM_BYTES[dtype]
    if strides == _c_strides(shape) or 0 in shape:
        strides = None
    span = math.prod(shape) if strides is None else 1 + _reach(shape, strides)
    size = math.prod(shape) * item
    if span * item <= available < size and size > MAX_EXPANDED:  # a few bytes could fill the memory
        raise WeightsError(
            f"{path}: tensor {name!r} repeats its stored elements up to {size} bytes "
            "(torch's `expand`); save it with `.contiguous()`"
        )
    if (claimed := span * item) > available:
        raise UnsafeFileError(
            f"{path}: tensor {name!r} claims {claimed} bytes where there are {max(available, 0)}; "
            "the file is damaged"
        )

    def fetch(start: int, stop: int) -> NDArray[Any]:
        if strides is None:
            row = math.prod(shape[1:])
            flat = _read_items(path, dtype, offset + start * row * item, (stop - start) * row)
            return flat.reshape(stop - start, *shape[1:])
        part = (stop - start, *shape[1:])
        flat = _read_items(
            path, dtype, offset + start * strides[0] * item, 1 + _reach(part, strides)
        )
        return np.lib.stride_tricks.as_strided(
            flat, part, tuple(s * item for s in strides), writeable=False
        )

    def fill(start: int, into: Float32) -> None:
        with open_regular(path, buffering=0) as file:
            file.seek(offset + start * math.prod(shape[1:]) * item)
            _fill(path, file, into)

    as_is = dtype == "float32" and strides is None and sys.byteorder == "little"
    return LazyTensor(shape, dtype, fetch, in_blocks=strides is None, fill=fill if as_is else None)


def _fill(path: Path, file: io.BufferedReader, into: Float32) -> None:
    left = into.reshape(-1).view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise _changed(path)
        left = left[count:]


def _read_items(path: Path, dtype: str, offset: int, count: int) -> NDArray[Any]:
    stored = np.dtype(AS_BITS.get(dtype, dtype)).newbyteorder("<")
    with open_regular(path, buffering=0) as file:
        file.seek(offset)
        items = np.fromfile(file, stored, count)
    if len(items) != count:
        raise _changed(path)
    return items


def _changed(path: Path) -> WeightsError:
    return WeightsError(f"{path}: ends before its last tensor; it changed while it was read")


def _c_strides(shape: Shape) -> Shape:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _reach(shape: Shape, strides: Shape) -> int:
    return sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
