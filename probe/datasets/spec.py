"""The types of a dataset, its splits and its images, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column
from probe.core.indexing import row_numbers, rows_of_ids
from probe.core.text import counted
from probe.core.texts import taken_texts
from probe.errors import DataError
from probe.evaluation.task import Task, task_of_splits

SPLITS = ("train", "val", "test")
CONTENT_BYTES = 16


class Images(Protocol):
    """A fixed sequence of images, read one by one. Safe to call from several threads.

    Those that are stored as image files, wherever these lie, also have ``encoded(row)``, which
    returns the bytes of one image's file, or None where only its pixels are stored; `encoded_of`
    calls it.
    """

    def __len__(self) -> int: ...

    def content(self) -> NDArray[np.uint8]:
        """Return what identifies each image's pixels, (n_images, 16).

        For files the BLAKE2b-128 of the file's bytes, for packed formats that of the shape and
        the RGB pixels, so that two packings of the same images agree.
        """
        ...

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image as RGB, (height, width, 3).

        Raises
        ------
        ImageError
            It cannot be read; the message has its path or id.
        """
        ...

    def take(self, rows: NDArray[np.intp]) -> Images:
        """Return the images of those rows, in that order."""
        ...


def encoded_of(images: Images, row: int) -> bytes | None:
    """Return the bytes of one image's file; None where its pixels alone are stored.

    Raises
    ------
    ImageError
        It cannot be read.
    """
    encoded = getattr(images, "encoded", None)
    return None if encoded is None else encoded(row)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Labelled images in a fixed order.

    Parameters
    ----------
    ids : sequence of str
        Unique; the path relative to the dataset's folder, or ``train/00000`` for packed formats.
    labels : int32, (n_images,), or uint8, (n_images, n_classes)
        Indices into the dataset's `classes`. Where an image may have several labels or none: 1
        for each of its classes, 0 for the others.
    columns : mapping of name to sequence of str
        What a table says of each image beside its label and its split, as text, in the rows'
        order: a patient, a site. Empty where there is no table.

    Raises
    ------
    ValueError
        A column has another length than the ids.
    """

    ids: Sequence[str]
    labels: NDArray[np.int32] | NDArray[np.uint8]
    images: Images
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, cells in self.columns.items():
            if len(cells) != len(self.ids):
                raise ValueError(
                    f"the column {name!r} has {counted(len(cells), 'cell')} for "
                    f"{counted(len(self.ids), 'image')}"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{len(self):,} labelled images>"

    def take(self, rows: NDArray[np.intp]) -> Split:
        """Return those rows, in that order; masks and negative numbers work as in NumPy."""
        rows = row_numbers(rows, len(self))
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return replace(
            self,
            ids=taken_texts(self.ids, rows),
            labels=self.labels[rows],
            images=self.images.take(rows),
            columns={name: Column.of(one).take(rows) for name, one in self.columns.items()},
        )

    def same_images(self, ids: Sequence[str], content: NDArray[np.uint8], where: str) -> Split:
        """Return the images that features were made of, in their order.

        Parameters
        ----------
        ids : sequence of str, (n,)
        content : uint8, (n, 16)
            Their hashes.
        where : str
            Dataset and split, for the message.

        Raises
        ------
        DataError
            Some are gone, or are other images by now.
        """
        rows, gone = rows_of_ids(ids, self.ids)
        if gone:
            raise DataError(
                f"{where}: "
                f"{counted(len(gone), 'image is', 'images are')} gone, first {gone[0]}; "
                "`probe cache sync` brings the entry in step"
            )
        found = self.take(rows)
        other = np.flatnonzero((found.images.content() != content).any(axis=1))
        if len(other):
            raise DataError(
                f"{where}: {len(other):,} images are not those the features were made of, first "
                f"{found.ids[int(other[0])]}; `probe cache sync` brings the entry in step"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """An image that cannot be read, or a class folder without one: it was left out."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Splits that share their classes.

    Parameters
    ----------
    name : str
        The catalog's name, the folder's, or that of the list without its ending.
    splits : mapping of split name to Split
        In the order train, val, test; those that there are.
    root : Path or None
        Where the files lie; None where they come with a package.
    url : str or None
        Where the files of `root` were fetched from, without what gives the right to read them.
    in_memory : bool
        Whether Python has the images at hand, so that nobody else can find them again.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    root: Path | None
    skipped: tuple[BadImage, ...] = ()
    url: str | None = None
    in_memory: bool = False

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(split):,}" for name, split in self.splits.items())
        several = "image" if sum(map(len, self.splits.values())) == 1 else "images"
        classes = counted(len(self.classes), "class", "classes")
        return f"<Dataset {self.name}: {counts} {several}, {classes}>"

    def images_of(self, split: str) -> Split | None:
        """Return the split whose images features were made of, as they lie on disk.

        Of a dataset that was read undivided that is train, where a stored split took the images
        out of it. None where there is neither.
        """
        return self.splits.get(split, self.splits.get("train"))

    @property
    def task(self) -> Task:
        """Whether an image has one label, or may have several or none."""
        return task_of_splits(split.labels for split in self.splits.values())
