"""Stand-ins for the functions that numpy's pickles call, with their arguments checked.

Nothing here is looked up by a name from a file: `ALLOWED` is all that a pickle can reach.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from probe.core.pickles import Allowed
from probe.errors import UnsafeFileError

SCALARS = (str, bytes, int, float, complex, bool, type(None), np.generic)
DTYPE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,9}|O\d?")  # numbers and text; no records
MAX_DIMENSIONS = 32


class PendingDtype:
    """What `numpy.dtype(...)` in a pickle stands for; BUILD tells its byte order."""

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
    """What `_reconstruct(...)` in a pickle stands for, until BUILD brings shape and bytes."""

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
    """Return an array of objects in one dimension, as text in a table is kept, as a list."""
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
