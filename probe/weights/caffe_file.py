"""Caffe's `.caffemodel`, with V1 messages (`layers`) or V2 (`layer`), and `.binaryproto` means.

Tensors are called ``layer/0``, ``layer/1`` in the order of the layer's blobs. Nothing is executed
and no prototxt is needed: a trained model holds the names, types and settings of its layers.

References
----------
BVLC/caffe, src/caffe/proto/caffe.proto: NetParameter, LayerParameter, V1LayerParameter, BlobProto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UnsafeFileError, WeightsError
from probe.weights.caffe_graph import CaffeLayer, caffe_graph, read_layer
from probe.weights.tensors import Float32, LazyTensor, Shape, TensorFile, check_shape, raw_tensor
from probe.weights.wire import BYTES, FIXED32, FIXED64, Field, Wire

NET_NAME, NET_V1, NET_V2 = 1, 2, 100  # of NetParameter
LAYER_NAME = {NET_V1: 4, NET_V2: 1}
LAYER_BLOBS = {NET_V1: 6, NET_V2: 7}
OLD_SIDES, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8  # of BlobProto
MAX_SHAPE = 256
MAX_SPLIT = 1 << 20  # numbers that are stored one by one; every blob that matters is packed


def looks_like_caffe(path: Path) -> bool:
    """Whether a file begins as a NetParameter that holds layers."""
    try:
        with path.open("rb") as file:
            wire = Wire(path, file)
            for seen, field in enumerate(wire.fields(wire.whole())):
                if field.kind == BYTES and field.number in (NET_V1, NET_V2):
                    return next(_parts(wire, field), None) is not None
                if seen > 16:
                    break
    except UnsafeFileError:
        pass
    return False


def read_caffe(path: Path) -> TensorFile:
    """Return what a `.caffemodel` holds.

    Raises
    ------
    UnsafeFileError
        It claims more than there is, or two layers share a name.
    WeightsError
        There are no weights in it.
    """
    tensors: dict[str, LazyTensor] = {}
    order: list[str] = []
    layers: list[CaffeLayer] = []
    with path.open("rb") as file:
        wire = Wire(path, file)
        for layer in wire.fields(wire.whole()):
            if layer.number not in (NET_V1, NET_V2) or layer.kind != BYTES:
                continue
            name, blobs = _layer(wire, layer)
            order.append(name)
            shapes = []
            for number, blob in enumerate(blobs):
                one = f"{name}/{number}"
                if one in tensors:
                    raise UnsafeFileError(f"{path}: two tensors are called {one!r}")
                tensors[one] = _tensor(wire, one, blob)
                shapes.append(tensors[one].shape)
            described = read_layer(wire, layer, name=name, new=layer.number == NET_V2)
            layers.append(replace(described, blobs=tuple(shapes)))
    if not tensors:
        raise WeightsError(f"{path}: a Caffe network without weights in it")
    named = {"caffe.layers": " ".join(order)}
    return TensorFile(path, "caffe", tensors, named, graph=caffe_graph(layers))


def read_mean(path: Path) -> Float32:
    """Return the mean image of a `.binaryproto`, float32, (channels, height, width), BGR.

    Raises
    ------
    WeightsError, UnsafeFileError
        It cannot be read, is no blob, or not of three channels.
    """
    try:
        with path.open("rb") as file:
            wire = Wire(path, file)
            mean = _tensor(wire, "the mean", wire.whole())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    shape = mean.shape[1:] if len(mean.shape) == 4 and mean.shape[0] == 1 else mean.shape
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise WeightsError(f"{path}: no mean of three channels, but of shape {mean.shape}")
    return mean.read().reshape(shape)


def mean_of_channels(path: Path) -> tuple[float, float, float]:
    """Return the means of a mean image's channels: blue, green and red, from 0 to 255.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `read_mean`; also where a mean is beyond what pixels can have.
    """
    blue, green, red = (float(value) for value in read_mean(path).mean(axis=(1, 2)))
    if not all(0 <= value <= 255 for value in (blue, green, red)):  # NaN, too
        raise WeightsError(f"{path}: no mean of pixels from 0 to 255: {blue:g}, {green:g}, {red:g}")
    return blue, green, red


def _parts(wire: Wire, layer: Field) -> Iterator[Field]:
    name = LAYER_NAME[layer.number]
    return (field for field in wire.fields(layer) if field.number == name)


def _layer(wire: Wire, layer: Field) -> tuple[str, list[Field]]:
    name, blobs = "", []
    for field in wire.fields(layer):
        if field.kind != BYTES:
            continue
        if field.number == LAYER_NAME[layer.number]:
            name = wire.text(field)
        elif field.number == LAYER_BLOBS[layer.number]:
            blobs.append(field)
    return name, blobs


def _tensor(wire: Wire, name: str, blob: Field) -> LazyTensor:
    sides: dict[int, int] = {}
    shape: list[int] | None = None
    runs: list[Field] = []
    for field in wire.fields(blob):
        if field.number in OLD_SIDES:
            sides[field.number] = field.value
        elif field.number == SHAPE:
            shape = [
                side
                for part in wire.fields(field)
                if part.number == 1
                for side in wire.numbers(part, MAX_SHAPE)
            ]
        elif field.number in (DATA, DOUBLE_DATA):
            runs.append(field)
    if shape is None:
        shape = _without_ones([sides.get(number, 1) for number in OLD_SIDES]) if sides else [0]
    checked = check_shape(wire.path, name, shape)
    if len(runs) == 1 and runs[0].kind == BYTES:
        dtype = "float32" if runs[0].number == DATA else "float64"
        if runs[0].length != math.prod(checked) * (4 if dtype == "float32" else 8):
            raise wire.damaged(f"has a blob {name!r} of shape {checked} in {runs[0].length} bytes")
        return raw_tensor(
            wire.path, name, dtype, checked, offset=runs[0].start, available=runs[0].length
        )
    return _one_by_one(wire, name, checked, runs)


def _without_ones(sides: list[int]) -> list[int]:
    """Old blobs have four sides always: (1, 1, 1, n) is a vector, (1, 1, out, in) a matrix."""
    if sides[:3] == [1, 1, 1]:
        return sides[3:]
    return sides[2:] if sides[:2] == [1, 1] else sides


def _one_by_one(wire: Wire, name: str, shape: Shape, runs: list[Field]) -> LazyTensor:
    """A blob of a writer that did not pack its numbers, or in several parts."""
    if len(runs) > MAX_SPLIT or math.prod(shape) > MAX_SPLIT:
        raise wire.damaged(f"has a blob {name!r} that is not packed")
    kinds = {FIXED32: "<f4", FIXED64: "<f8"}
    parts: list[NDArray[Any]] = []
    for run in runs:
        packed = "<f4" if run.number == DATA else "<f8"
        parts.append(np.frombuffer(wire.data(run, 8 * MAX_SPLIT), kinds.get(run.kind, packed)))
    whole = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if whole.size != math.prod(shape):
        raise wire.damaged(f"has a blob {name!r} of shape {shape} in {whole.size} numbers")
    array = whole.astype(np.float32).reshape(shape or (1,))
    return LazyTensor(shape, "float32", lambda start, stop: array[start:stop])
