"""The forms that a dataset may have on disk. A new one is one file and one line of `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.datasets.forms import (
    archives,
    arrays,
    arrow_images,
    folder,
    listed,
    metadata_folder,
    records,
    shards,
    split_lists,
)
from probe.datasets.forms.loading import Loading
from probe.datasets.spec import Dataset
from probe.datasets.tables import table


@dataclass(frozen=True, kw_only=True)
class Format:
    """A form of datasets.

    Parameters
    ----------
    title : str
        What it is called in sentences, with its article.
    endings : tuple of str
        Of its files, in lower case with the dot; none where it is a folder.
    options : frozenset of str
        The fields of `ReadOptions` that it takes, and ``root`` where its paths may lie elsewhere.
    takes : callable
        Whether a place that exists has this form, judged quickly.
    load : callable
        Reads all but the pixels.
    holds_images : bool
        Whether the images lie in its files, instead of beside them.
    """

    title: str
    endings: tuple[str, ...] = ()
    holds_images: bool = False
    options: frozenset[str] = frozenset()
    takes: Callable[[Path], bool]
    load: Callable[[Path, Loading], Dataset]


FORMATS = (
    Format(
        title="Parquet or Arrow files with a column of images",
        endings=arrow_images.ENDINGS,
        options=frozenset(("label", "split_column", "where", "unlabeled")),
        takes=arrow_images.takes,
        load=arrow_images.load_arrow,
        holds_images=True,
    ),
    Format(
        title="a list of images",
        endings=tuple(table.READERS),
        options=frozenset(
            ("root", "columns", "label", "split_column", "where", "include", "exclude", "unlabeled")
        ),
        takes=lambda place: table.is_table(place) or split_lists.is_folder_of_lists(place),
        load=listed.load_listed,
    ),
    Format(
        title="a list of MXNet's",
        endings=(".lst",),
        options=frozenset(["root", "label", "include", "exclude", "unlabeled"]),
        takes=lambda place: _ends_with(place, ".lst"),
        load=records.load_lst,
    ),
    Format(
        title="files of MXNet's records",
        endings=(".rec",),
        options=frozenset(["label", "unlabeled"]),
        takes=lambda place: _files(place, (".rec",)),
        load=records.load_records,
        holds_images=True,
    ),
    Format(
        title="a folder with metadata as Hugging Face's",
        options=frozenset(("label", "split_column", "where", "include", "exclude", "unlabeled")),
        takes=metadata_folder.is_metadata_folder,
        load=metadata_folder.load_metadata_folder,
    ),
    Format(
        title="archives of class folders, or of samples as WebDataset has them",
        endings=archives.ENDINGS,
        options=frozenset(("label", "split_column", "where", "include", "exclude", "unlabeled")),
        takes=lambda place: _files(place, archives.ENDINGS),
        load=archives.load_archives,
        holds_images=True,
    ),
    Format(
        title="arrays of images and labels",
        endings=arrays.ENDINGS,
        options=frozenset(("label", "split_column", "where", "unlabeled")),
        takes=lambda place: _files(place, arrays.ENDINGS),
        load=arrays.load_arrays,
        holds_images=True,
    ),
    Format(
        title="a folder of class folders",
        options=frozenset(["include", "exclude", "unlabeled"]),
        takes=Path.is_dir,
        load=folder.load_folder,
    ),
)


def format_of(place: Path) -> Format | None:
    """Return the form of what lies at a path, or None: the first that takes it."""
    return next((one for one in FORMATS if one.takes(place)), None)


def is_dataset_file(place: Path) -> bool:
    """Whether a path has the ending of a dataset in one file."""
    return _ends_with(place, *(ending for one in FORMATS for ending in one.endings))


def forms() -> str:
    """Return the forms in words, for an error or a help text."""
    titles = [
        f"{one.title} ({', '.join(one.endings)})" if one.endings else one.title for one in FORMATS
    ]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def _files(place: Path, endings: Sequence[str]) -> bool:
    """Whether a place is such a file, several of them, or a folder of nothing but them."""
    return shards.has_files(place, endings) if place.is_dir() else _ends_with(place, *endings)


def _ends_with(place: Path, *endings: str) -> bool:
    return place.name.lower().endswith(endings)
