"""How the texts of `probe head`'s options are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from probe.errors import UsageError

# which solvers take an option that not all of them have
SOLVER_OPTIONS = {
    "dense": (
        "epochs", "batch_size", "optimizer", "lr", "wd", "momentum", "schedule", "hidden",
        "dropout", "label_smoothing", "class_weight", "sampling", "patience", "seeds",
    ),
    "logistic": ("C", "max_iter"),
    "path": ("C", "max_iter"),
    "ridge": ("alpha",),
    "prototype": ("distance", "shrinkage"),
    "knn": ("k", "temperature"),
}  # fmt: skip
GRID = ("grid", "auto")  # what --C, --alpha, --lr, --wd and --k take besides numbers
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def own_options(solver: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given.

    Raises
    ------
    UsageError
        One belongs to another solver.
    UnknownNameError
        There is no such solver.
    """
    from probe.heads import HEADS

    name = HEADS[solver].name  # an unknown one says which there are
    found = {option: value for option, value in given.items() if value is not None}
    for option in found:
        if option not in SOLVER_OPTIONS[name]:
            owners = [one for one, options in SOLVER_OPTIONS.items() if option in options]
            raise UsageError(
                f"--{option.replace('_', '-')} belongs to --head {' or '.join(owners)}; "
                f"leave it out with {solver}"
            )
    return found


def values_of(solver: str, option: str, text: str | None) -> tuple[float, ...]:
    """Return the numbers of an option like ``--C``: one, several, or the solver's grid.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if text is None:
        return ()
    if text in GRID:
        from probe.heads.grid import default_grid

        return default_grid(solver, option)
    kind = int if option == "k" else float
    try:
        return tuple(kind(one) for one in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{option} {text}: give a number, several with commas, or `grid`"
        ) from None


def no_jobs(solver: str, jobs: int) -> str:
    """Return what is said of ``-j`` where the solver does not fit candidates one by one."""
    return f"-j {jobs} is for --head logistic; {solver} uses all cores for its one fit"


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
