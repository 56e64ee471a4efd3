"""Find the entries that runs and benches still need.

The cache is a lower room than runs, so only the fields of their files that name entries are read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.cache.joining import parse_features_name
from probe.core.records import read_record
from probe.core.run_folders import RESULT, outside_runs
from probe.errors import DataError

log = logging.getLogger(__name__)

BENCH = "bench.json"
SHOWN = 3  # names in a message

Needed = Mapping[str, Sequence[str]]


def needed_entries(cache_dir: Path) -> Needed:
    """Return the runs and benches that were made from each entry, by the entry's name.

    Without its entry a run can be neither bundled nor evaluated nor shown with its images. Runs in
    other folders (``--out``) count as long as they exist.
    """
    runs, benches = cache_dir / "runs", cache_dir / "benches"
    paths = [
        *(
            (f"runs/{one.parent.name}", one)
            for one in sorted(runs.glob(f"*/{RESULT}"), reverse=True)
        ),
        *((str(folder), folder / RESULT) for folder in outside_runs(runs)),
        *(
            (f"benches/{one.parent.name}", one)
            for one in sorted(benches.glob(f"*/{BENCH}"), reverse=True)
        ),
    ]
    found: dict[str, list[str]] = {}
    for name, path in paths:
        for entry in dict.fromkeys(_entries_of(path)):
            found.setdefault(entry, []).append(name)
    return found


def _entries_of(path: Path) -> list[str]:
    """Return the entries that a run or a bench names; none where the file cannot be read."""

    def names(data: Any) -> list[str]:
        if path.name == RESULT:
            return list(parse_features_name(data["entry"])[0])
        return [str(name) for row in data["rows"] for name in row["entries"]]

    try:
        return read_record(path, "a run or a bench", names)
    except DataError as error:
        log.info("%s", error)
        return []


def in_words(names: Sequence[str]) -> str:
    """Return the first names of runs that need an entry, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
