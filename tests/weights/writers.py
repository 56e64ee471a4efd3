"""Small writers of each weight format, so that no test needs the framework it came from.

They follow the published layouts, not the readers, which were also tried on files that torch 2.13,
Keras 3.15 and MXNet 1.9.1 wrote.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint16": "BFloat16Storage",  # bfloat16 is written as its bits
}


def glob(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def many(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def mapping(items: Mapping[str, bytes], ordered: bool = False) -> bytes:
    empty = glob("collections", "OrderedDict") + b")R" if ordered else b"}"
    return empty + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def tensor(
    storage: str,
    key: str,
    count: int,
    shape: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    offset: int = 0,
    view: bytes = b"",
    parameter: bool = False,
) -> bytes:
    if strides is None:
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    reference = many(
        text("storage"), glob("torch", storage), text(key), text("cpu"), integer(count), view
    )
    body = many(
        reference + b"Q",
        integer(offset),
        many(*map(integer, shape)),
        many(*map(integer, strides)),
        b"\x89",
        glob("collections", "OrderedDict") + b")R",
    )
    built = glob("torch._utils", "_rebuild_tensor_v2") + body + b"R"
    if not parameter:
        return built
    hooks = glob("collections", "OrderedDict") + b")R"
    return glob("torch._utils", "_rebuild_parameter") + many(built, b"\x88", hooks) + b"R"


def state_dict(arrays: Arrays, *, parameters: bool = False) -> bytes:
    """The pickled middle: storage i belongs to array i; F-ordered arrays keep their strides."""
    items = {}
    for i, (name, array) in enumerate(arrays.items()):
        strides = [s // array.itemsize for s in array.strides]
        storage = STORAGES[array.dtype.name]
        items[name] = tensor(
            storage, str(i), array.size, array.shape, strides=strides, parameter=parameters
        )
    return mapping(items, ordered=True)


def storage_bytes(array: NDArray[Any]) -> bytes:
    return array.tobytes(order="A")


def nest(body: bytes, key: str | None) -> bytes:
    return body if key is None else mapping({"epoch": integer(7), key: body})


def write_torch_zip(
    path: Path, arrays: Arrays, *, under: str | None = None, parameters: bool = False
) -> Path:
    pickle = b"\x80\x02" + nest(state_dict(arrays, parameters=parameters), under) + b"."
    return write_zip(path, pickle, [storage_bytes(array) for array in arrays.values()])


def write_zip(
    path: Path, pickle: bytes, storages: Sequence[bytes], method: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", "little")
        for i, data in enumerate(storages):
            archive.writestr(f"archive/data/{i}", data)
        archive.writestr("archive/version", "3\n")
    return path


def write_torch_stream(path: Path, arrays: Arrays, *, under: str | None = None) -> Path:
    body = nest(state_dict(arrays), under)
    keys = b"](" + b"".join(text(str(i)) for i in range(len(arrays))) + b"e"
    system = mapping({"protocol_version": integer(1001), "little_endian": b"\x88"})
    with path.open("wb") as file:
        file.write(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")
        for pickle in (integer(1001), system, body, keys):
            file.write(b"\x80\x02" + pickle + b".")
        for array in arrays.values():
            file.write(struct.pack("<q", array.size) + storage_bytes(array))
    return path


GLUON_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int64": 6}


def gluon_array(array: NDArray[Any], magic: int | None = 0xF993FAC9) -> bytes:
    out = b"" if magic is None else struct.pack("<I", magic)
    if magic in (0xF993FAC9, 0xF993FACA):
        out += struct.pack("<i", 0)
    side = "I" if magic is None else "q"
    out += struct.pack(f"<I{array.ndim}{side}", array.ndim, *array.shape)
    return out + struct.pack("<iii", 1, 0, GLUON_TYPES[array.dtype.name]) + array.tobytes()


def write_gluon(path: Path, arrays: Arrays, magic: int | None = 0xF993FAC9) -> Path:
    names = [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", 0x112, 0, len(arrays)))
        file.writelines(gluon_array(array, magic) for array in arrays.values())
        file.write(struct.pack("<Q", len(arrays)))
        file.writelines(names)
    return path


def write_keras(path: Path, arrays: Arrays, *, root: str = "") -> Path:
    """The old layer groups, as Keras 2 wrote them: layer/layer/role:0."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        layers = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
        group.attrs["layer_names"] = [layer.encode() for layer in layers]
        for name, array in arrays.items():
            layer, _, role = name.rpartition("/")
            group.require_group(layer).create_dataset(f"{layer}/{role}:0", data=array)
    return path


KERAS3_ORDER = ("kernel", "gamma", "bias", "beta", "moving_mean", "moving_variance")


def write_keras3(
    path: Path | io.BytesIO, arrays: Arrays, *, listed: Sequence[str] | None = None
) -> None:
    """Keras 3's layout: layers are counted by class, the name is an attribute.

    With `listed`, all layers in their order, as the first Keras 3 wrote it: without the names.
    """
    import h5py

    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        layer, _, role = name.rpartition("/")
        layers.setdefault(layer, {})[role] = array
    counts: Counter[str] = Counter()
    with h5py.File(path, "w") as file:
        for layer in listed or layers:
            roles = layers[layer]
            sides = roles["kernel"].ndim if "kernel" in roles else 0
            kind = {4: "conv2d", 2: "dense", 0: "batch_normalization"}[sides]
            number, counts[kind] = counts[kind], counts[kind] + 1
            group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
            if listed is None:
                group.attrs["name"] = layer
            for j, role in enumerate(sorted(roles, key=KERAS3_ORDER.index)):
                group.create_dataset(str(j), data=roles[role])
        file.create_group("optimizer/vars").create_dataset("0", data=np.int64(3))


def write_keras_zip(path: Path, arrays: Arrays) -> Path:
    inner = io.BytesIO()
    write_keras3(inner, arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", inner.getvalue())
    return path


SAFE_TYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int64": "I64",
    "uint16": "BF16",
}


def write_safetensors(
    path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None
) -> Path:
    import json

    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    start = 0
    for name, array in arrays.items():
        end = start + array.nbytes
        header[name] = {
            "dtype": SAFE_TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    data = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


def as_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Truncated, which is exact for small whole numbers."""
    return (array.view(np.uint32) >> 16).astype(np.uint16)
