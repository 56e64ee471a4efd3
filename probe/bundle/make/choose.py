"""Which run is meant where nobody names one."""

from __future__ import annotations

from pathlib import Path

from probe.bench.record import Bench, newest_bench
from probe.errors import BundleError, UsageError

SECOND = len("20260131-235959")  # what the names of runs and benches begin with


def default_run(runs: Path) -> Path:
    """Return the newest complete run's folder; where a bench was finished after it, its winner's.

    Parameters
    ----------
    runs : Path
        A cache folder's `runs`, beside which its `benches` lie.

    Raises
    ------
    BundleError
        There is no run.
    UsageError
        The bench has a winner for each of several datasets.
    """
    complete = sorted(path.parent for path in runs.glob("*/result.json"))
    if not complete:
        raise BundleError(f"{runs}: no runs yet; `probe head` makes one")
    bench = newest_bench(runs.parent / "benches")
    if bench is None or bench.id[:SECOND] < complete[-1].name[:SECOND]:
        return complete[-1]
    winner = _winner(bench)
    folder = runs / winner if winner is not None else complete[-1]
    return folder if folder in complete else complete[-1]


def _winner(bench: Bench) -> str | None:
    won = [bench.row(one.winner) for one in bench.comparisons if one.winner is not None]
    if len(won) > 1:
        named = ", ".join(f"{row.dataset}: {row.run or row.name}" for row in won)
        raise UsageError(f"the newest bench has a winner for each dataset; name one ({named})")
    return won[0].run if won else None
