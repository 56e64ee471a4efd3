"""Write the image files of a dataset as lists of MXNet's, divided by ratios or its own splits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.files import write_text
from probe.core.regular import read_regular
from probe.datasets.classes import has_labels
from probe.datasets.forms.lst import LST, lst_lines
from probe.datasets.forms.number_labels import NAME_FILES
from probe.datasets.images.files import FileImages
from probe.datasets.spec import SPLITS, Dataset
from probe.errors import DataError, UsageError
from probe.evaluation.splitting import Labels, said_of_share, validation_split

RowNumbers = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """Shares of the images that are held out; the rest is train. 0 holds nothing out."""

    val: float = 0.0
    test: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("--val", self.val), ("--test", self.test)):
            if not 0 <= value < 1:
                raise UsageError(f"{name} {value:g}: give a fraction from 0 and below 1")
        if self.val + self.test >= 1:
            raise UsageError(
                f"--val {self.val:g} and --test {self.test:g} leave nothing to train on; give less"
            )


@dataclass(frozen=True, kw_only=True)
class WrittenList:
    """A list that was written, and of how many images."""

    path: Path
    images: int


def write_lists(
    dataset: Dataset,
    prefix: Path,
    *,
    ratios: Ratios | None = None,
    units: NDArray[np.intp] | None = None,
    shuffle: bool = True,
    chunks: int = 1,
    seed: int = 42,
    overwrite: bool = False,
) -> list[WrittenList]:
    """Write ``PREFIX.lst``, or ``PREFIX_train.lst``, ``PREFIX_val.lst`` and ``PREFIX_test.lst``.

    An image's index is its place in the dataset, its label the number of its class; the names of
    the classes are written to ``classes.txt`` beside the lists, in the order of the labels. Of
    images that may have several labels, each class is a label of 0 or 1; those without labels have
    the label 0, and no name is written.

    Every image is in exactly one list. Each class gives its share to val and test, and at least
    one image where it has that many; a class is never in them alone.

    Parameters
    ----------
    dataset : Dataset
        Of image files.
    ratios : Ratios, optional
        Only for a dataset without splits of its own.
    units : int, (n_images,), optional
        Images of one unit come into the same list. Only with `ratios`.
    shuffle : bool
        Images of a list in random order; otherwise in that of the dataset.
    chunks : int
        Lists of almost the same length that each is divided into: ``PREFIX_0_train.lst``.
    overwrite : bool
        Replace the lists of this prefix that are there, all of them.

    Raises
    ------
    UsageError
        The images are not in files, lists are there already, or an option makes no sense.
    DataError
        A path or a name cannot be written into such a file.
    """
    if dataset.root is None or not all(
        isinstance(split.images, FileImages) for split in dataset.splits.values()
    ):
        raise UsageError(
            f"{dataset.name}: its images are not in files of their own, so there are no paths to "
            "list; give a folder or a list of image files"
        )
    if chunks < 1:
        raise UsageError(f"--chunks {chunks}: give at least 1")
    divided = ratios is not None and (ratios.val > 0 or ratios.test > 0)
    if divided and [*dataset.splits] != ["train"]:
        raise UsageError(
            f"{dataset.name} has splits of its own ({', '.join(dataset.splits)}); leave out --val "
            "and --test"
        )
    random = np.random.default_rng(seed)
    rows, labels = [], []
    for split in dataset.splits.values():
        images = split.labels.astype("<f4").reshape(len(split), -1)
        rows += [(one.tobytes(), path) for one, path in zip(images, split.ids, strict=True)]
        labels.append(split.labels)
    if divided and ratios is not None:
        parts = _divided(labels[0], ratios, seed, units)
    else:
        ends = np.cumsum([len(one) for one in labels])
        starts = [0, *ends[:-1].tolist()]
        parts = {
            name: np.arange(start, end)
            for name, start, end in zip(dataset.splits, starts, ends.tolist(), strict=True)
        }
    texts: dict[Path, tuple[str, int]] = {}
    for split_name, numbers in parts.items():
        order = random.permutation(numbers) if shuffle else numbers
        if chunks > len(order):
            raise UsageError(f"--chunks {chunks}: {split_name} has {len(order):,} images")
        for chunk, some in enumerate(np.array_split(order, chunks)):
            name = prefix.name + (f"_{chunk}" if chunks > 1 else "")
            name += f"_{split_name}" if [*parts] != ["train"] else ""
            text = "".join(lst_lines((row, *rows[row]) for row in some.tolist()))
            texts[prefix.with_name(name + LST)] = text, len(some)
    _write(prefix, dataset, texts, overwrite=overwrite)
    return [WrittenList(path=path, images=count) for path, (_, count) in texts.items()]


def _divided(
    labels: Labels,
    ratios: Ratios,
    seed: int,
    units: NDArray[np.intp] | None,
) -> dict[str, RowNumbers]:
    """Return the rows of each split, test held out first and val from what is left."""
    parts: dict[str, RowNumbers] = {}
    left: RowNumbers = np.arange(len(labels))
    for name, share in (("test", ratios.test), ("val", ratios.val)):
        if not share:
            continue
        part = max(1, round(share * len(labels))) / len(left)
        own = None if units is None else units[left]
        try:
            kept, held_out = validation_split(labels[left], part, seed, own)
        except UsageError as error:
            raise UsageError(said_of_share(name, share, str(error))) from None
        parts[name], left = left[held_out], left[kept]
    parts["train"] = left
    return {name: parts[name] for name in SPLITS if name in parts}


def names_file(dataset: Dataset, prefix: Path) -> Path | None:
    """Return the file with the names of the classes; None for images without labels."""
    return prefix.with_name(NAME_FILES[0]) if has_labels(dataset.classes) else None


def _has(path: Path, text: str) -> bool:
    try:
        return read_regular(path) == text.encode()
    except OSError:
        return False


def _write(
    prefix: Path, dataset: Dataset, texts: dict[Path, tuple[str, int]], *, overwrite: bool
) -> None:
    """Write all lists and the names of the classes; refuse before anything is written."""
    for name in dataset.classes:
        if name != name.strip() or len(name.splitlines()) != 1:
            raise DataError(
                f"{name!r}: a class whose name has spaces around it or a line break cannot stand "
                f"in {NAME_FILES[0]}; rename it"
            )
    names = names_file(dataset, prefix)
    names_text = "".join(f"{one}\n" for one in dataset.classes)
    lists = re.compile(
        re.escape(prefix.name) + rf"(_\d+)?(_({'|'.join(SPLITS)}))?" + re.escape(LST)
    )
    folder = prefix.parent
    there = (
        [path for path in folder.iterdir() if lists.fullmatch(path.name)] if folder.is_dir() else []
    )
    in_the_way = sorted(there)
    if names is not None and names.exists() and not _has(names, names_text):
        in_the_way.append(names)
    if in_the_way and not overwrite:
        raise UsageError(
            f"{in_the_way[0]}: is there already"
            + (f", and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else "")
            + "; --overwrite replaces the lists of this name, or -o gives another"
        )
    for path in there:
        if path not in texts:
            path.unlink()
    if names is not None:
        write_text(names, names_text)
    for path, (text, _) in texts.items():
        write_text(path, text)
