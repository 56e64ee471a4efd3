"""How the texts of `probe head`'s options are read."""

from __future__ import annotations

import re

from probe.errors import UsageError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def read_counts(text: str) -> list[int]:
    """Return the numbers of ``--learning-curve``, ascending.

    Raises
    ------
    UsageError
        They are not whole numbers from 1.
    """
    counts = [int(one) if one.strip().isdigit() else 0 for one in text.split(",")]
    if min(counts) < 1:
        raise UsageError(f"--learning-curve {text}: give whole numbers from 1, as in 5,10,20")
    return sorted(set(counts))


def read_bytes(text: str) -> int:
    """Return the number of bytes that a text like ``500MB`` or ``1.5GiB`` says.

    Raises
    ------
    UsageError
        It says none.
    """
    found = re.fullmatch(r"([0-9.]+)\s*([kmg]?i?)b?", text.strip().lower())
    try:
        assert found is not None
        return int(float(found[1]) * UNITS[found[2]])
    except (AssertionError, KeyError, ValueError, OverflowError):
        raise UsageError(f"--max-memory {text}: give a size, as in 500MB or 2GiB") from None
