"""Datasets as Python has them: shown, divided into splits, and fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from probe.core.arguments import checked
from probe.core.machine import AnyPath, state_folder
from probe.core.options import default_workers, texts
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.datasets import Dataset
    from probe.datasets.forms.indexing import WrittenList
    from probe.datasets.forms.packing import Packed
    from probe.datasets.in_memory import Data
    from probe.datasets.survey import Survey
    from probe.runs.dataset_split import Divided

READS = ("names", "files", "pixels")


@checked
def show_dataset(
    dataset: Data,
    *,
    read: Literal["names", "files", "pixels"] = "files",
    sheet: AnyPath | None = None,
    dataset_root: str | Path | None = None,
    coarse: bool = False,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Survey:
    """Count and measure a dataset's images, as `probe dataset show` does.

    Parameters
    ----------
    dataset, dataset_root, coarse, skip_bad, reading
        As in `extract`.
    read : {"names", "files", "pixels"}, default="files"
        What is read of the images: ``names`` counts them and opens none; ``files`` reads headers
        and hashes; ``pixels`` decodes all of them, which finds every damaged image.
    sheet : path, optional
        Draw some images of each class as this PNG.
    workers : int, optional
        Threads that read. Default: one a core, at most 8.
    cache_dir, quiet
        As in `extract`.

    Returns
    -------
    Survey
        ``counts["train"]`` has the images of each class, ``pictures`` sizes, formats, copies and
        images that cannot be read; ``to_json()`` gives plain containers.

    Raises
    ------
    ProbeError
        There is no such dataset, or its layout is not understood.
    """
    from probe.datasets import given_dataset, load_dataset
    from probe.screen import console, datasets

    if read not in READS:
        raise UsageError(f"read={read!r}: expected {', '.join(READS)}")
    folder, workers = state_folder(cache_dir), workers or default_workers()
    if sheet is not None:
        datasets.check_sheet(Path(sheet))
    with console.quiet(quiet):
        found = given_dataset(dataset, cache_dir=folder)
        if isinstance(found, str):
            found = load_dataset(
                found, root=None if dataset_root is None else Path(dataset_root),
                cache_dir=folder, coarse=coarse, skip_bad=skip_bad, reading=reading,
                workers=workers, progress=console.download_bar,
            )  # fmt: skip
        survey = datasets.look_at(found, read=read, workers=workers)
        if sheet is not None:
            datasets.draw_sheet(found, Path(sheet))
    return survey


@checked
def split_dataset(
    dataset: Data,
    *,
    val: float | None = None,
    test: float | None = None,
    group: str | Sequence[str] | None = None,
    seed: int | None = None,
    from_train: bool = False,
    export: AnyPath | None = None,
    dataset_root: str | Path | None = None,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Divided:
    """Divide a dataset that has no splits into train, val and test, as `probe dataset split` does.

    The split is stratified, and stored in the state folder by the images' content; from then on
    every function that reads the dataset uses it. Of a dataset that is divided already, new images
    are divided alike, and the others stay. Deleting the file `path` undoes it.

    Parameters
    ----------
    dataset, dataset_root, skip_bad, reading
        As in `extract`; images in memory have no place that a split could be stored for.
    val, test : float, optional
        Shares of all images, from 0 to below 1. Default: 0.15 each.
    group : str or sequence of str, optional
        Columns, or CSV files of ``id,group``, that say which images stay on one side.
    seed : int, default=42
        Of the random choice.
    from_train : bool, default=False
        Of a dataset that has val or test of its own: leave them, and take the other out of train.
    export : path, optional
        Also write images, labels and splits as this CSV.
    workers : int, optional
        Threads that hash images. Default: one a core, at most 8.
    cache_dir, quiet
        As in `extract`.

    Returns
    -------
    Divided
        ``path``, and ``images["train"]``: how many there are of each split.

    Raises
    ------
    ProbeError
        The dataset has such splits of its own, the shares make no sense, or it was divided by
        others before.
    """
    from probe.datasets import given_dataset
    from probe.runs.dataset_split import Wanted
    from probe.screen import console, datasets

    folder = state_folder(cache_dir)
    with console.quiet(quiet):
        found = given_dataset(dataset, cache_dir=folder)
        if not isinstance(found, str):
            raise UsageError(
                f"{found.name}: images in memory have no place to store a split for; give their "
                "files, or a mapping of train, val and test"
            )
        made, _ = datasets.split_shown(
            found,
            Wanted(val=val, test=test, group=texts(group), seed=seed, from_train=from_train),
            cache_dir=folder, dataset_root=None if dataset_root is None else Path(dataset_root),
            reading=reading, skip_bad=skip_bad, workers=workers or default_workers(),
            export=None if export is None else Path(export),
        )  # fmt: skip
    return made


@checked
def fetch_dataset(
    name: str,
    *,
    dataset_root: str | Path | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Dataset:
    """Download a dataset that has a name, as `probe dataset fetch` does.

    `probe.DATASETS` has the names, with licences, citations and published figures. What is there
    already is not downloaded again.

    Parameters
    ----------
    name : str
        A name in `probe.DATASETS`.
    dataset_root : path, optional
        Where its files shall lie. Default: ``CACHE/datasets/NAME``.
    cache_dir, quiet
        As in `extract`.

    Returns
    -------
    Dataset
        ``splits["train"]``, ``classes`` and ``root``.

    Raises
    ------
    ProbeError
        There is no such name, or it cannot be downloaded.
    """
    from probe.screen import console, datasets

    with console.quiet(quiet):
        _, found = datasets.fetch_shown(
            name,
            cache_dir=state_folder(cache_dir),
            dataset_root=None if dataset_root is None else Path(dataset_root),
        )
    return found


@checked
def index_dataset(
    dataset: Data,
    out: AnyPath | None = None,
    *,
    val: float = 0.0,
    test: float = 0.0,
    group: str | Sequence[str] | None = None,
    shuffle: bool = True,
    chunks: int = 1,
    seed: int = 42,
    dataset_root: str | Path | None = None,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    workers: int | None = None,
    overwrite: bool = False,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> list[WrittenList]:
    """Write a dataset's images as lists that MXNet reads, as `probe dataset index` does.

    Parameters
    ----------
    dataset, dataset_root, skip_bad, reading
        As in `extract`; the images have to be files.
    out : path, optional
        What the names of the lists begin with. Default: as the dataset is called, beside it.
    val, test : float, default=0
        Shares of all images, of a dataset without splits of its own.
    group : str or sequence of str, optional
        Columns, or CSV files of ``id,group``, that say which images come into the same list.
    shuffle : bool, default=True
        Images in random order; otherwise in that of the dataset.
    chunks : int, default=1
        Lists that each is divided into.
    overwrite : bool, default=False
        Replace the lists of this name that are there.
    workers, cache_dir, quiet
        As in `split_dataset`.

    Returns
    -------
    list of WrittenList
        ``path`` and number of ``images`` of each.

    Raises
    ------
    ProbeError
        The images are not in files of their own, or lists are there already.
    """
    from probe.datasets import given_dataset, load_dataset
    from probe.datasets.forms.indexing import Ratios
    from probe.screen import console, records

    folder = state_folder(cache_dir)
    with console.quiet(quiet):
        found = given_dataset(dataset, cache_dir=folder)
        name = found if isinstance(found, str) else found.name
        if isinstance(found, str):
            found = load_dataset(
                found, root=None if dataset_root is None else Path(dataset_root),
                cache_dir=folder, skip_bad=skip_bad, reading=reading,
                workers=workers or default_workers(),
            )  # fmt: skip
        return records.index_shown(
            found, records.prefix_of(name, None if out is None else Path(out)),
            Ratios(val=val, test=test),
            group=texts(group), shuffle=shuffle, chunks=chunks, seed=seed, overwrite=overwrite,
        )  # fmt: skip


@checked
def pack_lists(
    lists: AnyPath | Sequence[AnyPath],
    out: AnyPath | None = None,
    *,
    dataset_root: str | Path | None = None,
    resize: int | None = None,
    encoding: Literal[".jpg", ".png"] | None = None,
    quality: int = 95,
    color: Literal["rgb", "grey"] | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Packed]:
    """Pack the images of lists into files of records, as `probe dataset pack` does.

    Parameters
    ----------
    lists : path or sequence of paths
        ``.lst`` files; see `index_dataset`.
    out : path, optional
        The file of records, of one list. Default: the list's name with ``.rec``.
    dataset_root : path, optional
        The folder that paths are relative to. Default: the list's own, or one beside it that is
        called like it.
    resize : int, optional
        Encode anew, with a shorter side of so many pixels.
    encoding : {".jpg", ".png"}, optional
        Encode anew. Default: the bytes of the files; ``.jpg`` beside `resize` or `color`.
    quality : int, default=95
        Of a JPEG that is encoded anew, 1 to 100.
    color : {"rgb", "grey"}, optional
        Encode anew, in colour or grey.
    skip_bad : bool, default=False
        Leave out images that cannot be read.
    workers : int, optional
        Threads. Default: one a core, at most 8.
    overwrite : bool, default=False
        Replace files that are there.

    Returns
    -------
    list of Packed
        ``path``, ``index``, number of ``images`` and what was ``skipped``, of each list.

    Raises
    ------
    ProbeError
        A list is damaged, an image cannot be read, or a file is there already.
    """
    from probe.datasets.forms.packing import recoding_of
    from probe.screen import console, records

    paths = [lists] if isinstance(lists, str | os.PathLike) else lists
    with console.quiet(quiet):
        return records.pack_shown(
            [Path(one) for one in paths],
            None if out is None else Path(out),
            root=None if dataset_root is None else Path(dataset_root),
            recoding=recoding_of(resize=resize, encoding=encoding, quality=quality, color=color),
            skip_bad=skip_bad, workers=workers or default_workers(), overwrite=overwrite,
        )  # fmt: skip
