"""Count and measure the images of a dataset: sizes, formats, copies, and those that are broken.

How much is read is the caller's choice (`READ`): no image, the headers and hashes of all files, or
all pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.core.plain import to_plain
from probe.core.short_repr import short_repr
from probe.datasets.classes import numbering
from probe.datasets.copies import Copies, find_copies
from probe.datasets.images.decode import Header, decode, read_header
from probe.datasets.images.files import FileImages
from probe.datasets.images.notes import Notes
from probe.datasets.spec import CONTENT_BYTES, BadImage, Dataset, Images, Split, encoded_of
from probe.errors import DataError, ImageError
from probe.evaluation.units import relate

Read = Literal["names", "files", "pixels"]
PIXELS = "pixels"  # the format of images that are no files
UNUSUAL = ("clear", "dark")  # kinds of `Notes`
AT_ONCE = 2000  # images

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The least, the median and the largest value of some images."""

    least: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """Measure values, (n,), n at least 1."""
        return cls(
            least=float(values.min()), median=float(np.median(values)), largest=float(values.max())
        )


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the images are that can be read.

    Parameters
    ----------
    width, height : Spread
        Pixels, upright.
    aspect : Spread
        Width by height.
    different : int
        How many different sizes there are.
    smallest, largest : str
        Ids of the images with the fewest and the most pixels.
    """

    width: Spread
    height: Spread
    aspect: Spread
    different: int
    smallest: str
    largest: str


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What reading the images has shown.

    Parameters
    ----------
    sizes : Sizes or None
        None where no image can be read.
    formats, modes : mapping of str to int
        Images by file format and by colours, under Pillow's names, the most frequent first. Images
        that are stored as pixels have the format ``pixels``.
    frames : tuple of str
        Ids of images with several frames or pages, of which the first is used.
    unreadable : tuple of BadImage
        Those that cannot be read. Damage beyond a file's header is found among pixels only.
    copies : tuple of Copies
        Images that are there more than once: those with different labels first, then those in
        several splits.
    unusual : mapping of str to int, or None
        Counts of ``clear`` (wholly transparent) and ``dark`` (16 bits, nearly black) images; None
        where pixels were not read.
    """

    __repr__ = short_repr

    sizes: Sizes | None
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    frames: tuple[str, ...]
    unreadable: tuple[BadImage, ...]
    copies: tuple[Copies, ...]
    unusual: Mapping[str, int] | None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a dataset holds.

    Parameters
    ----------
    root : str or None
        Its folder; None where it comes with a package.
    classes : tuple of str
    multilabel : bool
        Whether an image may have several labels, or none.
    images : mapping of split name to int
    counts : mapping of split name to tuple of int, (n_classes,)
        Images of each class.
    numbering : str or None
        How classes that are named by whole numbers are numbered.
    skipped : tuple of BadImage
        What was left out while the dataset was loaded.
    read : {"names", "files", "pixels"}
        What was read of the images.
    pictures : Pictures or None
        What it has shown; None of names.
    """

    name: str
    root: str | None
    classes: tuple[str, ...]
    multilabel: bool
    images: Mapping[str, int]
    counts: Mapping[str, tuple[int, ...]]
    numbering: str | None
    skipped: tuple[BadImage, ...]
    read: Read
    pictures: Pictures | None

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.images.items())
        return f"<Survey of {self.name}: {counts} images, {len(self.classes):,} classes>"

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, as `probe dataset show --json` prints them."""
        return {"name": self.name, "root": self.root, **to_plain(self)}


def survey(
    dataset: Dataset, *, read: Read = "files", workers: int = 1, advance: Advance = lambda _: None
) -> Survey:
    """Count and measure the images of a dataset.

    Parameters
    ----------
    read : {"names", "files", "pixels"}, default="files"
        ``names`` opens no image. ``files`` reads the headers and the hashes of all images, of which
        hashes of unchanged files are remembered. ``pixels`` also decodes them, which finds damage
        beyond the header, and images that are wholly transparent or nearly black.
    workers : int, default=1
        Threads that read.
    advance : callable, optional
        Called with the number of further images that were read.
    """
    task = dataset.task
    return Survey(
        name=dataset.name,
        root=dataset.url or (str(dataset.root) if dataset.root else None),
        classes=dataset.classes,
        multilabel=not task.exclusive,
        images={name: len(split) for name, split in dataset.splits.items()},
        counts={
            name: tuple(task.counts(split.labels, len(dataset.classes)).tolist())
            for name, split in dataset.splits.items()
        },
        numbering=numbering(dataset.classes),
        skipped=dataset.skipped,
        read=read,
        pictures=None if read == "names" else _look(dataset, read, workers, advance),
    )


def _look(dataset: Dataset, read: Read, workers: int, advance: Advance) -> Pictures:
    notes = Notes() if read == "pixels" else None
    headers: dict[str, list[Header]] = {}
    ids: dict[str, list[str]] = {}
    labels: dict[str, NDArray[Any]] = {}
    content: dict[str, NDArray[np.uint8]] = {}
    unreadable: list[BadImage] = []
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="read") as pool:
        for name, split in dataset.splits.items():
            headers[name], good, hashes = [], [], [np.empty((0, CONTENT_BYTES), np.uint8)]
            for rows in _blocks(split.images):
                part = split.take(rows)
                found = list(pool.map(partial(_header, part, notes), range(len(part))))
                found, hashed = _with_content(part, found)
                good.append(rows[[isinstance(one, Header) for one in found]])
                headers[name] += [one for one in found if isinstance(one, Header)]
                unreadable += [one for one in found if isinstance(one, BadImage)]
                hashes.append(hashed)
                advance(len(part))
            kept = split.take(np.concatenate([np.empty(0, np.intp), *good]))
            ids[name], labels[name] = list(kept.ids), kept.labels
            content[name] = np.concatenate(hashes)
    every = [one for each in headers.values() for one in each]
    names = [one for each in ids.values() for one in each]
    return Pictures(
        sizes=_sizes(every, names) if every else None,
        formats=dict(Counter(one.format for one in every).most_common()),
        modes=dict(Counter(one.mode for one in every).most_common()),
        frames=tuple(name for name, one in zip(names, every, strict=True) if one.frames),
        unreadable=tuple(unreadable),
        copies=tuple(find_copies(relate(content).pictures, ids, labels, dataset.classes)),
        unusual=None if notes is None else {one: notes.counts.get(one, 0) for one in UNUSUAL},
    )


def _blocks(images: Images) -> list[NDArray[np.intp]]:
    """Return row numbers that are read one after the other."""
    if not isinstance(images, FileImages):
        with suppress(DataError):  # told image by image
            images.content()  # of all, which then need not be found again for each block
    count = len(images)
    return [np.arange(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]


def _header(split: Split, notes: Notes | None, row: int) -> Header | BadImage:
    """Read an image's header, and with `notes` its pixels."""
    images, name = split.images, split.ids[row]
    try:
        if isinstance(images, FileImages) and notes is None:
            return read_header(images.path(row), name)
        data = encoded_of(images, row)
        if data is None:
            height, width = images.image(row).shape[:2]
            return Header(PIXELS, "RGB", width, height, frames=False)
        header = read_header(data, name)
        if notes is not None:
            decode(data, name, notes)
    except DataError as error:
        return BadImage(id=name, reason=_reason(error))
    return header


def _with_content(
    part: Split, found: Sequence[Header | BadImage]
) -> tuple[list[Header | BadImage], NDArray[np.uint8]]:
    """Return what is known of some images, and the hashes of those that can be read."""
    fine = [row for row, one in enumerate(found) if isinstance(one, Header)]
    try:
        return list(found), part.images.take(np.array(fine, np.intp)).content()
    except DataError:  # of one of them, as a damaged member of an archive: hash each by itself
        pass
    known, hashes = list(found), [np.empty((0, CONTENT_BYTES), np.uint8)]
    for row in fine:
        try:
            hashes.append(part.images.take(np.array([row], np.intp)).content())
        except DataError as error:
            known[row] = BadImage(id=part.ids[row], reason=_reason(error))
    return known, np.concatenate(hashes)


def _reason(error: DataError) -> str:
    return error.reason if isinstance(error, ImageError) else str(error)


def _sizes(headers: Sequence[Header], ids: Sequence[str]) -> Sizes:
    width, height = np.array([(one.width, one.height) for one in headers]).T
    area = width * height
    return Sizes(
        width=Spread.of(width),
        height=Spread.of(height),
        aspect=Spread.of(width / height),
        different=len({(one.width, one.height) for one in headers}),
        smallest=ids[int(area.argmin())],
        largest=ids[int(area.argmax())],
    )
