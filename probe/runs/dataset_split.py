"""Make the stored split of a dataset, or add its new images; see `probe.datasets.stored_split`."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.core.plain import to_plain
from probe.core.sheets import Sheet, is_formula
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.datasets.images.files import FileImages
from probe.datasets.spec import SPLITS, Dataset
from probe.datasets.stored_split import (
    Recipe,
    StoredSplit,
    file_of,
    find_split,
    place_of,
    same_place,
)
from probe.datasets.tables.cells import BAR
from probe.errors import UsageError
from probe.evaluation.splitting import said_of_share, validation_split
from probe.evaluation.task import task_of
from probe.evaluation.units import Units
from probe.runs.grouping import NEAR, related_images

log = logging.getLogger(__name__)

SHARE = 0.15  # of all images, for val and for test, unless told otherwise
HELD_OUT = ("test", "val")  # in the order in which they are taken out

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a dataset is to be divided.

    Parameters
    ----------
    val, test : float, optional
        Shares of all images, from 0 to 1. Default: 0.15 each, or what the dataset was divided by
        before; 0 for a split that it has.
    group : sequence of str
        What belongs together beside copies: columns, or files of ``id,group``.
    seed : int, optional
        Default: 42, or the one of before.
    from_train : bool
        Divide the train images of a dataset that has val or test of its own.
    """

    val: float | None = None
    test: float | None = None
    group: Sequence[str] = ()
    seed: int | None = None
    from_train: bool = False


@dataclass(frozen=True, kw_only=True)
class Divided:
    """What was made of a dataset.

    Parameters
    ----------
    path : Path
        The file that the split is stored in.
    images : mapping of split name to int
        The dataset's images, copies counted each, that were divided.
    added : int
        Those that were not in the stored split before.
    gone : int
        Different images of the stored split that the dataset does not have now; it keeps them.
    moved_from : str or None
        Where the dataset was when the split was first made, if it was elsewhere.
    """

    __repr__ = short_repr

    path: Path
    recipe: Recipe
    images: Mapping[str, int]
    added: int
    gone: int
    moved_from: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, as `probe dataset split --json` prints them."""
        return {**to_plain(self), "path": str(self.path)}


def divide(dataset: Dataset, name: str, wanted: Wanted, *, cache_dir: Path) -> Divided:
    """Divide a dataset's train images into train, val and test, and store it.

    Every class gives its share, as far as images that belong together allow; exact copies always
    do. Where a split is stored, images that it has stay where they are, and new ones are divided so
    that the whole has its shares again; those that belong to an image of before join it.

    Parameters
    ----------
    dataset : Dataset
        Loaded without its stored split.
    name : str
        What the user called it.

    Raises
    ------
    UsageError
        The shares make no sense, the dataset has such splits, or it was divided by other shares.
    """
    before = find_split(dataset, name, cache_dir)
    recipe = _recipe(dataset, name, wanted, before)
    train = dataset.splits["train"]
    order = np.argsort(_texts(train.images.content()), kind="stable")  # whatever files' names
    train = train.take(order)
    content = train.images.content()
    related = related_images({"train": train}, _check_groups(recipe.group))
    known = before.sides(content) if before else [None] * len(train)
    sides = _joined(known, related.units["train"])
    new = np.array([row for row, side in enumerate(sides) if side is None], np.intp)
    placed = Counter(side for side in sides if side is not None)
    units = related.units["train"]
    for split, rows in _dealt(train.labels, new, units, recipe, placed).items():
        for row in rows.tolist():
            sides[row] = split
    side, ids = (dict(before.side), dict(before.ids)) if before else ({}, {})
    keys = [one.tobytes() for one in content]
    gone = len(side.keys() - set(keys))
    for key, one, id_ in zip(keys, sides, train.ids, strict=True):
        assert one is not None  # _dealt gives each of the others a side
        side.setdefault(key, one)
        ids.setdefault(key, id_)
    path, recipe = file_of(recipe.dataset, cache_dir), replace(recipe, images=len(side))
    StoredSplit(path=path, recipe=recipe, side=side, ids=ids).save()
    moved = before is not None and before.path != path
    if moved and before is not None:
        before.path.unlink(missing_ok=True)
    counts = Counter(side[key] for key in keys)
    return Divided(
        path=path, recipe=recipe, images={name: counts[name] for name in SPLITS if counts[name]},
        added=known.count(None), gone=gone,
        moved_from=before.recipe.dataset if moved and before is not None else None,
    )  # fmt: skip


def _recipe(dataset: Dataset, name: str, wanted: Wanted, before: StoredSplit | None) -> Recipe:
    """Return what to divide by; refuse what the dataset has, or was divided by otherwise."""
    own = [split for split in dataset.splits if split != "train"]
    if "train" not in dataset.splits:
        raise UsageError(f"{dataset.name}: has no train images to divide, only {', '.join(own)}")
    if own and not wanted.from_train:
        raise UsageError(
            f"{dataset.name}: has {' and '.join(own)} images of its own; to leave them and take "
            "what is missing out of train, add --from-train"
        )
    for split in HELD_OUT:
        share = getattr(wanted, split)
        if share is not None and not 0 <= share < 1:
            raise UsageError(f"--{split} {share:g}: give a share of all images, from 0 to below 1")
        if share and split in own:
            raise UsageError(f"--{split} {share:g}: {dataset.name} has {split} images of its own")
    columns = {one.casefold() for one in dataset.splits["train"].columns}
    group = tuple(  # a file is found again from another folder
        os.path.abspath(one) if one.casefold() not in columns and os.path.isfile(one) else one
        for one in wanted.group
    )
    if before is not None:
        old = before.recipe
        for option in ("val", "test", "seed", "group"):
            said = group if option == "group" else getattr(wanted, option)
            was = getattr(old, option)
            if said not in (None, ()) and said != was:
                shown = ", ".join(was) or "none" if option == "group" else f"{was:g}"
                raise UsageError(
                    f"--{option}: {dataset.name} is divided already, with {shown}; leave it out to "
                    "add new images alike, or add --remove first to divide it anew"
                )
        here = place_of(name)
        place = old.dataset if same_place(old.dataset, here) else here
        return replace(old, dataset=place)
    shares = {
        split: (0.0 if split in own else SHARE) if getattr(wanted, split) is None
        else getattr(wanted, split)
        for split in HELD_OUT
    }  # fmt: skip
    total = sum(shares.values())
    if not 0 < total < 1:
        raise UsageError(
            f"--val {shares['val']:g} --test {shares['test']:g}: "
            + ("nothing is held out; give one of them" if not total else "nothing is left to train")
        )
    return Recipe(
        dataset=place_of(name), val=shares["val"], test=shares["test"],
        seed=42 if wanted.seed is None else wanted.seed, group=group,
    )  # fmt: skip


def _check_groups(group: Sequence[str]) -> Sequence[str]:
    if NEAR in group:
        raise UsageError(
            f"--group {NEAR}: near-duplicates are known from features, which a dataset has none of "
            "yet; exact copies stay together anyway"
        )
    return group


def _texts(content: NDArray[np.uint8]) -> NDArray[Any]:
    rows = np.ascontiguousarray(content)
    return rows.view(f"S{rows.shape[1]}")[:, 0] if len(rows) else np.empty(0, "S1")


def _joined(sides: Sequence[str | None], units: NDArray[np.intp]) -> list[str | None]:
    """Return the sides, where new images that belong to one of before have its side."""
    of: dict[int, Counter[str]] = {}
    for unit, side in zip(units.tolist(), sides, strict=True):
        if side is not None:
            of.setdefault(unit, Counter())[side] += 1
    if torn := sum(len(found) > 1 for found in of.values()):
        log.warning(
            "%s on several sides of the stored split, and left there; --remove and divide anew to "
            "keep each on one",
            "1 group of images is" if torn == 1 else f"{torn:,} groups of images are",
        )
    return [
        of[unit].most_common(1)[0][0] if side is None and unit in of else side
        for unit, side in zip(units.tolist(), sides, strict=True)
    ]


def _dealt(
    labels: Labels,
    new: NDArray[np.intp],
    units: Units,
    recipe: Recipe,
    placed: Mapping[str, int],
) -> dict[str, NDArray[np.intp]]:
    """Return the new rows of each split, so that with those that are placed it has its share."""
    total = len(new) + sum(placed.values())
    shares = {"val": recipe.val, "test": recipe.test}
    found, left = {}, new
    for split in HELD_OUT:
        count = round(shares[split] * total) - placed.get(split, 0)
        count = min(count if placed else max(count, 1), len(left) // 2)
        if not shares[split] or count < 1:
            continue
        try:
            kept, held_out = validation_split(
                labels[left], count / len(left), recipe.seed, units[left]
            )
        except UsageError as error:
            if placed:  # a few images more need no side but train
                log.info("%s: %s", split, error)
                continue
            words = said_of_share(split, shares[split], str(error))
            raise UsageError(words) from None
        found[split], left = left[held_out], left[kept]
    return {**found, "train": left}


def write_list(dataset: Dataset, path: Path) -> None:
    """Write a dataset's images with labels and splits as a CSV, by rename.

    Image files are named by their absolute paths or their URLs, so that the list is a dataset
    itself; images in archives and arrays by their ids. For the same reason its cells are exact, and
    a warning is logged where a spreadsheet would run one.
    """
    several = not dataset.task.exclusive
    files = all(isinstance(one.images, FileImages) for one in dataset.splits.values())
    formulas = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = Sheet(file, exact=True)
        lines.row(["path" if files else "id", "labels" if several else "label", "split"])
        for name, split in dataset.splits.items():
            for row, id_ in enumerate(split.ids):
                one = split.images
                where = one.address(row) if isinstance(one, FileImages) else id_
                present = task_of(split.labels).present(split.labels[row : row + 1])
                cells = [where, BAR.join(dataset.classes[k] for k in present), name]
                formulas += any(map(is_formula, cells))
                lines.row(cells)
    if formulas:
        log.warning(
            "%s: %s like formulas, and are kept as they are: read them as text in a spreadsheet",
            path, counted(formulas, "line has cells that look", "lines have cells that look"),
        )  # fmt: skip
