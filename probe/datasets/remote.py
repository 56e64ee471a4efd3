"""Load a dataset that a URL names: a file of any form, several by a pattern, or a folder.

What is needed of it is fetched to the mirror, and read there.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from probe.core.regular import read_regular
from probe.core.urls import public
from probe.datasets.forms.formats import FORMATS, Format, format_of, forms, is_dataset_file
from probe.datasets.forms.layout import (
    DECLARED,
    NamesTree,
    class_folders,
    labelled_by,
    unlabeled_folders,
)
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.lst import LST
from probe.datasets.forms.metadata_folder import METADATA, is_metadata_folder
from probe.datasets.forms.number_labels import NAME_FILES
from probe.datasets.forms.recordio import INDEX, RECORDS
from probe.datasets.forms.shards import expanded, is_pattern
from probe.datasets.images.image_files import ending, is_image_name, is_leavings, left_out
from probe.datasets.mirror.mirror import Mirror
from probe.datasets.spec import Dataset
from probe.datasets.tables.name_patterns import chosen
from probe.errors import DataError, MissingFilesError, UsageError

log = logging.getLogger(__name__)

_BESIDE = (INDEX, LST, ".json", *NAME_FILES)  # ends files that say something of others
_DEEPEST = 2  # folders above a folder's metadata


def load_remote(url: str, loading: Loading) -> Dataset:
    """Read the dataset of a URL; of a folder of images, no image is fetched.

    A URL that ends like a dataset's file is one, any other is a folder.

    Raises
    ------
    MissingFilesError
        The store cannot be read, or there is nothing.
    DataError, UsageError
        As the form of the dataset does.
    """
    mirror = loading.remote
    place = Path(mirror.place(url))
    if is_pattern(place):
        files = list(expanded(place))
        _fetch(mirror, list(map(str, files)), place.name)
    elif not url.endswith("/") and is_dataset_file(place):
        _fetch(mirror, [str(place)], place.name)
        _fetch_beside(mirror, place)
    else:
        return _load_folder(place, public(url), loading)
    return _load(place, public(url), loading)


def _load(place: Path, called: str, loading: Loading) -> Dataset:
    """Load what was fetched by its form."""
    form = format_of(place)
    if form is None:
        raise DataError(f"{called}: is a file of another kind; give {forms()}")
    _check(called, form, loading)
    return form.load(place, loading)


def _load_folder(root: Path, called: str, loading: Loading) -> Dataset:
    """Load the images in a folder, or the files that hold them."""
    mirror = loading.remote
    names = [one for one in mirror.files(str(root)) if not any(map(is_leavings, one.split("/")))]
    if not names:
        raise MissingFilesError(
            f"{called}: there is no such file or folder, or it is empty; check the address"
        )
    metadata = [
        one for one in names if one.rpartition("/")[2] in METADATA and one.count("/") <= _DEEPEST
    ]
    if metadata:
        _fetch_below(mirror, root, metadata)
        if is_metadata_folder(root):
            return _load(root, called, loading)
    if not any(map(is_image_name, (one.rpartition("/")[2] for one in names))):
        files = [one for one in names if is_dataset_file(Path(one)) or one.endswith(_BESIDE)]
        if not files:
            raise DataError(f"{called}: has neither images nor files of a dataset; give {forms()}")
        _fetch_below(mirror, root, files)
        return _load(root, called, loading)
    return _class_folders(root, called, names, loading)


def _class_folders(root: Path, called: str, names: Sequence[str], loading: Loading) -> Dataset:
    """Return the images of class folders; none is fetched before it is needed."""
    form, options = FORMATS[-1], loading.options
    _check(called, form, loading)
    declared = [one for one in names if one.rpartition("/")[2] == DECLARED]
    if declared:
        _fetch_below(loading.remote, root, declared)
    texts = {one: read_regular(root / one) for one in declared}
    images = {one for one in names if is_image_name(one.rpartition("/")[2])}
    others = Counter(map(ending, {*names} - images - {*declared}))
    if others:
        log.warning("%s: %s", called, left_out(others))
    taken = [one for one in sorted(images) if chosen(one, options.include, options.exclude)]
    tree = NamesTree(called.rstrip("/"), taken, texts)
    parts = unlabeled_folders(tree) if options.unlabeled else class_folders(tree)
    return labelled_by(
        tree,
        parts,
        lambda ids: loading.images(str(root), ids),
        name=root.name,
        base=root,
        skip_bad=loading.skip_bad,
    )


def _check(called: str, form: Format, loading: Loading) -> None:
    """Refuse options that the form does not take."""
    if loading.root is not None and "root" not in form.options:
        raise UsageError(f"{called} is {form.title}, so --dataset-root makes no sense")
    loading.options.check(called, form.title, form.options)


def _fetch(mirror: Mirror, files: Sequence[str], what: str) -> None:
    """Fetch files that have to be there."""
    for path, reason in mirror.fetch(files, what).items():
        raise MissingFilesError(f"{mirror.public_url(path)}: {reason}; check the address")


def _fetch_below(mirror: Mirror, root: Path, names: Sequence[str]) -> None:
    what = names[0] if len(names) == 1 else f"{len(names):,} files"
    _fetch(mirror, [os.path.join(root, *one.split("/")) for one in names], what)


def _fetch_beside(mirror: Mirror, place: Path) -> None:
    """Fetch what says something of a file, where it is there."""
    if place.name.lower().endswith((RECORDS, LST)):
        own = [place.with_suffix(one) for one in (INDEX, LST)] if place.suffix != LST else []
        mirror.fetch([str(one) for one in (*own, *map(place.with_name, NAME_FILES))], place.name)
