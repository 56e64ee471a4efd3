"""What `--group` says: a column of the list, a file, or the features' near-duplicates.

Columns are read from the list of images itself whenever they are needed, and are no part of an
entry: a column that is added, or mended, later needs no other features.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.table import is_table, read_table
from probe.errors import ProbeError, UsageError
from probe.evaluation.units import Groups, Related, group_rows, relate

if TYPE_CHECKING:
    from probe.cache.joining import Joined
    from probe.datasets import Split
    from probe.runs.memory import Fitting

log = logging.getLogger(__name__)

NEAR = "duplicates"
# what a column is called whose rows belong together
TELLING = re.compile(
    r"patient|subject|person|case|animal|individual|participant|donor|module|panel|device|serial|"
    r"batch|slide|specimen|session|sequence|video|clip|scene|site|hospital|scanner|burst|group"
)
LEAST_VALUES, LEAST_ROWS = 5, 2  # of another column: values, and rows a value on average
MOST_ROWS = 50  # rows a value: with more it is a kind of image, not an individual

Ids = Mapping[str, Sequence[str]]


def groups_of_entry(
    wanted: Sequence[str],
    joined: Joined,
    *,
    fitting: Fitting,
    max_memory: int | None = None,
    threshold: float | None = None,
) -> tuple[Groups, ...]:
    """Return the groups of an entry's rows; see `find_groups`.

    Parameters
    ----------
    fitting : Fitting
        What is to be fitted: near-duplicates are found in the memory that it leaves.
    threshold : float, optional
        Cosine from which two images are near-duplicates; that of `probe audit` by default.
    """

    def near() -> Groups:
        from probe.runs import duplicates
        from probe.runs.memory import parts_of

        parts = parts_of(joined, fitting, max_memory=max_memory)
        return duplicates.near_groups(parts, threshold=threshold or duplicates.THRESHOLD)

    ids = {name: split.ids for name, split in joined.splits.items()}
    return find_groups(wanted, ids, listed=list_of(joined.entry.provenance), near=near)


def find_groups(
    wanted: Sequence[str],
    ids: Ids,
    *,
    listed: Path | None,
    near: Callable[[], Groups] | None = None,
) -> tuple[Groups, ...]:
    """Return the groups that each text names.

    Parameters
    ----------
    wanted : sequence of str
        ``duplicates``, a column of the list of images, or a CSV of ``id,group``.
    ids : mapping of split name to sequence of str
    listed : Path or None
        The list of images, where the dataset is one.
    near : callable, optional
        Finds near-duplicates; without it ``duplicates`` are passed over.

    Raises
    ------
    UsageError
        There is neither such a column nor such a file, it cannot be read, or images have no group;
        the message counts them.
    """
    found = []
    for text in dict.fromkeys(wanted):
        if text == NEAR:
            found += [near()] if near is not None else []
            continue
        columns = columns_of(listed)
        name = next((one for one in columns if one.casefold() == text.casefold()), None)
        if name is not None:
            values, whole = columns[name], f"column {name!r} of {listed}"
        elif Path(text).is_file():
            name, values, whole = Path(text).name, read_groups(Path(text)), text
        else:
            raise UsageError(f"--group {text}: {_there_is_none(listed, columns)}")
        found.append(group_rows(name, _values(text, ids, values, whole)))
    return tuple(found)


def related_images(
    splits: Mapping[str, Split],
    wanted: Sequence[str],
    dataset: str,
    near: Callable[[], Groups] | None = None,
) -> Related:
    """Return which images of a dataset belong together, before it has features.

    Says so where a column of its list looks like a group, and none was asked for.

    Parameters
    ----------
    dataset : str
        Its name, folder or list.
    near : callable, optional
        As in `find_groups`: without it near-duplicates are not known yet, and left to later.
    """
    path = Path(dataset).expanduser()
    listed = path if is_table(path) else None
    if names_no_column(wanted) and (line := hint(listed)) is not None:
        log.warning("%s", line)
    ids = {name: split.ids for name, split in splits.items()}
    groups = find_groups(wanted, ids, listed=listed, near=near)
    return relate({name: split.images.content() for name, split in splits.items()}, groups)


def list_of(provenance: Mapping[str, Any]) -> Path | None:
    """Return the list of images that an entry was made from; None where it was something else."""
    recorded = provenance.get("request")
    named = recorded.get("dataset") if isinstance(recorded, dict) else None
    path = Path(named) if isinstance(named, str) else None
    return path if path is not None and is_table(path) else None


def columns_of(listed: Path | None) -> dict[str, dict[str, str]]:
    """Return what a list says of its images beside labels and split: by column and id.

    Nothing where there is no list, or where it cannot be read any more, which is logged.
    """
    if listed is None or not listed.is_file():
        return {}
    try:
        table = read_table(listed)
    except ProbeError as error:
        log.warning("its columns cannot be read: %s", error)
        return {}
    return {
        name: dict(zip(table.paths, values, strict=True)) for name, values in table.columns.items()
    }


def names_no_column(wanted: Sequence[str]) -> bool:
    """Whether at most near-duplicates are asked for: a column may still tell what is related."""
    return not set(wanted) - {NEAR}


def hint(listed: Path | None) -> str | None:
    """Return a line about a column whose rows seem to belong together; None where there is none."""
    if listed is None or not listed.is_file():
        return None
    try:
        columns = read_table(listed).columns
    except ProbeError:
        return None
    likely = [name for name, values in columns.items() if _repeats(name, values)]
    if not likely:
        return None
    name = max(likely, key=lambda one: (bool(TELLING.search(one.casefold())), -likely.index(one)))
    values = [one for one in columns[name] if one]
    return (
        f"{listed.name} has a column {name!r}, {len(set(values)):,} values on {len(values):,} "
        f"images: if images of one value belong together (a patient, a module), add "
        f"--group {name}, else they may be on both sides of a split"
    )


def _repeats(name: str, values: Sequence[str]) -> bool:
    """Whether a column's values repeat over rows like a patient's, not like a kind's."""
    there = [one for one in values if one]
    count = len(set(there))
    if TELLING.search(name.casefold()):
        return 2 <= count < len(there)
    enough = count >= LEAST_VALUES and LEAST_ROWS <= len(there) / count <= MOST_ROWS
    return enough and not any("." in one and one.replace(".", "").isdigit() for one in there)


def _there_is_none(listed: Path | None, columns: Mapping[str, object]) -> str:
    if columns:
        return (
            f"there is no such file, and {listed} has no such column; its columns are "
            f"{', '.join(columns)}"
        )
    why = (
        "the dataset is no list of images, which could have columns"
        if listed is None
        else f"{listed} is not there any more"
        if not listed.is_file()
        else f"{listed} has no columns but the images and their labels"
    )
    return (
        f"there is no such file, and {why}; give a CSV of `id,group`, or `{NEAR}` for images "
        "whose features are almost the same"
    )


def read_weights(column: str, ids: Ids, listed: Path | None) -> dict[str, NDArray[np.float64]]:
    """Return what each image counts by a column of the list, so that training rows average to 1.

    Parameters
    ----------
    ids : mapping of split name to sequence of str
        The splits whose rows heads are fitted on; ``train`` among them.
    listed : Path or None
        The list of images, where the dataset is one.

    Raises
    ------
    UsageError
        There is no such column, or it is no number from 0 for an image, or 0 for all.
    """
    columns = columns_of(listed)
    name = next((one for one in columns if one.casefold() == column.casefold()), None)
    if name is None:
        if columns:
            why = f"{listed} has no such column; its columns are {', '.join(columns)}"
        else:
            why = "weights are a column of a list of images, and the dataset has none"
        raise UsageError(f"--sample-weight {column}: {why}")
    found = {
        split: np.array([_weight(columns[name].get(one)) for one in each])
        for split, each in ids.items()
    }
    wrong = [
        (split, ids[split][row], columns[name].get(ids[split][row]))
        for split, each in found.items()
        for row in np.flatnonzero(~(each >= 0)).tolist()
    ]
    if wrong:
        _, first, value = wrong[0]
        shown = repr(value) if value else "nothing"
        raise UsageError(
            f"--sample-weight {column}: {len(wrong):,} of {sum(map(len, ids.values())):,} images "
            f"have no number from 0 there, first {first!r} with {shown}; give each one, 0 where an "
            "image shall not count"
        )
    mean = float(found["train"].mean())
    if not 0 < mean < np.inf:
        raise UsageError(f"--sample-weight {column}: no training image has a weight above 0")
    return {split: each / mean for split, each in found.items()}


def _weight(text: str | None) -> float:
    """Return a weight; NaN for what is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return float("nan")
    return value if 0 <= value < np.inf else float("nan")


def _values(
    text: str, ids: Ids, values: Mapping[str, str], where: str
) -> dict[str, list[str | None]]:
    """Return each row's group; refuse images without one, unless a whole split has none."""
    found = {split: [values.get(one) or None for one in each] for split, each in ids.items()}
    lacking = {split: each.count(None) for split, each in found.items()}
    for split in [name for name in ids if name != "train" and lacking[name] == len(ids[name])]:
        if lacking.pop(split):
            log.warning(
                "--group %s: it names no %s image, so each of them counts as a group", text, split
            )
    if total := sum(lacking.values()):
        split = next(name for name, count in lacking.items() if count)
        first = ids[split][found[split].index(None)]
        counts = ", ".join(f"{count:,} of {name}" for name, count in lacking.items() if count)
        raise UsageError(
            f"--group {text}: {where} has no group for {total:,} images ({counts}), first "
            f"{first!r}; give each one, its own name where it is alone"
        )
    return found


def read_groups(path: Path) -> dict[str, str]:
    """Return the group of each id of a CSV.

    Raises
    ------
    UsageError
        It cannot be read as UTF-8, a line is not ``id,group``, or an id has two groups.
    """
    found: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel's mark is no part of it
            lines = csv.reader(file)
            for row in filter(None, lines):
                if len(row) != 2:
                    raise UsageError(f"--group {path}: line {lines.line_num} is not `id,group`")
                one, group = row
                if found.setdefault(one, group) != group:
                    raise UsageError(
                        f"--group {path}: line {lines.line_num}: {one!r} has the group {group!r} "
                        f"here and {found[one]!r} before; leave one of the lines out"
                    )
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--group {path}: not UTF-8 (byte {error.start}); save it as CSV in UTF-8"
        ) from None
    except (OSError, csv.Error) as error:
        raise UsageError(f"--group {path}: cannot be read ({error})") from None
    return found
