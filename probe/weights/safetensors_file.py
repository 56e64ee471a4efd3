"""Read and write safetensors files: the library checks the header, tensors are read in place.

The library's own reader maps the whole file into memory and has no bfloat16 for NumPy.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

from probe.core.records import loads_json
from probe.core.regular import open_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.tensors import (
    AS_FLOAT32,
    Float32,
    LazyTensor,
    Shape,
    TensorFile,
    check_shape,
    raw_tensor,
)

_TYPES = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def read_safetensors(path: Path) -> TensorFile:
    """Return the tensors of a safetensors file.

    Raises
    ------
    UnsafeFileError
        The header's offsets overlap, leave gaps or end beyond the file.
    WeightsError
        A tensor has a type that is not supported.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as checked:
            metadata = dict(checked.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UnsafeFileError(
            f"{path}: its header does not match its contents ({reason})"
        ) from None
    size = path.stat().st_size
    with open_regular(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = loads_json(file.read(min(length, size)))
    header.pop("__metadata__", None)
    tensors: dict[str, LazyTensor] = {}
    for name, entry in header.items():
        if entry["dtype"] not in _TYPES:
            raise WeightsError(
                f"{path}: tensor {name!r} has type {entry['dtype']}, which is not supported; "
                f"{AS_FLOAT32}"
            )
        shape = check_shape(path, name, entry["shape"])
        start, end = entry["data_offsets"]
        tensors[name] = raw_tensor(
            path, name, _TYPES[entry["dtype"]], shape,
            offset=8 + length + start, available=end - start,
        )  # fmt: skip
    return TensorFile(path, "safetensors", tensors, metadata)


def write_safetensors(
    path: Path,
    parameters: Mapping[str, Float32],
    shapes: Mapping[str, Shape],
    metadata: Mapping[str, str],
) -> None:
    """Write float32 arrays one at a time; the library's writer needs all in memory, twice.

    Parameters
    ----------
    parameters : mapping of name to float32 array
        Read one at a time, so that a lazy mapping needs memory for one array.
    shapes : mapping of name to shape
        Of all arrays, since the header comes first.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in sorted(shapes):
        start, end = end, end + 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of their size
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(shapes):
            parameters[name].astype("<f4", copy=False).tofile(file)
