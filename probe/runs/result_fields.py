"""Whether what was read from a `result.json` has a result's fields, each of its type."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from probe.errors import DataError

SCHEMA = 1

FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("schema", "seed", "n_train", "n_val", "n_test"), int),
    **dict.fromkeys(("command", "entry", "dataset", "backbone", "weights", "layer", "pool"), str),
    **dict.fromkeys(("head", "created"), str),
    **dict.fromkeys(("params", "metrics", "per_class", "versions"), dict),
    "seconds": (int, float),
}
OPTIONAL_TYPES: dict[str, type | tuple[type, ...]] = {
    "selection": dict,
    "intervals": dict,
    "temperature": (int, float),
    "test_looks": int,
    "spread": dict,
    "multilabel": dict,
    "groups": dict,
    "subgroups": dict,
    "baseline": dict,
    "two_classes": dict,
}


def check_fields(data: object) -> dict[str, Any]:
    """Return the object that was read, checked.

    Raises
    ------
    DataError
        A field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(data, dict):
        raise DataError("not an object")
    if data.get("schema") != SCHEMA:
        raise DataError(f"schema is {data.get('schema')!r}, this version reads {SCHEMA}")
    optional = {k: wanted for k, wanted in OPTIONAL_TYPES.items() if k in data}
    _check_object(data, FIELD_TYPES | optional, "")
    _check_object(data["per_class"], {"split": str, "recall": dict}, "per_class.")
    _check_values(data["per_class"]["recall"], (int, float), "per_class.recall.")
    _check_values(data["params"], (str, int, float, bool, NoneType), "params.")
    _check_values(data["metrics"], (dict,), "metrics.")
    for split, figures in data["metrics"].items():
        _check_values(figures, (int, float), f"metrics.{split}.")
    _check_values(data["versions"], (str,), "versions.")
    return data


def read_intervals(data: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return (low, high) of each split and metric; DataError where one is no pair of numbers."""
    _check_values(data, (dict,), "intervals.")
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for split, figures in data.items():
        found[split] = {}
        for name, bounds in figures.items():
            where = f"intervals.{split}.{name}"
            if not isinstance(bounds, list) or len(bounds) != 2:
                raise DataError(f"{where} is {bounds!r}, not [low, high]")
            _check_values(
                dict(zip(("low", "high"), bounds, strict=True)), (int, float), f"{where}."
            )
            found[split][name] = (float(bounds[0]), float(bounds[1]))
    return found


def _check_object(data: object, types: Mapping[str, type | tuple[type, ...]], prefix: str) -> None:
    if not isinstance(data, dict):
        raise DataError(f"{prefix.rstrip('.')} is not an object")
    for name in types.keys() - data.keys():
        raise DataError(f"{prefix}{name} is missing")
    for name in data.keys() - types.keys():
        raise DataError(f"{prefix}{name} is not a field of schema {SCHEMA}")
    for name, wanted in types.items():
        _check_type(data[name], wanted, prefix + name)


def _check_values(data: Mapping[str, object], wanted: tuple[type, ...], prefix: str) -> None:
    for name, value in data.items():
        _check_type(value, wanted, prefix + name)


def _check_type(value: object, wanted: type | tuple[type, ...], name: str) -> None:
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise DataError(f"{name} is {value!r}, not {' or '.join(kind.__name__ for kind in kinds)}")
