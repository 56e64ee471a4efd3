"""Which run is meant by a path, a name, or the beginning of a name."""

from __future__ import annotations

import glob
from pathlib import Path

from probe.errors import UnknownNameError

SHOWN = 3  # of the names that a beginning may stand for


def find_run(runs: Path, wanted: Path, *, kind: str = "run") -> Path:
    """Return the folder of a run; whoever reads it says whether it has finished.

    Parameters
    ----------
    runs : Path
        Where runs are kept that have a name alone.
    wanted : Path
        A folder, the name of one in `runs`, or the beginning of one name there and no other.
    kind : str
        What messages call it: benches are found alike.

    Raises
    ------
    UnknownNameError
        There is none, or more than one.
    """
    for folder in (wanted, runs / wanted):
        if folder.is_dir():
            return folder
    close: list[Path] = []
    if wanted.name == str(wanted):
        close = sorted(one for one in runs.glob(f"{glob.escape(wanted.name)}*") if one.is_dir())
    if len(close) == 1:
        return close[0]
    if close:
        names = ", ".join(one.name for one in close[:SHOWN]) + ", ..." * (len(close) > SHOWN)
        raise UnknownNameError(f"more than one {kind} in {runs} starts with {wanted}: {names}")
    raise UnknownNameError(f"{wanted}: no such folder, and no such {kind} in {runs}")
