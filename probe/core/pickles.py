"""Read the data in pickles without running code.

A pickle is a program for a small stack machine. This reader refuses every instruction and every
name that the dialect does not list. No class or function of Python or a library is looked up by a
name from the file; only the dialect's own functions can be called, and they check their arguments.
No memory is reserved for a size that a file merely claims.

`probe.datasets.named.pickles` has the dialect of numpy's pickles, `probe.weights.torch_file` that
of torch's.

References
----------
CPython, Lib/pickle.py, and Lib/pickletools.py, which documents each instruction.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NoReturn, Protocol

from probe.errors import UnsafeFileError

MAX_LINE = 512  # of names and numbers written as text, in bytes; data never comes in lines there

# the instructions of plain data, tables of arrays and calls of listed functions
COMMON = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM",
    "SETITEMS", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "REDUCE", "BUILD",
})  # fmt: skip


class Allowed:
    """A function that a pickle may call, without state that the instruction BUILD could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class Stream(Protocol):
    """A finite byte stream: a `BoundedStream` or an `io.BytesIO`."""

    def read(self, count: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What one kind of pickle may contain.

    Parameters
    ----------
    instructions : frozenset of str
        The allowed ones, by their names in `pickletools`.
    table : mapping of (module, name) to object
        What replaces a name; an `Allowed` may be called.
    build : callable
        Called with an object and the state that BUILD sets on it.
    key : callable
        Returns a dict's key or a set's member as it is, or refuses it.
    persistent : callable
        Turns a persistent id into an object.
    encoding : {"bytes", "latin1"}
        What Python 2's text becomes.
    purpose : str
        What is read, for messages.
    """

    instructions: frozenset[str]
    table: Mapping[tuple[str, str], object]
    build: Callable[[object, object], None]
    key: Callable[[Any], Any]
    persistent: Callable[[object], object]
    encoding: Literal["bytes", "latin1"]
    purpose: str


class BoundedStream:
    """Reads no more than there is, so that a claimed length allocates nothing.

    Parameters
    ----------
    file : binary file, positioned at the start of the data
    size : int
        Bytes that may be read from there.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, count: int, /) -> bytes:
        """Return up to `count` bytes."""
        data = self._file.read(min(count, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        """Return a short line, with its end."""
        line = self._file.readline(min(MAX_LINE, self._left))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("a line does not end")
        return line


def read_pickle(stream: Stream, dialect: Dialect) -> object:
    """Return the object that a pickle describes.

    The stream is left after the pickle's last byte, where another pickle may follow.

    Raises
    ------
    UnsafeFileError
        The pickle uses something that the dialect does not allow. No code was run.
    ValueError
        It is truncated, damaged, or not a pickle.
    """
    try:
        with warnings.catch_warnings():
            # Python warns of unknown escapes, which damaged text can have
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Reader(stream, dialect).load()
    except UnsafeFileError:
        raise
    except Exception as error:  # a damaged pickle can fail in any instruction
        said = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else "it ends"
        raise ValueError(said[:120]) from None


class _Reader(pickle._Unpickler):
    """The standard library's unpickler in Python, without the instructions that make objects.

    The one in C reserves what a file claims (a memo of 2**31 places, a bytearray of 2**40), and its
    BUILD cannot be replaced.
    """

    # attributes of the base class that its stubs lack
    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: Stream, dialect: Dialect) -> None:
        super().__init__(stream, encoding=dialect.encoding)
        self._dialect = dialect
        self.dispatch = _methods(dialect)  # type: ignore[misc] # in place of the class's

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._dialect.table[module, name]
        except KeyError:
            asked = f"{module}.{name}"[:120].encode("unicode_escape").decode()
            raise UnsafeFileError(
                f"the pickle asks for {asked}, and only {self._dialect.purpose} are read"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        return self._dialect.persistent(pid)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        if type(self.stack[-1]) is not Allowed or type(arguments) is not tuple:
            raise UnsafeFileError("the pickle calls something that is no function")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_newobj(self) -> None:
        self.load_reduce()  # the class lies where a function would, and is one of the dialect's

    def load_build(self) -> None:
        state = self.stack.pop()
        self._dialect.build(self.stack[-1], state)

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
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self._dialect.key(key)] = value

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise UnsafeFileError("the pickle adds to something that is no set")
        self.stack[-1].update(map(self._dialect.key, items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # first: it replaces self.stack
        self.stack.append(frozenset(map(self._dialect.key, items)))

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
    *("appends", "bytearray8", "newobj"),
)


def _methods(dialect: Dialect) -> dict[int, Callable[[Any], None]]:
    """Return a method for each instruction; one that the dialect does not list raises an error."""
    own = {getattr(pickle, name.upper())[0]: getattr(_Reader, f"load_{name}") for name in _OWN}
    names = {ord(one.code): one.name for one in pickletools.opcodes}
    methods = {}
    for code, method in pickle._Unpickler.dispatch.items():
        name = names[code]
        methods[code] = own.get(code, method) if name in dialect.instructions else _refusal(name)
    return methods


def _refusal(name: str) -> Callable[[_Reader], NoReturn]:
    def refuse(reader: _Reader) -> NoReturn:
        raise UnsafeFileError(
            f"the pickle uses the instruction {name}, which {reader._dialect.purpose} do not need"
        )

    return refuse
