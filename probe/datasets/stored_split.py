"""Splits of datasets that have none of their own, kept in the state folder by content.

`probe dataset split` makes one. A CSV says which split each image belongs to, by the hash of its
content, so that moving or renaming files changes nothing, and all copies of an image are on one
side. `load_dataset` divides the dataset's train images by it.

A stored split belongs to the dataset at the place it was made for. Where nothing is left at that
place, the dataset was moved: one elsewhere has the split if they share half of all their images, so
that it may have grown since. Datasets that share images and both exist never share a split.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.files import make_folder, unwritable, write_text
from probe.core.machine import state_folder
from probe.core.plain import from_plain
from probe.core.regular import MOST_TEXT, open_regular
from probe.core.sheets import Sheet
from probe.core.short_repr import short_repr
from probe.core.urls import absolute, is_url
from probe.datasets.forms.shards import is_there
from probe.datasets.images.image_files import shown
from probe.datasets.named.catalog import DATASETS
from probe.datasets.spec import CONTENT_BYTES, SPLITS, Dataset, Split
from probe.errors import DataError
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)

FOLDER = "splits"  # of the state folder
COLUMNS = ["content", "split", "id"]
MOVED = 0.5  # images in common, of those of both, from which a dataset elsewhere is the same one
_LINE, _DIGITS = 2**16, 2 * CONTENT_BYTES  # characters of the first line at most, and of a hash


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a split was made of, as its file records it.

    Parameters
    ----------
    dataset : str
        A name of the catalog, an absolute path or a URL.
    val, test : float
        Shares of all images.
    group : tuple of str
        What images were grouped by beside their content.
    images : int
        How many different images it divides.
    """

    dataset: str
    val: float
    test: float
    seed: int
    group: tuple[str, ...] = ()
    images: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """A split of a dataset.

    Parameters
    ----------
    path : Path
        Its file.
    side : mapping of bytes to str
        The split of each image, by its content hash.
    ids : mapping of bytes to str
        What an image was called when it was added, for people.
    """

    __repr__ = short_repr

    path: Path
    recipe: Recipe
    side: Mapping[bytes, str]
    ids: Mapping[bytes, str]

    @property
    def counts(self) -> dict[str, int]:
        """Different images of each split."""
        found = Counter(self.side.values())
        return {name: found[name] for name in SPLITS if found[name]}

    def sides(self, content: NDArray[np.uint8]) -> list[str | None]:
        """Return the split of each image by its hash, (n, 16); None for one that has none."""
        return [self.side.get(one.tobytes()) for one in content]

    def save(self) -> None:
        """Write the file by rename.

        Raises
        ------
        CacheError
            The disk refuses.
        """
        text = io.StringIO()
        text.write(f"# {json.dumps(asdict(self.recipe), ensure_ascii=False)}\n")
        lines = Sheet(text, exact=True)
        lines.row(COLUMNS)
        for one, side in self.side.items():
            lines.row((one.hex(), side, self.ids[one]))
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise unwritable(self.path.parent, error) from error
        write_text(self.path, text.getvalue())


def place_of(name: str) -> str:
    """Return what a dataset is known by: its name in the catalog, its absolute path or its URL."""
    return name if name in DATASETS else absolute(name)


def file_of(place: str, cache_dir: Path) -> Path:
    """Return the file that holds the split of the dataset at a place."""
    stem = re.sub(r"[^\w.-]+", "_", os.path.basename(place.rstrip("/"))) or "dataset"
    digest = hashlib.blake2b(os.fsencode(place), digest_size=4).hexdigest()
    return cache_dir / FOLDER / f"{stem[:80]}-{digest}.csv"


def read_split(path: Path, *, whole: bool = True) -> StoredSplit:
    """Read a stored split; its first line alone where not the `whole` is wanted.

    Raises
    ------
    DataError
        It is not what `StoredSplit.save` writes.
    """
    side: dict[bytes, str] = {}
    ids: dict[bytes, str] = {}
    try:
        with io.TextIOWrapper(open_regular(path, MOST_TEXT), encoding="utf-8", newline="") as file:
            recipe = from_plain(Recipe, json.loads(file.readline(_LINE).removeprefix("#")))
            lines = csv.reader(file)
            if next(lines, None) != COLUMNS:
                raise ValueError(f"line 2 is not {','.join(COLUMNS)}")
            for row in lines if whole else ():
                if len(row) != len(COLUMNS) or row[1] not in SPLITS or len(row[0]) != _DIGITS:
                    raise ValueError(f"line {lines.line_num + 1} is no hash, split and id")
                one = bytes.fromhex(row[0])
                side[one], ids[one] = row[1:]
            if whole and len(side) != recipe.images:
                raise ValueError(f"it has {len(side):,} of {recipe.images:,} images")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: is no stored split, or damaged ({reason:.200}); get it back, or remove it "
            "and run `probe dataset split` again"
        ) from error
    return StoredSplit(path=path, recipe=recipe, side=side, ids=ids)


def find_split(dataset: Dataset, name: str, cache_dir: Path) -> StoredSplit | None:
    """Return the split that is stored for a dataset, or None.

    Parameters
    ----------
    name : str
        What the user called it.
    """
    return split_by_place(name, cache_dir) or _split_of_moved(dataset, name, cache_dir)


def split_by_place(name: str, cache_dir: Path) -> StoredSplit | None:
    """Return the split that was made for a dataset's place, or None."""
    path = path_by_place(name, cache_dir)
    return None if path is None else read_split(path)


def path_by_place(name: str, cache_dir: Path) -> Path | None:
    """Return the file of the split that was made for a place, under any of its names, or None."""
    place = place_of(name)
    path = file_of(place, cache_dir)
    if path.is_file():
        return path
    if place in DATASETS or is_url(place):
        return None
    return next((one for one, there in _places(cache_dir) if same_place(there, place)), None)


def _places(cache_dir: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file of each stored split, and the dataset's place as it was."""
    for path in sorted((cache_dir / FOLDER).glob("*.csv")):
        with suppress(DataError):
            yield path, read_split(path, whole=False).recipe.dataset


def same_place(one: str, other: str) -> bool:
    """Whether two places are the same, be it through a link."""
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def may_have_split(dataset: Dataset, name: str, cache_dir: Path) -> bool:
    """Whether a split may be stored for a dataset, judged without reading its images."""
    by_place = path_by_place(name, cache_dir) is not None
    return by_place or bool(_of_gone_places(dataset, name, cache_dir))


def _of_gone_places(dataset: Dataset, name: str, cache_dir: Path) -> list[Path]:
    """Return the files of splits whose datasets are not where they were, and not too large."""
    train = dataset.splits.get("train")
    if name in DATASETS or is_url(name) or train is None:
        return []
    found = []
    for path in sorted((cache_dir / FOLDER).glob("*.csv")):
        try:
            recipe = read_split(path, whole=False).recipe
        except DataError as error:
            log.warning("%s", error)
            continue
        there = recipe.dataset
        gone = there not in DATASETS and not is_url(there) and not is_there(there)
        if gone and recipe.images * MOVED <= len(train):
            found.append(path)
    return found


def _split_of_moved(dataset: Dataset, name: str, cache_dir: Path) -> StoredSplit | None:
    """Return the split of a dataset that lay elsewhere; images are hashed if there may be one."""
    best: tuple[float, StoredSplit] | None = None
    here: set[bytes] | None = None
    for path in _of_gone_places(dataset, name, cache_dir):
        try:
            other = read_split(path)
        except DataError as error:
            log.warning("%s", error)
            continue
        if here is None:
            here = {one.tobytes() for one in dataset.splits["train"].images.content()}
        shared = len(here & other.side.keys()) / max(len(here | other.side.keys()), 1)
        if shared >= MOVED and (best is None or shared > best[0]):
            best = shared, other
    return best[1] if best else None


def with_stored_split(dataset: Dataset, name: str, cache_dir: Path) -> Dataset:
    """Divide a dataset's train images by its stored split, where it has one, and say so.

    Images that are not in the stored split are left out: on which side they belong is not known,
    and `probe dataset split` decides it.

    Parameters
    ----------
    name : str
        What the user called it.

    Raises
    ------
    DataError
        The dataset has such splits of its own by now, or a class has no image left to train on.
    """
    stored = find_split(dataset, name, cache_dir)
    if stored is None:
        return dataset
    elsewhere = os.path.abspath(cache_dir) != os.path.abspath(state_folder())
    state = f" --cache-dir {shlex.quote(str(cache_dir))}" if elsewhere else ""
    command = f"probe dataset split {shlex.quote(name)}{state}"
    both = [split for split in dataset.splits if split != "train" and split in stored.counts]
    if "train" not in dataset.splits or both:
        what = f"has {both[0]} images of its own" if both else "has no train images"
        raise DataError(
            f"{dataset.name}: {what}, and a split is stored for it ({stored.path}); "
            f"`{command} --remove` removes that"
        )
    train = dataset.splits["train"]
    sides = stored.sides(train.images.content())
    rows = {
        split: np.array([row for row, side in enumerate(sides) if side == split], np.intp)
        for split in SPLITS
    }
    if not sum(map(len, rows.values())):
        log.warning(
            "%s: none of its images is in the split that is stored for it, which is not used; "
            "`%s --remove` removes it", dataset.name, command,
        )  # fmt: skip
        return dataset
    left_out = sides.count(None)
    divided = _divided(dataset, train, rows)
    _check_trained(dataset, divided, command)
    counts = ", ".join(f"{split} {len(each):,}" for split, each in divided.items())
    moved = not same_place(stored.recipe.dataset, place_of(name))
    made = f", made where it was {shown(stored.recipe.dataset)}" if moved else ""
    added = ""
    if left_out:
        images = "1 image is" if left_out == 1 else f"{left_out:,} images are"
        added = f"; {images} not in it and left out until `{command}` adds them"
    log.warning(
        "%s: its stored split is used (%s%s); `%s --remove` removes it%s",
        dataset.name, counts, made, command, added,
    )  # fmt: skip
    return replace(dataset, splits=divided)


def _divided(
    dataset: Dataset, train: Split, rows: Mapping[str, NDArray[np.intp]]
) -> dict[str, Split]:
    """Return the splits that have images, in their order."""
    found = {}
    for name in SPLITS:
        if name in dataset.splits and name != "train":
            found[name] = dataset.splits[name]
        elif len(rows[name]):
            found[name] = train.take(rows[name])
    return found


def _check_trained(dataset: Dataset, splits: Mapping[str, Split], command: str) -> None:
    """Refuse a class that no training image has any more."""
    labels = dataset.splits["train"].labels
    present = task_of(labels).present
    trained = present(splits["train"].labels) if "train" in splits else np.empty(0, np.intp)
    lost = np.setdiff1d(present(labels), trained)
    if not len(lost):
        return
    what = dataset.classes[lost[0]]
    if any(lost[0] in present(split.labels) for split in splits.values()):
        raise DataError(
            f"{dataset.name}: no image of {what!r} is left to train on in its stored split; "
            f"`{command} --remove`, and split it again"
        )
    raise DataError(
        f"{dataset.name}: no image of {what!r} is in its stored split; `{command}` adds them"
    )
