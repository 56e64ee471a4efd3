"""Check the arguments of the functions that `import probe` offers, as the command line does."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import numpy as np

from probe.core.urls import hide
from probe.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool, np.bool_), "True or False"),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "str": ((str,), "a text"),
    "Path": ((os.PathLike,), "a path"),
    "AnyPath": ((str, os.PathLike), "a path"),
    "None": ((type(None),), "None"),
}
LEAST = {"folds": 0, "val_size": 0, "seed": 0, "wd": 0, "warmup": 0, "clip": 0, "mixup": 0,
         "patience": 0, "max_points": 3}  # fmt: skip
SIMPLE = (str, int, float, bool, type(None), np.generic)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of one of the functions, as entries and runs record it.

    Parameters
    ----------
    text : str
        As Python has it, for records: ``probe.extract('photos', 'resnet18', size=64)``.
    given : tuple of str
        Names of the arguments that were given.
    """

    text: str = ""
    given: tuple[str, ...] = ()


current: ContextVar[Call] = ContextVar("current", default=Call())  # noqa: B039  # frozen


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that checks its arguments first.

    Raises
    ------
    TypeError
        There is no such argument (the nearest is named), or one is missing.
    UsageError
        A value is of another kind than the function's signature says, or too small.
    """

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        signature = inspect.signature(call)
        name = function.__name__
        _check_names(name, signature, named)
        try:
            bound = signature.bind(*args, **named)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        for each, value in bound.arguments.items():
            bound.arguments[each] = _value(each, value, str(signature.parameters[each].annotation))
        token = current.set(_described(name, bound))
        try:
            return function(*bound.args, **bound.kwargs)
        finally:
            current.reset(token)

    return call


def as_in(
    function: Callable[..., Any], named: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """Return some of a function's arguments, checked as a call of it checks them.

    Parameters
    ----------
    names : iterable of str
        Those that are taken.

    Raises
    ------
    TypeError
        There is no such argument; the nearest is named.
    UsageError
        A value is of another kind than the function's signature says, or too small.
    """
    known, parameters = list(names), inspect.signature(function).parameters
    for each in named:
        if each not in known:
            raise TypeError(f"there is no argument {each!r}; {nearest(each, known)}")
    return {
        each: _value(each, value, str(parameters[each].annotation)) for each, value in named.items()
    }


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for a message: the known word that is nearest, or all where none is near."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"


def _check_names(name: str, signature: inspect.Signature, named: Mapping[str, Any]) -> None:
    known = list(signature.parameters)
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values()):
        return  # whoever takes the others knows them
    for each in named:
        if each not in known:
            raise TypeError(f"{name}() has no argument {each!r}; {nearest(each, known)}")


def _value(name: str, value: Any, annotation: str) -> Any:
    """Return a value as Python's own type; refuse one of another kind."""
    kinds = [one.strip() for one in annotation.split("|")]
    if "Sequence[str]" in kinds:
        return _texts(name, value, kinds)
    if not set(kinds) <= KINDS.keys():
        return value  # several, or text: whoever reads it checks it
    types = tuple(one for kind in kinds for one in KINDS[kind][0])
    no_switch = isinstance(value, bool | np.bool_) and "bool" not in kinds
    if not isinstance(value, types) or no_switch:
        expected = " or ".join(KINDS[kind][1] for kind in kinds if kind != "None")
        raise UsageError(f"{name}={_short(value)}: expected {expected}")
    if isinstance(value, np.generic):
        value = value.item()
    least = LEAST.get(name, 1)
    if isinstance(value, int) and "int" in kinds and value < least:
        raise UsageError(f"{name}={value}: expected a whole number from {least}")
    if isinstance(value, float) and not value >= LEAST.get(name, -np.inf):
        raise UsageError(f"{name}={value:g}: expected a number from {LEAST.get(name, 0)}")
    return value


def _texts(name: str, value: Any, kinds: list[str]) -> Any:
    """Return a text, or several as a list; refuse what holds anything else."""
    if isinstance(value, str) or (value is None and "None" in kinds):
        return value
    if isinstance(value, Mapping) and any(kind.startswith("Mapping") for kind in kinds):
        return value  # whoever reads it checks it
    several = list(value) if isinstance(value, Iterable) else [value]
    if not isinstance(value, Iterable) or not all(isinstance(one, str) for one in several):
        raise UsageError(f"{name}={_short(value)}: expected a text or a list of texts")
    return several


def _described(name: str, bound: inspect.BoundArguments) -> Call:
    said = []
    for each, parameter in bound.signature.parameters.items():
        if each not in bound.arguments or each in ("quiet", "cache_dir"):
            continue
        value = bound.arguments[each]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            said += [f"{word}={_short(one)}" for word, one in value.items()]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            said.append(f"{each}={_short(value)}")
        else:
            said.append(_short(value))
    return Call(text=hide(f"probe.{name}({', '.join(said)})"), given=tuple(bound.arguments))


def _short(value: Any) -> str:
    """Return a value's text in a recorded call; arrays and images become the name of their type."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, SIMPLE):
        return repr(value)
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, list | tuple) and len(value) <= 8:
        inside = ", ".join(map(_short, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, dict) and len(value) <= 8:
        return "{" + ", ".join(f"{_short(k)}: {_short(v)}" for k, v in value.items()) + "}"
    name = getattr(value, "name", None)
    return repr(name) if isinstance(name, str) else f"<{type(value).__name__}>"
