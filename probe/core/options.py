"""Parse the values of options, given as the command line's text or as Python's objects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from probe.core.machine import usable_cores
from probe.errors import UsageError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
Words = str | Iterable[str] | None
Counts = str | int | Iterable[int] | None


def plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as Python's own, which JSON can hold."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def words(value: Words) -> tuple[str, ...]:
    """Split ``a,b``, or each text of a sequence, at commas."""
    texts = [value] if isinstance(value, str) else list(value or ())
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def texts(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return one text, several or none as a tuple; a comma parts nothing."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def counts(
    option: str, value: Counts, *, wanted: str = "give whole numbers from 1, as in 32,64"
) -> tuple[int, ...]:
    """Return the whole numbers from 1 of ``32,64``, of one number or of several, each once.

    Parameters
    ----------
    wanted : str
        What the message asks for.

    Raises
    ------
    UsageError
        One of them is something else.
    """
    if value is None:
        return ()
    given: list[Any] = [value] if isinstance(value, str | Integral) else list(value)  # type: ignore[arg-type]
    found: dict[int, None] = {}
    for word in (part for one in given for part in str(one).split(",")):
        if not word.strip().isdecimal() or int(word) < 1:
            said = value if isinstance(value, str) else ",".join(map(str, given))
            raise UsageError(f"{option} {said}: {wanted}")
        found[int(word)] = None
    return tuple(found)


def read_curve(value: Counts) -> tuple[int, ...]:
    """Return the counts of ``--learning-curve``, ascending; see `counts`."""
    wanted = "give whole numbers from 1, as in 5,10,20"
    return tuple(sorted(counts("--learning-curve", value, wanted=wanted)))


def read_bytes(value: str | int | None) -> int | None:
    """Return the number of bytes that a text like ``500MB`` or ``1.5GiB`` says; None for None.

    Raises
    ------
    UsageError
        It says none.
    """
    if value is None or (isinstance(value, Integral) and not isinstance(value, bool)):
        return value if value is None else int(value)
    found = re.fullmatch(r"([0-9.]+)\s*([kmg]?i?)b?", str(value).strip().lower())
    try:
        assert found is not None
        return int(float(found[1]) * UNITS[found[2]])
    except (AssertionError, KeyError, ValueError, OverflowError):
        raise UsageError(f"--max-memory {value}: give a size, as in 500MB or 2GiB") from None


def read_seconds(option: str, value: str | float | None) -> float | None:
    """Return the seconds that a text like ``2h``, ``1h30m`` or ``45s`` says, or that a number is.

    Raises
    ------
    UsageError
        It says none, or not more than 0.
    """
    if value is None:
        return None
    text = f"{value}s" if not isinstance(value, str) else value.strip().lower()
    found = re.fullmatch(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s)?", text)
    try:
        assert found is not None
        hours, minutes, seconds = (float(one or 0) for one in found.groups())
        total = 3600 * hours + 60 * minutes + seconds
        assert 0 < total < float("inf")
    except (AssertionError, ValueError):
        raise UsageError(f"{option} {value}: give a time, as in 2h, 1h30m, 90m or 45s") from None
    return total


def seconds_text(seconds: float) -> str:
    """Return seconds as `read_seconds` takes them, rounded: ``45s``, ``12m``, ``2h5m``."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))}s"
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours}h" * bool(hours) + f"{minutes}m" * bool(minutes or not hours)


def default_workers() -> int:
    """Return how many threads decode images: one a core, at most 8."""
    return min(usable_cores(), 8)
