"""What is known of an entry's images beside their labels and splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from probe.core.columns import Column
from probe.core.indexing import rows_of_ids
from probe.datasets.tables.table import read_table
from probe.errors import ProbeError

log = logging.getLogger(__name__)

OLDER = (".csv", ".tsv")  # the lists that there were when entries had no columns
Columns = Mapping[str, Mapping[str, Sequence[str]]]  # by split and name, in the rows' order


class Known(Protocol):
    """An entry with its splits: what `join` returns, or the features of a bench."""

    @property
    def entry(self) -> Any: ...
    @property
    def splits(self) -> Mapping[str, Any]: ...


def columns_of(known: Known) -> dict[str, Mapping[str, Column]]:
    """Return what a table says of the images of each split; nothing where there is no table.

    It lies in the entry, so it is what the table said when the entry was made or last brought in
    step. Entries of older versions keep none. For those the list that they were made from is read
    again, if it is a CSV or TSV file that is still there. Nobody else does so.
    """
    found = {name: split.columns for name, split in known.splits.items()}
    if all(found.values()):
        return found
    listed = _of_the_list(known)  # of splits that were extracted apart, one may be older
    return {name: own or listed[name] for name, own in found.items()}


def _of_the_list(known: Known) -> dict[str, Mapping[str, Column]]:
    recorded = known.entry.provenance.get("request")
    named = recorded.get("dataset") if isinstance(recorded, dict) else None
    path = Path(named) if isinstance(named, str) else None
    if path is None or path.suffix.lower() not in OLDER or not path.is_file():
        return {name: {} for name in known.splits}
    try:
        table = read_table(path)
    except ProbeError as error:
        log.warning("its columns cannot be read: %s", error)
        return {name: {} for name in known.splits}
    cells = {name: dict(zip(table.paths, own, strict=True)) for name, own in table.columns.items()}
    return {
        split: {
            name: Column.of(own.get(one, "") for one in rows.ids) for name, own in cells.items()
        }
        for split, rows in known.splits.items()
    }


def ids_of(known: Known) -> dict[str, Sequence[str]]:
    """Return the ids of each split."""
    return {name: split.ids for name, split in known.splits.items()}


def of_rows(
    columns: Mapping[str, Mapping[str, Column]], known: Known, split: str, ids: Sequence[str]
) -> dict[str, Column]:
    """Return the columns of some rows, found by their ids; nothing where one is not there.

    Parameters
    ----------
    columns : mapping of split to columns
        Of all rows of `known`.
    split : {"train", "val", "test", "oof"}
        Of the rows, as predictions have it: ``oof`` are training rows, and so are those of ``val``
        where the dataset has no such split.
    """
    there = split if split in known.splits else "train"
    if not columns.get(there):
        return {}
    rows, missing = rows_of_ids(ids, known.splits[there].ids)
    return {} if missing else {name: one.take(rows) for name, one in columns[there].items()}
