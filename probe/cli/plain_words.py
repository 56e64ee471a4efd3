"""Plain words of a command line, converted without Pydantic.

Typer imports Pydantic to convert the first option of any command, though it be a default; that
takes as long as importing NumPy. Most words are plain: a text, a whole number, a name of a choice.
What is not, a mistake above all, is left to Typer, and so are its messages.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

_USUAL = typer.Option()
_FURTHER = (  # what an option may ask for beside a type, a range and a kind of file
    "case_sensitive", "clamp", "exists", "formats", "parser", "path_type", "resolve_path",
    "writable",
)  # fmt: skip


def take_plain_words(parameters: list[Any]) -> None:
    """Have the parameters of a command convert plain words themselves, from now on."""
    for one in parameters:
        # a Typer whose parameters describe no type converts without Pydantic
        if hasattr(one, "type_descriptor") and not isinstance(one.process_value, partial):
            one.process_value = partial(_process_value, one, one.process_value)


def _process_value(parameter: Any, by_typer: Any, ctx: Any, value: Any) -> Any:
    several = parameter.multiple or parameter.nargs == -1
    kind, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    found: Any = () if several else None
    try:
        if parameter.required and value in (None, ()):
            raise _NotPlainError
        if value is not None and several:
            found = [_converted(get_args(kind)[0], info, one) for one in value]
        elif value is not None:
            found = _converted(kind, info, value)
    except (_NotPlainError, ValueError):  # of a number of thousands of digits
        return by_typer(ctx, value)
    return found if parameter.callback is None else parameter.callback(ctx, parameter, found)


class _NotPlainError(Exception):
    """Typer has to look at a word."""


def _converted(kind: Any, info: Any, value: Any) -> Any:
    """Return what a plain word means, where an option's type is `kind`."""
    plain = not isinstance(value, str) or (value.isascii() and value.isprintable())
    if not plain or any(getattr(info, one) != getattr(_USUAL, one) for one in _FURTHER):
        raise _NotPlainError
    if kind in (str, bool) and type(value) is kind:
        return value
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind is Path and isinstance(value, str | Path) and _may_be(Path(value), info):
        return Path(value)
    if kind in (int, float) and _is_number(value, kind) and _within(kind(value), info):
        return kind(value)
    raise _NotPlainError


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, str):
        return (value.replace(".", "", 1) if kind is float else value).isdecimal()
    return type(value) in (int, kind)


def _may_be(path: Path, info: Any) -> bool:
    if not path.exists():
        return True
    okay = info.dir_okay if path.is_dir() else info.file_okay
    return okay and os.access(path, os.R_OK)


def _within(number: float, info: Any) -> bool:
    return (info.min is None or number >= info.min) and (info.max is None or number <= info.max)
