"""Pickles of arrays and plain containers, as datasets and feature files of others come in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from probe.core.pickles import COMMON, Allowed, Dialect, read_pickle
from probe.core.records import check_regular
from probe.datasets.pickle_arrays import ALLOWED, PendingArray, PendingDtype, plain_key
from probe.errors import DataError, UnsafeFileError

MOST_SHARED = 16  # times its size is what a pickle's lists may come to


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays, dtypes, numbers, text and plain containers.

    Text that Python 2 wrote comes as bytes, as with ``pickle.load(encoding="bytes")``; `text_keys`
    evens that out. Arrays may be read-only views of what was read.

    Raises
    ------
    UnsafeFileError
        It asks for anything else, or claims more than it holds. Nothing was run.
    DataError
        It is cut short, is not a pickle, or cannot be opened.
    """
    try:
        check_regular(path)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the file") from error
    return loads_pickle(data, str(path))


def loads_pickle(data: bytes, name: str) -> Any:
    """Read a pickle that is in memory; `name` is what messages call it. See `load_pickle`."""
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
    """Raise where lists that are in each other several times come to far more than the file holds.

    A list of ten times the same list of ten times the same list ... takes a few bytes a level, and
    whoever walks it walks ten times as far at each.
    """
    sizes: dict[int, int] = {}

    def size(one: Any) -> int:
        if isinstance(one, np.ndarray):
            return one.nbytes + 1
        if not isinstance(one, list | tuple | dict):
            return 1
        if id(one) not in sizes:
            sizes[id(one)] = most + 1  # seen again before it is done: it holds itself
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
    """Put arrays and dtypes where their stand-ins are. `done`: lists and dicts already seen."""
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
