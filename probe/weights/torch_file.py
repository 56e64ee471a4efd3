"""PyTorch's `.pth` and `.pt`, both the zip and the old stream format, read without PyTorch.

References
----------
pytorch/torch/serialization.py: `_save` writes the zip, `_legacy_save` the stream of five pickles
followed by the storages.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from probe.errors import UnsafeFileError, WeightsError
from probe.pickles import COMMON, Allowed, BoundedStream, Dialect, Stream, read_pickle
from probe.weights.tensors import ITEM_BYTES, LazyTensor, Shape, TensorFile, check_shape, raw_tensor
from probe.weights.zip_members import Member, stored_members

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_PROTOCOL = 1001
NESTED_UNDER = ("state_dict", "model", "model_state_dict")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
MAX_PICKLE = 1 << 26  # of the largest networks here it is below 1 MB

_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True)
class _Storage:
    """`count` elements of the storage `key`, from element `start` on."""

    dtype: str
    key: str
    start: int
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: Shape
    strides: Shape


def read_torch_zip(path: Path) -> TensorFile:
    """Return what a zip-format torch file holds.

    Raises
    ------
    UnsafeFileError
        The pickle asks for code, or a tensor lies outside its storage.
    WeightsError
        There is no state dict in it, or it is damaged.
    """
    members = stored_members(path)
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"{path}: a zip file without one data.pkl, so not torch weights")
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(root + "byteorder")
    if order is not None and order.read(path, 16) != b"little":
        raise WeightsError(f"{path}: written on a big-endian machine, which is not supported")
    found = _unpickle(path, io.BytesIO(members[pickles[0]].read(path, MAX_PICKLE)))
    places = {
        name.removeprefix(root + "data/"): member
        for name, member in members.items()
        if name.startswith(root + "data/")
    }
    return _tensor_file(path, found, places)


def read_torch_stream(path: Path) -> TensorFile:
    """Return what an old stream-format torch file holds.

    Raises
    ------
    UnsafeFileError
        The pickle asks for code, or a tensor lies outside its storage.
    WeightsError
        There is no state dict in it, or it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        stream = BoundedStream(file, size)
        magic, protocol, system, found, keys = (_unpickle(path, stream) for _ in range(5))
        if magic != STREAM_MAGIC or protocol != STREAM_PROTOCOL:
            raise WeightsError(f"{path}: torch stream of an unknown version {protocol!r}")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise WeightsError(f"{path}: written on a big-endian machine, which is not supported")
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in _all_tensors(found)}
        places = _stream_places(path, file, size, keys, dtypes)
    return _tensor_file(path, found, places)


def _stream_places(
    path: Path, file: BinaryIO, size: int, keys: object, dtypes: Mapping[str, str]
) -> dict[str, Member]:
    if not isinstance(keys, list) or any(type(key) is not str for key in keys):
        raise UnsafeFileError(f"{path}: the list of storages is damaged")
    places: dict[str, Member] = {}
    for key in keys:
        header = file.read(8)
        count = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        if key not in dtypes or key in places:
            raise UnsafeFileError(
                f"{path}: storage {key!r} belongs to no tensor, or is there twice"
            )
        length, start = count * ITEM_BYTES[dtypes[key]], file.tell()
        if not 0 <= length <= size - start:
            raise UnsafeFileError(
                f"{path}: storage {key!r} claims {length} bytes where there are {size - start}"
            )
        places[key] = Member(start, length)
        file.seek(length, io.SEEK_CUR)
    return places


def _unpickle(path: Path, stream: Stream) -> object:
    try:
        return read_pickle(stream, _TORCH)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: {error}; nothing was run") from None
    except ValueError as error:
        raise UnsafeFileError(f"{path}: the pickle is damaged ({error})") from None


def _storage(reference: object) -> _Storage:
    match reference:
        case ("storage", _StorageType(dtype), str(key), str(), int(count), *views) if (
            len(views) < 2
        ):
            pass
        case _:
            raise UnsafeFileError("the pickle refers to a storage in an unknown way")
    match views:
        case [] | [None]:
            return _Storage(dtype, key, 0, count)
        case [(_, int(start), int(part))] if min(start, part) >= 0 and start + part <= count:
            return _Storage(dtype, key, start, part)
    raise UnsafeFileError("the pickle has a view that lies outside its storage")


def _rebuild_tensor(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _Tensor:
    sizes = [shape, strides]
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise UnsafeFileError("the pickle builds a tensor from something else than a storage")
    shape, strides = (check_shape(Path("pickle"), storage.key, size) for size in sizes)
    if len(shape) != len(strides):
        raise UnsafeFileError("the pickle has a tensor with more strides than sides, or fewer")
    return _Tensor(storage, offset, shape, strides)


def _ordered_dict(*pairs: object) -> dict[object, object]:
    if pairs and pairs != ([],):
        raise UnsafeFileError("the pickle fills an OrderedDict in an unknown way")
    return {}


def _size(*sides: object) -> object:
    return sides[0] if sides else ()


def _build(target: object, _: object) -> None:
    if type(target) is not dict:  # torch hangs module versions on its OrderedDict: left out
        raise UnsafeFileError("the pickle sets the state of something that is no dict")


def _key(key: Any) -> Any:
    if type(key) not in (str, int):  # hashing a nested tuple can take for ever
        raise UnsafeFileError("the pickle has a dict key that is neither text nor a number")
    return key


_TORCH = Dialect(
    instructions=COMMON | {"BINPERSID"},
    table={
        ("collections", "OrderedDict"): Allowed(_ordered_dict),
        ("torch._utils", "_rebuild_tensor"): Allowed(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Allowed(_rebuild_tensor),
        ("torch._utils", "_rebuild_parameter"): Allowed(lambda tensor, *_: tensor),
        ("torch", "Size"): Allowed(_size),
        **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
    },
    build=_build,
    key=_key,
    persistent=_storage,
    encoding="latin1",
    purpose="weights",
)


def _all_tensors(found: object) -> list[_Tensor]:
    """Every tensor in nested containers, each container visited once."""
    tensors, waiting, seen = [], [found], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Tensor):
            tensors.append(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return tensors


def _state_dict(path: Path, found: object) -> dict[str, _Tensor]:
    for _ in range(3):  # {"state_dict": {"model": {...}}} is as deep as anybody nests
        if not isinstance(found, dict):
            break
        inner = next((found[key] for key in NESTED_UNDER if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    tensors = found if isinstance(found, dict) else {}
    tensors = {
        name: one
        for name, one in tensors.items()
        if isinstance(name, str) and isinstance(one, _Tensor)
    }
    if not tensors:
        keys = (
            ", ".join(str(key)[:40] for key in list(found)[:5])
            if isinstance(found, dict)
            else type(found).__name__
        )
        raise WeightsError(f"{path}: no state dict in it (found {keys}); save model.state_dict()")
    while prefix := _wrapper(tensors):
        tensors = {name.removeprefix(prefix): one for name, one in tensors.items()}
    return tensors


def _wrapper(tensors: Mapping[str, _Tensor]) -> str:
    """What all names begin with because the network was wrapped in another, or nothing."""
    return next((one for one in WRAPPERS if all(name.startswith(one) for name in tensors)), "")


def _tensor_file(path: Path, found: object, places: Mapping[str, Member]) -> TensorFile:
    tensors: dict[str, LazyTensor] = {}
    for name, one in _state_dict(path, found).items():
        storage, item = one.storage, ITEM_BYTES[one.storage.dtype]
        place = places.get(storage.key)
        end = (storage.start + storage.count) * item
        if place is None or end > place.length:
            raise UnsafeFileError(f"{path}: tensor {name!r} needs a storage that is not all there")
        first = (storage.start + one.offset) * item
        tensors[name] = raw_tensor(
            path, name, storage.dtype, one.shape,
            offset=place.offset + first, available=end - first, strides=one.strides,
        )  # fmt: skip
    return TensorFile(path, "torch", tensors)
