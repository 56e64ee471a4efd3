"""Which run or bench is meant: by a path, a name or its beginning, or where nobody names one."""

from __future__ import annotations

import glob
from collections.abc import Container
from pathlib import Path

from probe.bench.record import Bench, newest_bench
from probe.core.run_folders import RESULT
from probe.errors import UnknownNameError, UsageError
from probe.runs.results import finished_runs

SECOND = len("20260131-235959")  # what the names of runs and benches begin with
SHOWN = 3  # of the names that a beginning may stand for


def find_run(runs: Path, wanted: Path, *, kind: str = "run") -> Path:
    """Return the folder of the run that a path, a name, or the beginning of a name means.

    The run may be unfinished; reading its result says so.

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


def default_run(cache_dir: Path, *, but: Container[str] = ()) -> tuple[Path, str]:
    """Return a run's folder and why it is taken: the newest finished run, or a bench's winner.

    A bench that finished after the newest run stands for its winner.

    Parameters
    ----------
    cache_dir : Path
        The state folder, with its `runs` and `benches`.
    but : container of str
        Runs of these heads are passed over.

    Raises
    ------
    UsageError
        There is no run, or the bench has a winner for each of several datasets.
    """
    runs = cache_dir / "runs"
    newest = next((folder for folder, one in finished_runs(runs) if one.head not in but), None)
    bench = newest_bench(cache_dir / "benches")
    if bench is not None and (newest is None or bench.id[:SECOND] >= newest.name[:SECOND]):
        winner = _winner(bench)
        if winner is not None and (runs / winner / RESULT).is_file():
            return runs / winner, f"the winner of the newest bench, {bench.id}"
    if newest is None:
        raise UsageError(f"{runs}: no finished run yet; `probe head` makes one")
    return newest, "the newest run"


def find_bench(benches: Path, wanted: Path | None) -> Path:
    """Return the folder of a bench: a folder, a name, the beginning of one, or else the newest.

    Raises
    ------
    UnknownNameError
        There is none of that name, or more than one.
    UsageError
        There is no complete bench.
    """
    if wanted is not None:
        return find_run(benches, wanted, kind="bench")
    newest = newest_bench(benches)
    if newest is None:
        raise UsageError(f"{benches}: no bench yet; `probe bench` makes one")
    return benches / newest.id


def _winner(bench: Bench) -> str | None:
    won = [bench.row(one.winner) for one in bench.comparisons if one.winner is not None]
    if len(won) > 1:
        named = ", ".join(f"{row.dataset}: {row.run or row.name}" for row in won)
        raise UsageError(f"the newest bench has a winner for each dataset; name one ({named})")
    return won[0].run if won else None
