"""Read PyTorch's `.pth` and `.pt` files without PyTorch, in the zip and the old stream format.

References
----------
pytorch/torch/serialization.py: `_save` writes the zip, `_legacy_save` the stream of five pickles
followed by the storages.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from probe.core.pickles import COMMON, Allowed, BoundedStream, Dialect, Stream, read_pickle
from probe.core.regular import open_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.tensors import (
    AS_FLOAT32,
    ITEM_BYTES,
    LazyTensor,
    Shape,
    TensorFile,
    check_shape,
    raw_tensor,
)
from probe.weights.zip_members import Member, stored_members

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_PROTOCOL = 1001
NESTED_UNDER = (  # keys of a state dict in a checkpoint: trained weights, averages, other networks
    "state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params",
    "module", "backbone", "encoder", "model_ema", "state_dict_ema", "ema_state_dict", "ema",
    "teacher", "student", "generator",
)  # fmt: skip
LOAD = "torch.load"  # key of the metadata: the Python expression that loads the tensors
TRUST = "(weights_only=False runs code in the file; use it only if you trust the file)"
MAX_KEY = 16  # elements of a tuple that is a dict's key
MAX_PICKLE = 1 << 26  # bytes; that of the largest network here is below 1 MB

_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


T = TypeVar("T")


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
    """Return the tensors of a torch file in the zip format.

    Raises
    ------
    UnsafeFileError
        The pickle asks for code to be run, or a tensor is outside its storage.
    WeightsError
        The file holds no state dict, or is damaged.
    """
    members = stored_members(path)
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"{path}: a zip file without a data.pkl is not a file of torch weights")
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(root + "byteorder")
    if order is not None and order.read(path, 16) != b"little":
        raise WeightsError(f"{path}: was written on a big-endian machine, which is not supported")
    found = _unpickle(path, io.BytesIO(members[pickles[0]].read(path, MAX_PICKLE)))
    places = {
        name.removeprefix(root + "data/"): member
        for name, member in members.items()
        if name.startswith(root + "data/")
    }
    return _tensor_file(path, found, places)


def read_torch_stream(path: Path) -> TensorFile:
    """Return the tensors of a torch file in the old stream format.

    Raises
    ------
    UnsafeFileError
        The pickle asks for code to be run, or a tensor is outside its storage.
    WeightsError
        The file holds no state dict, or is damaged.
    """
    size = path.stat().st_size
    with open_regular(path) as file:
        stream = BoundedStream(file, size)
        magic, protocol, system, found, keys = (_unpickle(path, stream) for _ in range(5))
        if magic != STREAM_MAGIC or protocol != STREAM_PROTOCOL:
            raise WeightsError(f"{path}: a torch stream of the unknown version {protocol!r}")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise WeightsError(
                f"{path}: was written on a big-endian machine, which is not supported"
            )
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in _of_kind(found, _Tensor)}
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
                f"{path}: storage {key!r} belongs to no tensor, or is listed twice"
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
    except _OtherTypeError as error:
        raise WeightsError(f"{path}: {error}; {AS_FLOAT32}") from None
    except UnsafeFileError as error:
        raise UnsafeFileError(
            f"{path}: {error}; nothing was run; if you trust the file, load it in PyTorch and save "
            "the weights alone: torch.save(model.state_dict(), FILE)"
        ) from None
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
        raise UnsafeFileError("the pickle builds a tensor from something that is not a storage")
    shape, strides = (check_shape(Path("pickle"), storage.key, size) for size in sizes)
    if len(shape) != len(strides):
        raise UnsafeFileError(
            "the pickle has a tensor whose numbers of strides and dimensions differ"
        )
    return _Tensor(storage, offset, shape, strides)


class _OtherTypeError(UnsafeFileError):
    """The pickle has tensors of a type that is not supported."""


def _rebuild_typed(
    storage: object, offset: object, shape: object, strides: object, *rest: object
) -> _Tensor:
    """Build a tensor of a type without its own storage class, which torch stores as bytes."""
    kind = next((one for one in rest if isinstance(one, _StorageType)), None)
    if kind is None:
        raise _OtherTypeError("has tensors of a type that is not supported")
    made = _rebuild_tensor(storage, offset, shape, strides)
    if made.storage.dtype != "uint8":
        raise UnsafeFileError("the pickle gives a tensor another type than its storage")
    return replace(made, storage=replace(made.storage, dtype=kind.dtype))


def _ordered_dict(*pairs: object) -> dict[object, object]:
    if pairs and pairs != ([],):
        raise UnsafeFileError("the pickle fills an OrderedDict in an unknown way")
    return {}


def _size(*sides: object) -> object:
    return sides[0] if sides else ()


class _Inert:
    """Placeholder for an object of a checkpoint that is not used here."""


def _inert(*_: object) -> _Inert:
    return _Inert()


def _build(target: object, _: object) -> None:
    # torch sets attributes with module versions on its OrderedDict; they are ignored
    if type(target) not in (dict, _Inert):
        raise UnsafeFileError("the pickle sets the state of an object that is not a dict")


_KEYS = (str, int, float, bool, bytes, type(None), _Inert)


def _key(key: Any) -> Any:
    """Return a dict's key, a plain value or a flat tuple: hashing a nested one can take forever."""
    flat = type(key) is tuple and len(key) <= MAX_KEY and all(type(one) in _KEYS for one in key)
    if not flat and type(key) not in _KEYS:
        raise UnsafeFileError("the pickle has a dict key that is neither text nor a number")
    return key


def _filled(factory: object, *_: object) -> dict[object, object]:
    """Build an empty defaultdict, whose items follow in the pickle."""
    if not isinstance(factory, Allowed | type(None)):
        raise UnsafeFileError("the pickle makes a dictionary in an unknown way")
    return {}


def _counter(*counts: object) -> dict[object, object]:
    if counts and type(counts[0]) is not dict:
        raise UnsafeFileError("the pickle makes a Counter in an unknown way")
    return counts[0] if counts else {}  # type: ignore[return-value]  # no copy: it may be repeated


def _listed(*items: object) -> object:
    """Build a list for a set, a list or a tuple; a set's members are then not hashed."""
    if items and type(items[0]) not in (list, tuple):
        raise UnsafeFileError("the pickle makes a set in an unknown way")
    return items[0] if items and items[0] else []


# objects beside the weights in checkpoints, which are skipped
_BESIDE: tuple[tuple[str, str], ...] = (
    ("argparse", "Namespace"), ("types", "SimpleNamespace"), ("_codecs", "encode"),
    ("datetime", "datetime"), ("datetime", "date"), ("datetime", "time"),
    ("datetime", "timedelta"), ("datetime", "timezone"),
    ("torch", "device"), ("torch", "Generator"), ("numpy", "dtype"), ("numpy", "ndarray"),
    ("fractions", "Fraction"), ("decimal", "Decimal"), ("uuid", "UUID"),
    *(("pathlib", name) for name in (
        "Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"
    )),
    *((f"pathlib.{part}", name) for part in ("_local", "_abc") for name in (
        "Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"
    )),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in (
        "scalar", "_reconstruct"
    )),
    *((module, name) for module in ("__builtin__", "builtins") for name in (
        "slice", "complex", "bytearray", "range", "xrange"
    )),
)  # fmt: skip
_DTYPES = (
    "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int64", "int32",
    "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "float8_e4m3fnuz",
    "float8_e5m2fnuz", "channels_last", "contiguous_format", "preserve_format", "strided",
)  # fmt: skip


_TORCH = Dialect(
    instructions=COMMON | {"BINPERSID", "NEWOBJ", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
                           "EMPTY_SET", "ADDITEMS", "FROZENSET", "LIST", "DICT"},
    table={
        **{place: Allowed(_inert) for place in _BESIDE},
        **{("torch", name): _Inert() for name in _DTYPES},
        **{("torch", name): _StorageType(name) for name in ("float8_e4m3fn", "float8_e5m2")},
        **{(module, name): Allowed(_listed) for module in ("__builtin__", "builtins")
           for name in ("set", "frozenset", "list", "tuple")},
        **{(module, name): Allowed(_inert) for module in ("__builtin__", "builtins")
           for name in ("int", "float", "str", "bool", "dict")},
        ("collections", "defaultdict"): Allowed(_filled),
        ("collections", "Counter"): Allowed(_counter),
        ("collections", "deque"): Allowed(_listed),
        ("collections", "OrderedDict"): Allowed(_ordered_dict),
        ("torch._utils", "_rebuild_tensor"): Allowed(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): Allowed(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor_v3"): Allowed(_rebuild_typed),
        ("torch._utils", "_rebuild_parameter"): Allowed(lambda tensor, *_: tensor),
        ("torch", "Size"): Allowed(_size),
        ("torch.storage", "UntypedStorage"): _StorageType("uint8"),
        **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
    },
    build=_build,
    key=_key,
    persistent=_storage,
    encoding="latin1",
    purpose="weights",
)  # fmt: skip


def _of_kind(found: object, kind: type[T]) -> list[T]:
    """Return all objects of a type in nested containers, each container visited once."""
    kept, waiting, seen = [], [found], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, kind):
            kept.append(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return kept


def _state_dict(path: Path, found: object) -> tuple[dict[str, _Tensor], tuple[str, ...], str]:
    """Return the named tensors, notes on how they were chosen, and the expression to load them."""
    notes: list[str] = []
    # torch.load(weights_only=True) refuses objects that are skipped here
    plain = not _of_kind(found, _Inert)
    expression = f"torch.load({str(path)!r}, map_location='cpu'" + (")" if plain else
            ", weights_only=False)")  # fmt: skip
    for _ in range(3):  # such as {"state_dict": {"model": {...}}}
        if not isinstance(found, dict):
            break
        several = [key for key in NESTED_UNDER if _holds_tensors(found.get(key))]
        if not several:
            break
        taken, *others = several
        if others:
            other = others[0]
            save = f"torch.save({expression}[{other!r}], {other_file(path, other)!r})"
            notes.append(
                f"{taken!r} is used and {' and '.join(map(repr, others))} beside it is not; in "
                f"Python, import torch; {save} saves that one" + f" {TRUST}" * (not plain)
            )
        found = found[taken]
        expression += f"[{taken!r}]"
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
        raise WeightsError(f"{path}: holds no state dict (found {keys}); save model.state_dict()")
    return tensors, tuple(notes), expression


def other_file(path: Path, network: str) -> str:
    """Return a name for a file that is to hold only the other network of this file."""
    name = re.sub(r"\W+", "_", network).strip("_")
    return str(path.with_name(f"{path.stem}-{name}{path.suffix}"))


def _holds_tensors(found: object) -> bool:
    """Return whether it is a state dict or contains one."""
    return isinstance(found, dict) and any(
        isinstance(one, _Tensor) or (isinstance(one, dict) and key in NESTED_UNDER)
        for key, one in found.items()
    )


def _tensor_file(path: Path, found: object, places: Mapping[str, Member]) -> TensorFile:
    tensors: dict[str, LazyTensor] = {}
    chosen, notes, expression = _state_dict(path, found)
    for name, one in chosen.items():
        storage, item = one.storage, ITEM_BYTES[one.storage.dtype]
        place = places.get(storage.key)
        end = (storage.start + storage.count) * item
        if place is None or end > place.length:
            raise UnsafeFileError(f"{path}: the storage of tensor {name!r} is incomplete")
        first = (storage.start + one.offset) * item
        tensors[name] = raw_tensor(
            path, name, storage.dtype, one.shape,
            offset=place.offset + first, available=end - first, strides=one.strides,
        )  # fmt: skip
    return TensorFile(path, "torch", tensors, {LOAD: expression}, notes=notes)
