"""Find the columns of a list that tell the split of each row, under whatever name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probe.core.short_repr import short_repr
from probe.datasets.split_names import EXACT, name_words, split_words, tells_apart
from probe.datasets.tables.cells import Cells
from probe.errors import DataError

SPLIT = "split"
_CALLED = frozenset(  # without spaces and signs
    (
        "split", "splits", "set", "sets", "subset", "dataset", "datasets", "datasplit", "phase",
        "partition", "fold", "usage", "splitname", "setname", "splitset", "traintest",
        "trainvaltest", "traintestsplit", "splitid", "splitindex",
    )
)  # fmt: skip
_TRUE = frozenset(("1", "1.0", "true", "t", "yes", "y"))
_FALSE = frozenset(("0", "0.0", "false", "f", "no", "n"))
_NUMBERS = (
    frozenset(["-1", "-1.0", "0", "1", "2", "3", "0.0", "1.0", "2.0", "3.0"]) | _TRUE | _FALSE
)
_FOLD = frozenset(("fold", "kfold", "cvfold", "cv"))
_FEW = 3  # values; one of them that says train is hardly a vehicle
_NOTHING = frozenset(("", "nan", "none", "null", "na", "n/a"))
_ADVICE = (
    "call the column that tells it `split`, with train, val and test in it (or name it by "
    "--split-column)"
)


@dataclass(frozen=True, kw_only=True)
class FoundSplits:
    """The split of each row, the columns that give it, and notes for a warning."""

    by_row: list[str]
    columns: tuple[int, ...]
    notes: tuple[str, ...] = ()

    __repr__ = short_repr


def find_splits(
    cells: Cells, columns: Sequence[int], *, may_be_classes: bool
) -> FoundSplits | None:
    """Find the columns that give the split of each row, or None.

    ``split`` is such a column. Without it, a column with a similar name (``set``, ``data set``,
    ``subset``, ``phase``, ``partition``, ``fold``, ``usage``) whose values are names of splits; see
    `split_words`. Or columns of yes and no (``1``, ``True``, ``yes``) that are named like a split:
    ``is_valid``, ``test``, ``in_train``. A row with no in all of them is train; where only training
    rows are marked, the others are test, which chooses nothing.

    Parameters
    ----------
    cells : Cells
    columns : sequence of int
        Those that have no other role.
    may_be_classes : bool
        Whether columns without a role are classes of 0s and 1s: one called ``train`` is a class
        then, unless there is another such column.

    Raises
    ------
    DataError
        A column looks like a split, but its values are ambiguous.
    """
    if not cells.rows:
        return None
    names = cells.names
    values = {n: cells.column(n) for n in columns}
    exact = next((n for n in columns if names[n].lower() == SPLIT), None)
    if exact is not None:
        return _exact_column(cells, exact, values[exact])
    found = [reading for n in columns if (reading := _word_column(cells, n, values[n])) is not None]
    flags = _flag_columns(cells, values, may_be_classes=may_be_classes)
    if flags:
        found.append(_read_flags(cells, flags, values))
    for other in found[1:]:
        if other.by_row != found[0].by_row:
            first, second = names[found[0].columns[0]], names[other.columns[0]]
            raise DataError(
                f"{cells.place}: `{first}` and `{second}` both read like a split, and differ; "
                f"{_ADVICE}"
            )
    return found[0] if found else None


def named_splits(cells: Cells, column: int) -> FoundSplits:
    """Read the column that ``--split-column`` names: words for splits, or yes and no.

    Raises
    ------
    DataError
        A cell is no word for a split; or it is yes or no, and the column is not called like a
        split.
    """
    values = {column: cells.column(column)}
    if {text.lower() for text in values[column]} <= _TRUE | _FALSE:
        flags = _flag_columns(cells, values, may_be_classes=False)
        if flags:
            return _read_flags(cells, flags, values)
    return _exact_column(cells, column, values[column])


def _exact_column(cells: Cells, column: int, texts: list[str]) -> FoundSplits:
    read = split_words(set(texts), whole=True)
    if read is None:
        row, text = next(
            (row, text)
            for row, text in enumerate(texts)
            if text.lower() in ("", *_NUMBERS) or split_words([text], whole=True) is None
        )
        raise DataError(
            f"{cells.at(row)}: the split {text!r} is not train, val or test (--where leaves out "
            "rows)"
        )
    by_row = [read[text] for text in texts]
    near = [text for text in read if text.lower() not in EXACT]
    readings = ", ".join(f"{text!r} as {read[text]}" for text in sorted(near))
    notes = (f"read in `{cells.names[column]}`: {readings}",) if near else ()
    return FoundSplits(by_row=by_row, columns=(column,), notes=notes)


def _word_column(cells: Cells, column: int, texts: list[str]) -> FoundSplits | None:
    """Read a column under another name as the split; None where it is not one."""
    path, name = cells.place, cells.names[column]
    different = set(texts)
    called = "".join(name_words(name)) in _CALLED or numbers_folds(name)
    if len(different) > 20:
        return None
    read = split_words(different, whole=True)
    if read is not None and called:
        by_row = [read[text] for text in texts]
        note = f"the column `{name}` is read as the split ({_counts(by_row)})"
        return FoundSplits(by_row=by_row, columns=(column,), notes=(note,))
    if read is not None and tells_apart(read.values()):
        raise DataError(
            f"{path}: the column `{name}` holds {_list(sorted(different))}, which reads like a "
            f"split; {_ADVICE}, or remove it"
        )
    if not called:
        words = {text for text in different if text.lower() not in _NOTHING}
        if len(words) < len(different) and split_words(words, whole=True):
            raise DataError(
                f"{path}: the column `{name}` holds {_list(sorted(different))}, which reads like "
                f"a split; {_ADVICE}, or remove it"
            )
        train = [text for text in different if split_words([text], whole=True) == {text: "train"}]
        if train and 1 < len(different) <= _FEW:
            raise DataError(
                f"{path}: the column `{name}` holds {_list(sorted(different))}, of which "
                f"{train[0]!r} reads like a split; {_ADVICE}, or remove it"
            )
        return None
    odd = [text for text in different if text.lower() not in EXACT]
    if 0 < len(odd) < len(different):
        row, text = next((row, text) for row, text in enumerate(texts) if text in odd)
        raise DataError(
            f"{cells.at(row)}: the column `{name}` reads like a split, and {text!r} in it does "
            f"not; {_ADVICE}, or remove it"
        )
    lower = {text.lower() for text in different}
    fold = numbers_folds(name) and len(lower) > 2
    if len(lower) > 1 and lower <= _NUMBERS and not fold:
        raise DataError(
            f"{path}: the column `{name}` holds {_list(sorted(different))} and reads like a split, "
            f"but not which is which; {_ADVICE}, or remove it"
        )
    return None


def numbers_folds(name: str) -> bool:
    """Whether a column is named like one of fold numbers: ``fold``, ``cv_fold``, ``kfold``."""
    return bool(_FOLD & {*name_words(name)})


def _flag_columns(
    cells: Cells, values: Mapping[int, list[str]], *, may_be_classes: bool
) -> dict[str, int]:
    """Return the columns of yes and no that are named like a split, by split."""
    path, names = cells.place, cells.names
    found: dict[str, int] = {}
    for column, texts in values.items():
        read = split_words([names[column]], whole=True)
        if read is None:
            continue
        odd = {text.lower() for text in texts} - _TRUE - _FALSE
        if odd:
            marked = len(odd) == 2 and odd & _NOTHING  # a cross marks yes
            gaps = odd == {""} or names[column].lower() not in EXACT
            if marked or (len(odd) < len(set(texts)) and gaps):
                raise DataError(
                    f"{path}: the column `{names[column]}` reads like {next(iter(read.values()))}, "
                    f"and holds {_list(sorted(set(texts)))}; {_ADVICE}, or remove it"
                )
            continue
        (split,) = read.values()
        if split in found and values[found[split]] != texts:
            raise DataError(
                f"{path}: `{names[found[split]]}` and `{names[column]}` both read like {split}, "
                f"and differ; {_ADVICE}"
            )
        found.setdefault(split, column)
    alone = [names[column].lower() for column in found.values()]
    return {} if may_be_classes and alone == ["train"] else found


def _read_flags(
    cells: Cells, flags: Mapping[str, int], values: Mapping[int, list[str]]
) -> FoundSplits:
    names, count = cells.names, len(cells)
    chosen = {split: [t.lower() in _TRUE for t in values[n]] for split, n in flags.items()}
    other = "train" if "train" not in flags else "val" if "test" in flags else "test"
    by_row = []
    for row in range(count):
        marked = [split for split, yes in chosen.items() if yes[row]]
        if len(marked) > 1 or (not marked and len(flags) == 3):
            what = " and ".join(marked) or "neither train nor val nor test"
            raise DataError(f"{cells.at(row)} is {what} by its columns; {_ADVICE}")
        by_row.append(marked[0] if marked else other)
    for split, column in flags.items():
        if split != "train" and sum(chosen[split]) * 2 > count and "train" not in flags:
            raise DataError(
                f"{cells.place}: the column `{names[column]}` would make {sum(chosen[split]):,} of "
                f"{count:,} images {split}; {_ADVICE}, or rename it if it says something else"
            )
    which = " and ".join(f"`{names[column]}`" for column in flags.values())
    note = f"{which} read as the split ({_counts(by_row)})"
    return FoundSplits(by_row=by_row, columns=tuple(flags.values()), notes=(note,))


def _counts(by_row: Sequence[str]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in Counter(by_row).items())


def _list(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:6])) + (", ..." if len(texts) > 6 else "")
