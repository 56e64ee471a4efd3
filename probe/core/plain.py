"""Convert frozen dataclasses to and from JSON's dicts and lists, checked field by field.

The annotations are the schema. What they may say: str, int, float, bool, any of several of them, an
optional one, a nested dataclass, ``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[str, X]`` and Any.
A field that may be None, or has a default, may be absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from probe.errors import DataError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return a dataclass as dicts and lists; fields that are None are left out.

    Raises
    ------
    ValueError
        A number is NaN or infinite.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: to_plain(one) for name, one in named.items() if one is not None}
    if isinstance(value, Mapping):
        return {str(name): to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is no JSON number")
    return value


def from_plain(kind: type[T], data: object, where: str = "") -> T:
    """Check plain containers and return the dataclass they describe.

    Raises
    ------
    DataError
        A field is missing, unknown or of another type; the message names it.
    """
    made: T = _read(kind, data, where)
    return made


def _read(kind: Any, data: object, where: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        return _read_fields(kind, data, where)
    if isinstance(kind, UnionType):
        return _read_union(get_args(kind), data, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _read_list(inner, data, where)
    if origin is not None:
        _check(isinstance(data, dict), data, "an object", where)
        assert isinstance(data, dict)
        return {name: _read(inner[1], one, _join(where, name)) for name, one in data.items()}
    if kind is Any:
        return data
    kinds = (int, float) if kind is float else (kind,)
    right = isinstance(data, kinds) and (kind is bool or not isinstance(data, bool))
    _check(right, data, kind.__name__, where)
    return float(data) if kind is float else data  # type: ignore[arg-type]


def _read_union(kinds: tuple[Any, ...], data: object, where: str) -> Any:
    wanted = [one for one in kinds if one is not NoneType]
    if data is None and NoneType in kinds:
        return None
    if len(wanted) == 1:
        return _read(wanted[0], data, where)
    _check(type(data) in wanted, data, " or ".join(one.__name__ for one in wanted), where)
    return data


def _read_fields(kind: type, data: object, where: str) -> Any:
    _check(isinstance(data, dict), data, "an object", where)
    assert isinstance(data, dict)
    types = get_type_hints(kind)
    for name in data.keys() - types.keys():
        raise DataError(f"{_join(where, name)} is not a field that this version knows")
    nullable = {name for name, one in types.items() if NoneType in get_args(one)}
    defaults = {one.name for one in fields(kind) if one.default is not MISSING}
    defaults |= {one.name for one in fields(kind) if one.default_factory is not MISSING}
    optional = nullable | defaults
    for name in sorted(types.keys() - data.keys() - optional):
        raise DataError(f"{_join(where, name)} is missing")
    values = {name: _read(types[name], one, _join(where, name)) for name, one in data.items()}
    return kind(**dict.fromkeys(nullable - defaults) | values)


def _read_list(inner: tuple[Any, ...], data: object, where: str) -> tuple[Any, ...]:
    _check(isinstance(data, list), data, "a list", where)
    assert isinstance(data, list)
    kinds = [inner[0]] * len(data) if inner[-1] is Ellipsis else list(inner)
    _check(len(kinds) == len(data), data, f"a list of {len(kinds)}", where)
    return tuple(
        _read(one, value, f"{where}[{index}]")
        for index, (one, value) in enumerate(zip(kinds, data, strict=True))
    )


def _check(right: bool, value: object, wanted: str, where: str) -> None:
    if not right:
        raise DataError(f"{where or 'it'} is {value!r:.60}, not {wanted}")


def _join(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a head's parameters as JSON holds them; objects (a RandomState) become None.

    Several numbers become one text, ``256,128``.
    """
    plain = {k: v.item() if hasattr(v, "item") else v for k, v in params.items()}  # NumPy's numbers
    for name, value in plain.items():
        if isinstance(value, tuple | list):
            plain[name] = ",".join(map(str, value))
    return {k: v if isinstance(v, str | int | float | bool) else None for k, v in plain.items()}
