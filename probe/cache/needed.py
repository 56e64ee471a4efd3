"""Which entries of the cache the runs and benches beside it still need."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from probe.bench.record import FILE_NAME as BENCH
from probe.bench.record import load_bench
from probe.cache.beside import parse_features_name
from probe.core.run_folders import elsewhere
from probe.errors import ProbeError
from probe.runs.results import finished_runs, read_run

log = logging.getLogger(__name__)

SHOWN = 3  # named in a message

Needed = Mapping[str, Sequence[str]]


def needed_entries(cache_dir: Path) -> Needed:
    """Return entry name -> the runs and benches of this state folder that were made from it.

    Without its entry a run can be neither bundled nor evaluated nor shown with its images. Runs
    that were put elsewhere (``--out``) count as long as they are still there.
    """
    found: dict[str, list[str]] = {}
    runs = cache_dir / "runs"
    kept = [(f"runs/{folder.name}", result) for folder, result in finished_runs(runs)]
    for folder in elsewhere(runs):
        try:
            kept.append((str(folder), read_run(folder)))
        except ProbeError as error:
            log.info("%s", error)
    for name, result in kept:
        for entry in dict.fromkeys(parse_features_name(result.entry)[0]):
            found.setdefault(entry, []).append(name)
    for path in sorted((cache_dir / "benches").glob(f"*/{BENCH}"), reverse=True):
        try:
            rows = load_bench(path.parent).rows
        except ProbeError as error:
            log.info("%s", error)
            continue
        for name in dict.fromkeys(name for row in rows for name in row.entries):
            found.setdefault(name, []).append(f"benches/{path.parent.name}")
    return found


def in_words(names: Sequence[str]) -> str:
    """Return who needs an entry, the newest first, the rest counted."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
