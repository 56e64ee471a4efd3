"""Pickles of arrays and plain containers, read without running anything that they ask for.

A pickle is a program. This reader keeps the opcodes that build plain data, throws the others
away, and replaces the seven functions that numpy's pickles call, whatever numpy wrote them, by
own ones that check their arguments. No class or function of Python or numpy is ever looked up
by a name from the file, and no object of theirs gets a state from it.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from probe.datasets.pickle_arrays import ALLOWED, Allowed, PendingArray, PendingDtype, plain_key
from probe.errors import DataError, ProbeError, UnsafeFileError


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
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the file") from error
    return loads_pickle(data, str(path))


def loads_pickle(data: bytes, name: str) -> Any:
    """Read a pickle that is in memory; `name` is what messages call it. See `load_pickle`."""
    try:
        return _finished(_PlainUnpickler(data, name).load(), {}, name)
    except ProbeError:
        raise
    except Exception as error:  # a damaged pickle can fail in any opcode
        reason = (
            f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else "it ends"
        )
        raise DataError(
            f"{name}: not a whole pickle ({reason[:120]}); get the file again"
        ) from error


def text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping with its keys as text, whichever Python pickled it."""
    return {
        key.decode("utf-8") if isinstance(key, bytes) else str(key): value[key] for key in value
    }


FORBIDDEN = (
    *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


class _PlainUnpickler(pickle._Unpickler):
    """The standard library's unpickler in Python, without the opcodes that make objects.

    Not the one in C: that reserves what a file claims (a memo of 2**31 places, a bytearray of
    2**40) before it looks, and BUILD cannot be taken away from it.
    """

    # What the base class has and its stubs do not say.
    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # opcode -> method

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")  # a BytesIO never reads past its end
        self._name = name

    def load(self) -> Any:
        try:
            return super().load()
        except UnsafeFileError as error:
            raise UnsafeFileError(
                f"{self._name}: {error}; nothing was run, do not trust it"
            ) from None

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            asked = f"{module}.{name}"[:120].encode("unicode_escape").decode()
            raise UnsafeFileError(
                f"the pickle asks for {asked}, and only arrays and plain containers are read"
            ) from None

    def load_forbidden(self) -> NoReturn:
        raise UnsafeFileError("the pickle wants to make an object of a class")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        if type(self.stack[-1]) is not Allowed or type(arguments) is not tuple:
            raise UnsafeFileError("the pickle calls something that is no function")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, PendingArray | PendingDtype) or type(state) is not tuple:
            raise UnsafeFileError("the pickle sets the state of something that is no array")
        target.build(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set_items(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise UnsafeFileError("the pickle sets items of something that is no dictionary")
        target.update(
            (plain_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)
        )

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise UnsafeFileError("the pickle adds to something that is no set")
        self.stack[-1].update(map(plain_key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # first: it puts another stack in place
        self.stack.append(frozenset(map(plain_key, items)))

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def _extend(self, items: Iterable[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise UnsafeFileError("the pickle appends to something that is no list")
        self.stack[-1].extend(items)

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(size)))  # the original reserves `size` first


_OWN = (
    *("reduce", "build", "setitem", "setitems", "dict", "additems", "frozenset", "append"),
    *("appends", "bytearray8"),
)
for _name in _OWN:
    _PlainUnpickler.dispatch[getattr(pickle, _name.upper())[0]] = getattr(
        _PlainUnpickler, f"load_{_name}"
    )
for _code in FORBIDDEN:
    _PlainUnpickler.dispatch[_code[0]] = _PlainUnpickler.load_forbidden


def _finished(value: Any, done: dict[int, Any], name: str) -> Any:
    """Put arrays and dtypes where their stand-ins are. `done`: lists and dicts already seen."""
    if isinstance(value, PendingDtype):
        return value.dtype()
    if isinstance(value, PendingArray) and value.array is not None:
        return value.array
    if isinstance(value, Allowed | PendingArray):
        raise UnsafeFileError(f"{name}: holds a function or an unfinished array; do not trust it")
    if not isinstance(value, list | dict | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, tuple):
        done[id(value)] = tuple(_finished(item, done, name) for item in value)
        return done[id(value)]
    done[id(value)] = value
    places = range(len(value)) if isinstance(value, list) else list(value)
    for place in places:
        value[place] = _finished(value[place], done, name)
    return value
