"""An entry on its way, under a name that no listing shows: started, or taken up after a kill."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.cache.checksum import SplitTable
from probe.cache.create import create
from probe.cache.features import FeatureSet
from probe.cache.file import OpenFile, open_file
from probe.cache.key import FeatureKey
from probe.cache.store import Store
from probe.cache.writer import Writer, publish
from probe.errors import CacheError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a new entry consists of before its rows."""

    key: FeatureKey
    dataset: str
    tables: Mapping[str, SplitTable]
    row_shape: tuple[int, ...]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]


class PendingEntry:
    """An entry that is being written.

    Call under `Store.lock`. An earlier run's unfinished file is taken up where it matches.

    Parameters
    ----------
    fresh : bool, default=False
        Take nothing up: start with an empty file.

    Attributes
    ----------
    resumed : bool
        An interrupted run's file was taken up.
    """

    def __init__(self, store: Store, draft: Draft, *, fresh: bool = False) -> None:
        self.final = store.path_of(draft.key, draft.dataset)
        self._partial, self._journal = unfinished_files(self.final)
        opened = None if fresh else self._resumable(draft)
        self.resumed = opened is not None
        if opened is None:
            self._journal.unlink(missing_ok=True)  # first, for it speaks of the file that goes
            self._partial.unlink(missing_ok=True)
            create(
                self._partial, draft.key, draft.tables,
                row_shape=draft.row_shape, classes=draft.classes, provenance=draft.provenance,
            )  # fmt: skip
            opened = open_file(self._partial)
        self.writer = Writer(opened, self._journal)

    def _resumable(self, draft: Draft) -> OpenFile | None:
        if not (self._partial.exists() and self._journal.exists()):
            return None
        try:
            opened = open_file(self._partial)  # refuses a file that was cut short
        except CacheError as error:
            log.info("an interrupted run cannot be taken up: %s", error)
            return None
        header = opened.header
        same = (
            header.key == draft.key
            and header.classes == draft.classes
            and all(region.shape[1:] == draft.row_shape for region in header.features.values())
            and all(_same(opened.table(split), table) for split, table in draft.tables.items())
        )
        return opened if same else None

    def publish(self, *, seconds: float, forwarded: int) -> FeatureSet:
        """Seal the file and give it its name."""
        self.writer.seal(seconds=seconds, forwarded=forwarded)
        self.writer.close()
        publish(self._partial, self.final)
        self._journal.unlink(missing_ok=True)
        return FeatureSet.open(self.final)

    def close(self) -> None:
        """Stop here; what is finished stays for the next run."""
        self.writer.close()


def unfinished_files(final: Path) -> tuple[Path, Path]:
    """Return where an entry's rows and journal lie while it is written."""
    return (
        final.with_name(f".{final.stem}.partial"),
        final.with_name(f".{final.stem}.journal"),
    )


def _same(found: SplitTable, table: SplitTable) -> bool:
    # content too: it is under the key's digest, and a damaged copy would be sealed as it is
    return found.same_rows(table) and np.array_equal(found.content, table.content)
