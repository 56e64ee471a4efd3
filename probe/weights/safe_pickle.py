"""Read a pickle's data without being able to run anything.

A pickle is a program for a small stack machine. This is that machine without its dangerous part:
a global is looked up in a fixed table, so the only functions that can be called are the caller's,
and an instruction that is not listed is refused. Opcodes are decoded by the standard library's
`pickletools`, whose reads are bounded by the stream.

References
----------
CPython, Lib/pickletools.py, which documents each opcode.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from probe.errors import UnsafeFileError

Globals = Mapping[str, object]

MAX_NAME = 512


class Callee:
    """A function that a pickle may call, wrapped so that no other object ever is."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


class BoundedStream:
    """Reads at most what is there, so that a claimed length allocates nothing.

    Parameters
    ----------
    file : binary file, positioned at the start of the data
    size : int
        Bytes that may be read from there.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._position = file, size, 0

    def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes."""
        left = self._size - self._position
        data = self._file.read(left if count < 0 else min(count, left))
        self._position += len(data)
        return data

    def readline(self) -> bytes:
        """Return the rest of a short line."""
        line = self._file.readline(min(MAX_NAME, self._size - self._position))
        self._position += len(line)
        return line

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position


_MARK = object()
_PUSH_ARGUMENT = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    def __init__(self, allowed: Globals, persistent: Callable[[object], object]) -> None:
        self._allowed, self._persistent = allowed, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: BoundedStream) -> object:
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _PUSH_ARGUMENT:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _TUPLES:
                self._tuple(_TUPLES[name])
            elif name not in ("PROTO", "FRAME"):
                self._step(name, argument)
        raise ValueError("no STOP")  # genops raises before this

    def _step(self, name: str, argument: Any) -> None:
        step = getattr(self, f"_do_{name.lower()}", None)
        if step is None:
            raise UnsafeFileError(
                f"the pickle uses the instruction {name}, which weights do not need"
            )
        step(argument)

    def _tuple(self, length: int) -> None:
        items = [self._stack.pop() for _ in range(length)]
        self._stack.append(tuple(reversed(items)))

    def _to_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1 :]
                del self._stack[i:]
                return items
        raise IndexError("no mark")

    def _set(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise UnsafeFileError("the pickle sets items of something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # hashing a nested tuple can take for ever
                raise UnsafeFileError("the pickle has a dict key that is neither text nor a number")
            target[key] = value

    def _extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is not list:
            raise UnsafeFileError("the pickle appends to something that is no list")
        target.extend(items)

    def _do_mark(self, _: object) -> None:
        self._stack.append(_MARK)

    def _do_tuple(self, _: object) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _do_empty_list(self, _: object) -> None:
        self._stack.append([])

    def _do_empty_dict(self, _: object) -> None:
        self._stack.append({})

    def _do_append(self, _: object) -> None:
        item = self._stack.pop()
        self._extend(self._stack[-1], [item])

    def _do_appends(self, _: object) -> None:
        items = self._to_mark()
        self._extend(self._stack[-1], items)

    def _do_setitem(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(self._stack[-1], [key, value])

    def _do_setitems(self, _: object) -> None:
        items = self._to_mark()
        self._set(self._stack[-1], items)

    def _do_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _do_binget = _do_long_binget = _do_get

    def _do_global(self, names: str) -> None:
        dotted = names.replace(" ", ".", 1)
        if dotted not in self._allowed:
            raise UnsafeFileError(
                f"the pickle asks for {dotted!r}, which weights do not need; nothing was run"
            )
        self._stack.append(self._allowed[dotted])

    def _do_stack_global(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._do_global(f"{module} {name}")

    def _do_reduce(self, _: object) -> None:
        arguments, callee = self._stack.pop(), self._stack.pop()
        if not isinstance(callee, Callee) or type(arguments) is not tuple:
            raise UnsafeFileError(
                "the pickle calls something that weights do not need; nothing was run"
            )
        self._stack.append(callee.function(*arguments))

    def _do_build(self, _: object) -> None:
        self._stack.pop()  # torch hangs module versions on its OrderedDict
        if type(self._stack[-1]) is not dict:
            raise UnsafeFileError("the pickle sets the state of something that is no dict")

    def _do_binpersid(self, _: object) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def load(
    stream: BoundedStream | bytes, allowed: Globals, persistent: Callable[[object], object]
) -> object:
    """Return the object that a pickle describes, made of plain data and what `allowed` gives.

    Parameters
    ----------
    stream : BoundedStream or bytes
        Left behind the pickle's last byte.
    allowed : mapping of str to object
        ``module.name`` to what stands in for it; a `Callee` may be called by the pickle.
    persistent : callable
        Turns a persistent id into an object.

    Raises
    ------
    UnsafeFileError
        The pickle asks for anything else, or is no pickle.
    """
    if isinstance(stream, bytes):
        stream = BoundedStream(io.BytesIO(stream), len(stream))
    try:
        with warnings.catch_warnings():
            # pickletools decodes the escapes of a damaged name, which Python 3.12 remarks upon
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine(allowed, persistent).run(stream)
    except UnsafeFileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UnsafeFileError(f"the pickle is damaged ({error})") from None
