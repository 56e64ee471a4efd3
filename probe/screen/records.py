"""Write lists and files of records as MXNet reads them, under a bar, and say what was left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID

from probe.core.urls import is_url, name_of, text_of
from probe.datasets import Dataset
from probe.datasets.forms.indexing import Ratios, WrittenList, write_lists
from probe.datasets.forms.lst import LST
from probe.datasets.forms.packing import Packed, Recoding, pack_list
from probe.errors import UsageError
from probe.runs.grouping import NEAR, related_images
from probe.screen import console


def prefix_of(dataset: str, out: Path | None) -> Path:
    """Return the absolute path that the names of a dataset's lists begin with."""
    text = name_of(dataset) if is_url(dataset) else text_of(dataset)
    source = Path(os.path.abspath(Path(text).expanduser()))
    name = source.name if source.is_dir() else source.stem
    if out is None:
        return source.with_name(name)
    target = Path(os.path.abspath(out.expanduser()))
    if out.is_dir():
        return target / name
    return target.with_suffix("") if target.suffix.lower() == LST else target


def index_shown(
    dataset: Dataset,
    prefix: Path,
    ratios: Ratios,
    *,
    group: Sequence[str],
    shuffle: bool,
    chunks: int,
    seed: int,
    overwrite: bool,
) -> list[WrittenList]:
    """Write the lists of a dataset; see `write_lists`.

    Raises
    ------
    UsageError
        Groups are named that are not known without features.
    """
    if NEAR in group:
        raise UsageError(
            f"--group {NEAR} compares features, which are not computed here; name a column or a "
            "file (copies of one picture always come into one list)"
        )
    units = None
    if ratios.val or ratios.test:
        units = related_images(dataset.splits, group).units.get("train")
    lists = write_lists(
        dataset, prefix,
        ratios=ratios, units=units, shuffle=shuffle, chunks=chunks, seed=seed, overwrite=overwrite,
    )  # fmt: skip
    for bad in dataset.skipped:
        console.stderr().print(f"skipped   {bad.id}: {bad.reason}")
    return lists


def pack_shown(
    lists: Sequence[Path],
    out: Path | None,
    *,
    root: Path | None,
    recoding: Recoding | None,
    skip_bad: bool,
    workers: int,
    overwrite: bool,
) -> list[Packed]:
    """Pack lists one after the other; see `pack_list`.

    Raises
    ------
    UsageError
        There are several, and one file to write.
    """
    if out is not None and len(lists) > 1:
        raise UsageError(f"--out {out} names one file, and {len(lists)} lists are given")
    done = []
    for one in lists:
        with console.progress("pack", "images") as bar:
            task = bar.add_task("pack", total=None)
            packed = pack_list(
                one.expanduser(), out,
                root=root, recoding=recoding, skip_bad=skip_bad, workers=workers,
                overwrite=overwrite, started=partial(_started, bar, task),
                advanced=partial(bar.advance, task),
            )  # fmt: skip
        for bad in packed.skipped:
            console.stderr().print(f"skipped   {bad.id}: {bad.reason}")
        if packed.foreign:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in packed.foreign.items())
            console.stderr().print(
                f"{console.place(packed.path)}: holds {kinds}, which MXNet does not decode (probe "
                "does); --encoding .jpg packs them as JPEG"
            )
        done.append(packed)
    return done


def _started(bar: Progress, task: TaskID, total: int) -> None:
    bar.update(task, total=total)
