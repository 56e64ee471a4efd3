"""Read pickles of arrays and plain containers, as datasets and feature files come in.

A pickle can reach only `ALLOWED`: replacements of the functions that NumPy's pickles call, which
check their arguments.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from probe.core.pickles import COMMON, Allowed, Dialect, read_pickle
from probe.core.regular import read_regular
from probe.errors import DataError, UnsafeFileError

SCALARS = (str, bytes, int, float, complex, bool, type(None), np.generic)
DTYPE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,9}|O\d?")  # numbers and text; no records
MAX_DIMENSIONS = 32


class PendingDtype:
    """Replaces `numpy.dtype(...)` in a pickle; the instruction BUILD sets its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_copy_and_align: object) -> None:
        self.code, self.order = _text(code), "="
        if not DTYPE.fullmatch(self.code):
            raise UnsafeFileError(
                f"an array of dtype {self.code[:20]!r} is asked for; only numbers and text are read"
            )

    def build(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_sizes = state
        if subarray is not None or names is not None or fields is not None:
            raise UnsafeFileError(
                "an array of records is asked for; only numbers and text are read"
            )
        self.order = {"|": "="}.get(_text(order), _text(order))
        if self.order not in ("<", ">", "="):
            raise ValueError("no such byte order")

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(cast("Any", self.order))


class PendingArray:
    """Replaces `_reconstruct(...)` in a pickle until BUILD sets shape and bytes."""

    __slots__ = ("array",)

    def __init__(self, kind: object, _shape: object, _code: object) -> None:
        if kind is not _NDARRAY:
            raise UnsafeFileError("an array of another class than numpy.ndarray is asked for")
        self.array: NDArray[Any] | list[Any] | None = None

    def build(self, state: Any) -> None:
        *_version, shape, dtype, fortran, raw = state
        if isinstance(dtype, PendingDtype) and dtype.code[0] == "O":
            self.array = _plain_objects(raw, shape)
            return
        self.array = _array(raw, dtype, shape, "F" if fortran else "C")


def _plain_objects(values: object, shape: object) -> list[Any]:
    """Return a one-dimensional array of objects, such as text of a table, as a list."""
    if shape == () and type(values) is list and len(values) == 1:
        raise UnsafeFileError(
            f"an array of objects holds one {type(values[0]).__name__}; save what is in it as "
            "arrays of their own"
        )
    if type(values) is not list or shape != (len(values),):
        raise UnsafeFileError("an array of objects claims another shape than that of its list")
    if not all(isinstance(value, SCALARS) for value in values):
        raise UnsafeFileError(
            "an array of objects is asked for that are neither numbers nor text; save it as numbers"
        )
    return list(values)


def _array(raw: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    if not isinstance(dtype, PendingDtype) or not isinstance(raw, bytes | bytearray):
        raise UnsafeFileError("an array holds something else than the bytes of numbers or text")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if len(sizes) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in sizes):
        raise UnsafeFileError("an array claims an impossible shape")
    if dtype.code[0] == "O":
        raise UnsafeFileError("an array of objects is asked for where numbers are")
    real = dtype.dtype()
    if real.itemsize == 0 or math.prod(sizes) * real.itemsize != len(raw):
        raise UnsafeFileError(f"an array claims another size than the {len(raw)} bytes it has")
    flat = np.frombuffer(raw, real) if raw else np.empty(0, real)
    return flat.reshape(sizes, order="F" if _text(order) == "F" else "C")


def _scalar(dtype: object, raw: object) -> Any:
    return _array(raw, dtype, (1,), "C")[0]


def _encode(text: object, encoding: object) -> bytes:
    # bytes, as protocols 0 to 2 of Python 3 write them
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise UnsafeFileError("an unusual text encoding is asked for")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if arguments:  # protocol 2 writes b"" as bytes(); bytes(n) would reserve what the file says
        raise UnsafeFileError("bytes of a claimed size are asked for")
    return b""


def _set(items: object = ()) -> set[Any]:
    return {plain_key(item) for item in items} if isinstance(items, list | tuple) else _refuse_key()


def _dict() -> dict[Any, Any]:
    return {}


def _never(*_arguments: object) -> NoReturn:
    raise UnsafeFileError("numpy.ndarray is called as a function")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    return value if isinstance(value, str) else ""


def plain_key(value: Any) -> Any:
    # Only flat keys: the hash of tuples nested in each other n deep can take 2**n steps.
    flat = value if type(value) is tuple else (value,)
    return value if all(isinstance(item, SCALARS) for item in flat) else _refuse_key()


def _refuse_key() -> NoReturn:
    raise UnsafeFileError("a key or a member of a set is not a number or text")


_NDARRAY = Allowed(_never)
_RECONSTRUCT, _SCALAR, _FROMBUFFER = Allowed(PendingArray), Allowed(_scalar), Allowed(_array)

ALLOWED: Mapping[tuple[str, str], Allowed] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Allowed(PendingDtype),
    ("_codecs", "encode"): Allowed(_encode),
    ("collections", "OrderedDict"): Allowed(_dict),
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # before and since numpy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _RECONSTRUCT),
            ("multiarray", "scalar", _SCALAR),
            ("numeric", "_frombuffer", _FROMBUFFER),
        )
    },
    **{
        (module, name): Allowed(function)
        for module in ("builtins", "__builtin__")  # Python 3's name and Python 2's
        for name, function in (("bytes", _bytes), ("set", _set), ("frozenset", _set))
    },
}


MOST_BYTES = 8 << 30
FREE_TEXT = 16  # letters of a text that count as nothing
MOST_SHARED = 16  # times a pickle's size, up to which its lists may unfold


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays, dtypes, numbers, text and plain containers.

    Text that Python 2 wrote is returned as bytes, as with ``pickle.load(encoding="bytes")``;
    `text_keys` decodes it. Arrays may be read-only.

    Raises
    ------
    UnsafeFileError
        It contains anything else, or claims more than it holds. No code was run.
    DataError
        It is truncated, not a pickle, or cannot be opened.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the file") from error
    return loads_pickle(data, str(path))


def loads_pickle(data: bytes, name: str) -> Any:
    """Read a pickle in memory as `load_pickle` does; `name` is for messages."""
    try:
        value = _finished(read_pickle(io.BytesIO(data), ARRAYS), {})
        _check_unfolded(value, MOST_SHARED * len(data) + 4096)
        return value
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{name}: {error}; nothing was run, do not trust it") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not a whole pickle ({error}); get the file again") from error


def text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping with its keys as text, whichever Python pickled it."""
    return {_text_key(key): one for key, one in value.items()}


def _text_key(key: Any) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)


def _check_unfolded(value: Any, most: int) -> None:
    """Raise where lists that contain each other several times unfold to far more than the file.

    A list of ten times the same list, of ten times the same list and so on takes a few bytes a
    level, and each level takes ten times as long to walk.
    """
    sizes: dict[int, int] = {}

    def size(one: Any) -> int:
        if isinstance(one, np.ndarray):
            return one.nbytes + 1
        if isinstance(one, str | bytes):  # each is decoded again where it is named again
            return 1 + len(one) // FREE_TEXT
        if not isinstance(one, list | tuple | dict):
            return 1
        if id(one) not in sizes:
            sizes[id(one)] = most + 1  # found again before it is done, it contains itself
            inside = one.values() if isinstance(one, dict) else one
            sizes[id(one)] = 1 + sum(map(size, inside))
        return sizes[id(one)]

    if size(value) > most:
        raise UnsafeFileError(f"the lists in it unfold to more than {most:,} items")


def _build(target: object, state: object) -> None:
    if not isinstance(target, PendingArray | PendingDtype) or type(state) is not tuple:
        raise UnsafeFileError("the pickle sets the state of something that is no array")
    target.build(state)


def _no_persistent_id(_: object) -> NoReturn:
    raise UnsafeFileError("the pickle refers to something outside it")


ARRAYS = Dialect(
    instructions=COMMON
    | {"LIST", "DICT", "EMPTY_SET", "ADDITEMS", "FROZENSET", "BINBYTES", "SHORT_BINBYTES"}
    | {"BINBYTES8", "BYTEARRAY8", "DUP", "POP", "POP_MARK"},
    table=ALLOWED,
    build=_build,
    key=plain_key,
    persistent=_no_persistent_id,
    encoding="bytes",
    purpose="arrays and plain containers",
)


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """Replace pending arrays and dtypes by real ones. `done`: containers already seen."""
    if isinstance(value, PendingDtype):
        return value.dtype()
    if isinstance(value, PendingArray) and value.array is not None:
        return value.array
    if isinstance(value, Allowed | PendingArray):
        raise UnsafeFileError("the pickle holds a function or an unfinished array")
    if not isinstance(value, list | dict | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, tuple):
        done[id(value)] = tuple(_finished(item, done) for item in value)
        return done[id(value)]
    done[id(value)] = value
    places = range(len(value)) if isinstance(value, list) else list(value)
    for place in places:
        value[place] = _finished(value[place], done)
    return value
