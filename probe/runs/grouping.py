"""What `--group` says: a column of the images' table, a file, or the features' near-duplicates."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column, names_of, stacked
from probe.core.regular import MOST_TEXT, open_regular
from probe.core.text import counted
from probe.errors import UsageError
from probe.evaluation.units import Groups, Related, group_rows, relate
from probe.runs.columns import Columns, columns_of, ids_of

if TYPE_CHECKING:
    from probe.cache.joining import Joined
    from probe.datasets import Split
    from probe.runs.memory import Fitting

log = logging.getLogger(__name__)

NEAR = "duplicates"
RENEW = "`probe extract` again brings those of an entry in step with its table, forwarding nothing"
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

    if not wanted:
        return ()
    return find_groups(wanted, ids_of(joined), columns_of(joined), near=near)


def find_groups(
    wanted: Sequence[str],
    ids: Ids,
    columns: Columns,
    *,
    near: Callable[[], Groups] | None = None,
) -> tuple[Groups, ...]:
    """Return the groups that each text names.

    Parameters
    ----------
    wanted : sequence of str
        ``duplicates``, a column, or a CSV of ``id,group``.
    ids : mapping of split name to sequence of str
    columns : mapping of split name to columns
        What is known of the images of each split.
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
        name = _called(text, columns)
        if name is not None:
            where = f"the column {name!r}"
            values = {
                split: [one or None for one in _column(name, columns[split], len(each))]
                for split, each in ids.items()
            }
        elif Path(text).is_file():
            of, name, where = read_groups(Path(text)), Path(text).name, text
            values = {split: [of.get(one) or None for one in each] for split, each in ids.items()}
        else:
            raise UsageError(f"--group {text}: {_there_is_none(columns)}")
        found.append(group_rows(name, _checked(text, ids, values, where)))
    return tuple(found)


def related_images(
    splits: Mapping[str, Split],
    wanted: Sequence[str],
    near: Callable[[], Groups] | None = None,
) -> Related:
    """Return which images of a dataset belong together, before it has features.

    Says so where one of its columns looks like a group, and none was asked for.

    Parameters
    ----------
    near : callable, optional
        As in `find_groups`: without it near-duplicates are not known yet, and left to later.
    """
    ids = {name: split.ids for name, split in splits.items()}
    columns = {name: split.columns for name, split in splits.items()}
    if names_no_column(wanted) and (line := hint(columns, ids)) is not None:
        log.warning("%s", line)
    groups = find_groups(wanted, ids, columns, near=near)
    return relate({name: split.images.content() for name, split in splits.items()}, groups)


def _called(text: str, columns: Columns) -> str | None:
    """Return the column of that name, in any case."""
    names = names_of(columns.values())
    return next((one for one in names if one.casefold() == text.casefold()), None)


def _column(name: str, columns: Mapping[str, Sequence[str]], count: int) -> Column:
    """Return a column of a split; one of empty cells where the split has none."""
    return Column.of(columns[name]) if name in columns else Column.empty(count)


def names_no_column(wanted: Sequence[str]) -> bool:
    """Whether at most near-duplicates are asked for: a column may still tell what is related."""
    return not set(wanted) - {NEAR}


def hint(columns: Columns, ids: Ids) -> str | None:
    """Return a line about a column whose rows seem to belong together; None where there is none."""
    parts = [(columns[split], len(each)) for split, each in ids.items()]
    likely = {}
    for name in names_of(columns.values()):
        most = max(len(Column.of(one[name]).used()) for one, _ in parts if name in one)
        rare = most * LEAST_ROWS > sum(count for _, count in parts)  # a text: not to be counted
        if rare and not TELLING.search(name.casefold()):
            continue
        counts = _known(stacked(name, parts))
        if _repeats(name, counts):
            likely[name] = counts
    if not likely:
        return None
    name = next((one for one in likely if TELLING.search(one.casefold())), next(iter(likely)))
    counts = likely[name]
    return (
        f"the table of these images has a column {name!r}, {len(counts):,} values on "
        f"{sum(counts.values()):,} images: if images of one value belong together (a patient, a "
        f"module), add --group {name}, else they may be on both sides of a split"
    )


def _known(column: Column) -> dict[str, int]:
    """Return how many rows have each value, without empty cells."""
    return {value: count for value, count in column.counts().items() if value}


def _repeats(name: str, counts: Mapping[str, int]) -> bool:
    """Whether a column's values repeat over rows like a patient's, not like a kind's."""
    rows, values = sum(counts.values()), len(counts)
    if TELLING.search(name.casefold()):
        return 2 <= values < rows
    enough = values >= LEAST_VALUES and LEAST_ROWS <= rows / values <= MOST_ROWS
    return enough and not any("." in one and one.replace(".", "").isdigit() for one in counts)


def _there_is_none(columns: Columns) -> str:
    if names := names_of(columns.values()):
        return (
            f"there is no such file, and the images have no such column; their columns are "
            f"{', '.join(names)}; {RENEW}"
        )
    return (
        "there is no such file, and no table says anything of the images but their labels; give a "
        f"CSV of `id,group`, or `{NEAR}` for images whose features are almost the same"
    )


def read_weights(column: str, ids: Ids, columns: Columns) -> dict[str, NDArray[np.float64]]:
    """Return what each image counts by a column, so that training rows average to 1.

    Parameters
    ----------
    ids : mapping of split name to sequence of str
        The splits whose rows heads are fitted on; ``train`` among them.
    columns : mapping of split name to columns
        What is known of the images of each split.

    Raises
    ------
    UsageError
        There is no such column, or it is no number from 0 for an image, or 0 for all.
    """
    name = _called(column, columns)
    if name is None:
        names = ", ".join(names_of(columns.values()))
        why = f"the images have no such column; their columns are {names}; {RENEW}" if names else (
            "weights are a column of a table of images, and no table says anything of these"
        )  # fmt: skip
        raise UsageError(f"--sample-weight {column}: {why}")
    cells = {split: _column(name, columns[split], len(each)) for split, each in ids.items()}
    found = {
        split: np.array([_weight(value) for value in one.values])[one.codes]
        for split, one in cells.items()
    }
    wrong = [
        (split, row)
        for split, each in found.items()
        for row in np.flatnonzero(~(each >= 0)).tolist()
    ]
    if wrong:
        split, row = wrong[0]
        shown = repr(cells[split][row]) if cells[split][row] else "nothing"
        raise UsageError(
            f"--sample-weight {column}: {len(wrong):,} of "
            f"{counted(sum(map(len, ids.values())), 'image')} have no number from 0 "
            f"there, first {ids[split][row]!r} with {shown}; give each one, "
            "0 where an image shall not count"
        )
    mean = float(found["train"].mean())
    if not 0 < mean < np.inf:
        raise UsageError(f"--sample-weight {column}: no training image has a weight above 0")
    return {split: each / mean for split, each in found.items()}


def _weight(text: str) -> float:
    """Return a weight; NaN for what is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return float("nan")
    return value if 0 <= value < np.inf else float("nan")


def _checked(
    text: str, ids: Ids, found: dict[str, list[str | None]], where: str
) -> dict[str, list[str | None]]:
    """Return each row's group; refuse images without one, unless a whole split has none."""
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
            f"--group {text}: {where} has no group for {counted(total, 'image')} ({counts}), first "
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
        # Excel's mark is no part of it
        with io.TextIOWrapper(
            open_regular(path, MOST_TEXT), newline="", encoding="utf-8-sig"
        ) as file:
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
