"""What parameters of `FrozenBackbone` may be, checked before anything is looked up or computed."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from typing import Any

from probe.backbones.spec import POOLS
from probe.engines import check_device_name
from probe.errors import UsageError


def check_parameters(given: dict[str, Any]) -> None:
    """Raise UsageError for a parameter of the wrong kind, whether this call would need it or not.

    Parameters
    ----------
    given : dict
        As `get_params` returns them.
    """
    texts, paths = (str,), (str, PathLike)
    for name, kinds, optional in (
        ("backbone", texts, False), ("weights", paths, False), ("preprocess", paths, True),
        ("mean", paths, True), ("layer", texts, True), ("device", texts, False),
        ("cache_dir", paths, True),
    ):  # fmt: skip
        _check(given, name, isinstance(given[name], kinds), "a text or path", optional=optional)
    for name in ("size", "batch_size"):
        _check(given, name, _count(given[name]), "an integer of at least 1", optional=True)
    jobs = given["n_jobs"]
    _check(given, "n_jobs", _count(jobs) or jobs == -1, "at least 1, or -1", optional=True)
    _check(given, "pool", given["pool"] in POOLS, ", ".join(POOLS), optional=True)
    check_device_name(given["device"])


def _check(given: dict[str, Any], name: str, right: bool, expected: str, *, optional: bool) -> None:
    if not right and not (optional and given[name] is None):
        raise UsageError(f"{name}={given[name]!r}: expected {expected}")


def _count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
