"""Load a dataset by name, folder or list file."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.core.download import Progress
from probe.core.memo import Memo
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.urls import is_url, public, text_of
from probe.datasets.classes import lookalikes
from probe.datasets.forms.formats import Format, format_of, forms, is_dataset_file
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.shards import is_pattern
from probe.datasets.images.files import FileImages
from probe.datasets.images.packed import PackedImages
from probe.datasets.mirror.mirror import REMOTE, Mirror
from probe.datasets.mirror.stores import store_for
from probe.datasets.named.catalog import DATASETS
from probe.datasets.named.load import load_named
from probe.datasets.remote import load_remote
from probe.datasets.sample import sample
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.datasets.stored_split import may_have_split, path_by_place, with_stored_split
from probe.datasets.tables.columns import with_sound_columns
from probe.errors import DataError, UnknownNameError, UsageError
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)


def load_dataset(
    name_or_folder: str,
    *,
    root: Path | None = None,
    cache_dir: Path = Path("cache"),
    splits: Sequence[str] | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    seed: int = 42,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    coarse: bool = False,
    download: bool = True,
    strict: bool = False,
    stored_split: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> Dataset:
    """Find a dataset and read all of it but the pixels.

    Parameters
    ----------
    name_or_folder : str
        A name of the catalog, or a place of one of `probe.datasets.forms.formats.FORMATS`: a folder
        of class folders, a list of images and labels, ... A folder with the name of a dataset is
        written with a slash: ``./cifar10``. Or the URL of such a place, as ``s3://bucket/photos/``;
        what is needed of it is fetched to ``cache_dir/remote`` once.
    root : Path or None
        Folder of a named dataset's official files, or the one above. Default:
        ``cache_dir/datasets/NAME``. Missing files are downloaded to there. Of a list, the folder
        that its paths are relative to, which may be a URL. Default: the list's own.
    cache_dir : Path
        Holds the memo of content hashes, and downloads.
    splits : sequence of str or None
        Of ``train``, ``val``, ``test``; None for all that there are.
    per_class, limit, seed
        See `probe.datasets.sample.sample`; they hold for each split.
    skip_bad : bool, default=False
        Decode every image (of those chosen) once beforehand, and leave out and list in
        `Dataset.skipped` those that cannot be read, and class folders without an image.
        Otherwise they raise when they are read.
    reading : ReadOptions
        What columns mean, and which images are taken.
    coarse : bool, default=False
        The 20 superclasses of CIFAR-100.
    download : bool, default=True
        False: never touch the network. For a dataset with a name it is not touched either when
        the files are there.
    strict : bool, default=False
        Fetch what a URL names again, whatever the store says of it.
    stored_split : bool, default=True
        Divide the train images by the split that `probe dataset split` stored for the dataset,
        where there is one; see `probe.datasets.stored_split`.
    workers : int, default=1
        Threads that hash and check image files.
    progress : callable, optional
        Called with the name of a file to download; returns its progress bar, a
        `probe.core.download.Bar`.

    Returns
    -------
    Dataset
        Splits in the order train, val, test.

    Raises
    ------
    UnknownNameError
        There is neither such a dataset nor such a folder.
    UsageError
        An option makes no sense.
    MissingFilesError
        Files are missing and could not be downloaded.
    DataError
        The files are not what they should be.
    """
    _check_options(splits, per_class, limit, workers)
    mirror = Mirror(cache_dir / REMOTE, strict=strict, network=download, progress=progress)
    name_or_folder, root = text_of(name_or_folder), _root(root, mirror)
    loading = Loading(
        memo=Memo(cache_dir / "memo.sqlite"), cache_dir=cache_dir, root=root, workers=workers,
        skip_bad=skip_bad, options=reading, mirror=mirror,
    )  # fmt: skip
    if name_or_folder in DATASETS:
        if root is not None and mirror.has(str(root)):
            raise UsageError(
                f"{name_or_folder}: --dataset-root {mirror.public_url(str(root))} is a URL; a "
                "dataset with a name is read from a folder of this machine"
            )
        spec = DATASETS[name_or_folder]
        divided = stored_split and path_by_place(spec.name, cache_dir) is not None
        if not divided:
            _check_splits(spec.name, splits, spec.splits)
        reading.check(spec.name, "a dataset with a name", frozenset())
        if root is not None and not any(layout.sources for layout in spec.layouts):
            raise UsageError(f"{spec.name} comes with {spec.package}; leave out --dataset-root")
        base = cache_dir / "datasets" / spec.name if root is None else root.expanduser()
        dataset = load_named(
            spec, base, splits=None if divided else splits, coarse=coarse,
            download=download, loading=loading, progress=progress,
        )  # fmt: skip
    else:
        if is_url(name_or_folder):
            _check_url(name_or_folder, coarse=coarse)
            dataset = load_remote(name_or_folder, loading)
        else:
            place, form = _place(name_or_folder, root=root, coarse=coarse)
            reading.check(name_or_folder, form.title, form.options)
            dataset = form.load(place, loading)
        if dataset.root is not None and mirror.has(str(dataset.root)):
            dataset = replace(dataset, url=mirror.public_url(str(dataset.root)))
    called = public(name_or_folder)
    for each in dataset.splits.values():
        _check_ids(dataset.name, each)
    if stored_split and may_have_split(dataset, called, cache_dir):
        if skip_bad:  # images that cannot be read are in no split
            dataset = _without_bad(dataset)
        dataset = with_stored_split(dataset, called, cache_dir)
    # two columns of labels are two entries, as the fine and the coarse labels of CIFAR-100 are
    name = dataset.name if reading.label is None else f"{dataset.name}_{reading.label}"
    dataset = replace(dataset, name=name)
    dataset = chosen_images(dataset, splits=splits, per_class=per_class, limit=limit, seed=seed)
    if alike := lookalikes(dataset.classes):
        log.warning("%s: %s", dataset.name, alike)
    return _without_bad(dataset) if skip_bad else dataset


def chosen_images(
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    seed: int = 42,
) -> Dataset:
    """Return a dataset with some splits, and some images of each; see `load_dataset`.

    Columns that cannot be kept are left out, with a line for each.
    Of what was chosen once the same choice takes all.
    """
    _check_options(splits, per_class, limit, 1)
    _check_splits(dataset.name, splits, tuple(dataset.splits))
    dataset = with_sound_columns(dataset)
    chosen = {
        each: sample(each, split, dataset.classes, per_class=per_class, limit=limit, seed=seed)
        for each, split in dataset.splits.items()
        if splits is None or each in splits
    }
    return replace(dataset, splits=chosen)


def require_dataset(name_or_folder: str, *, root: Path | None = None, coarse: bool = False) -> None:
    """Raise as `load_dataset` would if there is no such name, folder or list; read nothing.

    A URL is not asked for.

    Raises
    ------
    UnknownNameError, DataError, UsageError
        As `load_dataset`.
    """
    text = text_of(name_or_folder)
    if is_url(text):
        _check_url(text, coarse=coarse)
    elif text not in DATASETS:
        _place(text, root=root, coarse=coarse)


def _check_options(
    splits: Sequence[str] | None, per_class: int | None, limit: int | None, workers: int
) -> None:
    for option, value in (("--per-class", per_class), ("--limit", limit), ("--workers", workers)):
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}; give at least 1")
    if isinstance(splits, str):
        raise UsageError(f"splits is the text {splits!r}; give a list of names")
    for name in splits or ():
        if name not in SPLITS:
            raise UsageError(f"no split is called {name!r}; there are {', '.join(SPLITS)}")
    if splits is not None and not splits:
        raise UsageError("no split is asked for; name one, or leave out --split")


def _check_splits(name: str, wanted: Sequence[str] | None, there: Sequence[str]) -> None:
    missing = [split for split in wanted or () if split not in there]
    if missing:
        raise DataError(f"{name}: has no split {missing[0]!r}; it has {', '.join(there)}")


def _root(root: Path | None, mirror: Mirror) -> Path | None:
    """Return the folder that an option names; of a URL, that in the mirror."""
    if root is None:
        return None
    text = text_of(root)
    return Path(mirror.place(text) if is_url(text) else text)


def _check_url(url: str, *, coarse: bool) -> None:
    """Refuse a URL whose stores cannot be read here, and options that make no sense for it."""
    if coarse:
        raise UsageError(f"{public(url)} is no dataset with coarse labels; leave out --coarse")
    store_for(url)


def _place(text: str, *, root: Path | None, coarse: bool) -> tuple[Path, Format]:
    """Return the path of a dataset, and its form."""
    if not text.strip():
        raise UsageError(f"--dataset is empty; give a name, {forms()}")
    path = Path(text).expanduser()
    form = format_of(path) if path.exists() or is_pattern(path) else None
    if form is not None:
        if root is not None and "root" not in form.options:
            raise UsageError(f"{text} is {form.title}, so --dataset-root {root} makes no sense")
        if coarse:
            raise UsageError(
                f"{text} is {form.title}, which has no coarse labels; leave out --coarse"
            )
        return path, form
    if path.exists():
        raise DataError(f"{text}: is a file of another kind; give {forms()}")
    if {os.sep, "/"} & {*text} or is_dataset_file(path):
        kind = "file" if is_dataset_file(path) else "folder"
        raise DataError(f"{text}: there is no such {kind}; check the path")
    try:
        DATASETS[text]
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; there is no folder called that either") from None
    raise AssertionError("only called for names that are not in the catalog")


def _check_ids(name: str, split: Split) -> None:
    if len(set(split.ids)) != len(split.ids):
        twice, _count = Counter(split.ids).most_common(1)[0]
        raise DataError(f"{name}: two images have the id {twice!r}; rename one")


def _without_bad(dataset: Dataset) -> Dataset:
    """Leave out encoded images that cannot be decoded."""
    splits, skipped = {}, list(dataset.skipped)
    for name, split in dataset.splits.items():
        splits[name] = split
        if not isinstance(split.images, FileImages | PackedImages):
            continue
        bad = split.images.unreadable()
        skipped += [BadImage(id=split.ids[row], reason=reason) for row, reason in bad.items()]
        if not bad:
            continue
        splits[name] = split.take(np.setdiff1d(np.arange(len(split)), list(bad)))
        present = task_of(split.labels).present
        lost = np.setdiff1d(present(split.labels), present(splits[name].labels))
        if len(lost):
            what = dataset.classes[lost[0]]
            raise DataError(
                f"{dataset.name}: no image of {what!r} in {name} can be read "
                f"({split.ids[min(bad)]}: {bad[min(bad)]}); mend them, or remove the class"
            )
    if skipped:
        log.info("%s: left out %d that cannot be read", dataset.name, len(skipped))
    return replace(dataset, splits=splits, skipped=tuple(skipped))
