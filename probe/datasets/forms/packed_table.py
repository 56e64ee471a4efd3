"""Datasets whose images lie in packed files, and whose labels in a table beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.datasets.forms.listed import check_trained, rows_of_splits
from probe.datasets.forms.loading import Loading
from probe.datasets.images.packed import PackedFile, PackedImages, file_stamp
from probe.datasets.spec import Dataset, Images, Split
from probe.datasets.tables.cells import Cells
from probe.datasets.tables.split_columns import SPLIT
from probe.datasets.tables.table import interpret

log = logging.getLogger(__name__)


def images_in(
    files: Sequence[PackedFile], loading: Loading
) -> Callable[[Sequence[tuple[int, int]]], PackedImages]:
    """Return a function from (number of the file, place of the image in it) to those images.

    The files' stamps are taken here: call it before anything else is read of them, so that a change
    in between is noticed.
    """
    those, stamps = tuple(files), {file.path: file_stamp(file.path) for file in files}

    def images(places: Sequence[tuple[int, int]]) -> PackedImages:
        rows = np.array(places, np.intp).reshape(-1, 2).T
        return PackedImages(those, rows, loading.memo, stamps=stamps, workers=loading.workers)

    return images


def dataset_of_packed(
    cells: Cells,
    ids: Sequence[str],
    places: Sequence[tuple[int, int]],
    images: Callable[[Sequence[tuple[int, int]]], Images],
    loading: Loading,
    *,
    name: str,
    root: Path,
    splits: Sequence[str | None] = (),
) -> Dataset:
    """Return a dataset whose table has a row an image.

    Parameters
    ----------
    cells : Cells
        See `probe.datasets.tables.table.interpret`.
    ids : sequence of str, (n_rows,)
    places : sequence of (number of the file, place of the image in it), (n_rows,)
    images : callable
        What `images_in` returned for the files.
    splits : sequence of str or None, (n_rows,)
        What the files are called by, where that tells a split.

    Raises
    ------
    DataError, UsageError
        As `interpret`.
    """
    if any(splits) and loading.options.split_column is None:
        there = [n for n, one in enumerate(cells.names) if one.lower() == SPLIT]
        kept = [n for n in range(len(cells.names)) if n not in there]
        cells = replace(
            cells,
            names=[*(cells.names[n] for n in kept), SPLIT],
            rows=[
                [*(row[n] for n in kept), split or ""]
                for row, split in zip(cells.rows, splits, strict=True)
            ],
        )
    table = interpret(cells, loading.options, paths=False)
    for note in table.notes:
        log.warning("%s: %s", root, note)
    numbers = rows_of_splits(table)
    check_trained(table, numbers)
    made = {}
    for split, rows in numbers.items():
        own = [table.rows[row] for row in rows]
        made[split] = Split(
            ids=[ids[row] for row in own],
            labels=table.labels[rows],
            images=images([places[row] for row in own]),
            columns={one: [each[row] for row in rows] for one, each in table.columns.items()},
        )
    return Dataset(name=name, classes=table.classes, splits=made, root=root)
