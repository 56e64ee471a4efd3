"""A short `repr` for dataclasses: arrays and long lists are shown by type and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

MOST_CHARACTERS = 80  # of a text
MOST_ITEMS = 6  # of a list whose items are short
DEPTH = 2  # of objects in objects whose fields are shown


def short_repr(self: Any) -> str:
    """Return the fields of a dataclass in a line; to be set as its `__repr__`."""
    return _object(self, 0)


def _object(value: Any, depth: int) -> str:
    name = type(value).__qualname__
    if depth >= DEPTH:
        return f"{name}(...)"
    shown = ", ".join(
        f"{one.name}={_short(getattr(value, one.name), depth + 1)}"
        for one in fields(value)
        if one.repr
    )
    return f"{name}({shown})"


def _short(value: Any, depth: int) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):  # of NumPy's, of MXNet's
        return f"<{getattr(value.dtype, 'name', value.dtype)} {tuple(value.shape)}>"
    if isinstance(value, str | bytes):
        return _text(value)
    if is_dataclass(value) and not isinstance(value, type) and not hasattr(value, "_repr_html_"):
        return _object(value, depth)
    if isinstance(value, Mapping):
        pairs = [
            f"{_short(name, depth)}: {_short(one, depth)}"
            for name, one in islice(value.items(), MOST_ITEMS)
        ]
        return _many(value, ", ".join(pairs), "{}")
    if isinstance(value, tuple | list | Set | Sequence):
        shown = ", ".join(_short(one, depth) for one in islice(value, MOST_ITEMS))
        return _many(value, shown, "()" if isinstance(value, tuple) else "[]")
    return repr(value)


def _many(value: Any, shown: str, brackets: str) -> str:
    if len(value) <= MOST_ITEMS and len(shown) <= 10 * MOST_CHARACTERS:
        return f"{brackets[0]}{shown}{brackets[1]}"
    return f"<{type(value).__name__} of {len(value):,}>"


def _text(value: str | bytes) -> str:
    return repr(value) if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]!r}..."
