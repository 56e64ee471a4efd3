"""Figures by what a table says of its images beside labels, and columns that may be a shortcut.

A column that the features give away, and that goes with the label, is one that a head can answer
by: a hospital's marker, a camera's tint. Neither alone is a sign of it. What is found is a sign and
no proof: a column that comes of the label (a treatment) looks the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column, names_of, stacked
from probe.datasets.classes import ordered_classes
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.streaming import StreamedRows
from probe.evaluation.task import task_of
from probe.evaluation.units import dealt
from probe.runs.columns import Columns

MOST_VALUES = 20  # of a column whose figures are told by value
LEAST_ROWS = 5  # images of a value
QUARTERS = 4
MOST_ROWS = 1000  # that are asked whether features give a column away
FOLDS, DRAWS, LEVEL = 5, 199, 0.05
PENALTY = 1.0  # of the ridge, in units of a row's mean squared length

Array64 = NDArray[np.float64]
Codes = NDArray[np.intp]
Told = dict[str, dict[str, Column]]  # by split and name

__all__ = ["Shortcut", "by_value", "columns_to_tell", "describe", "shortcut", "tell"]


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """How well features give a column away, and how far it goes with the label.

    Parameters
    ----------
    accuracy, chance : float
        Balanced accuracy of a ridge on the features, out of fold, and its mean over permutations.
    p_features : float
        Of the permutation test that the features know nothing of the column.
    association : float
        Cramér's V of column and label, 0 to 1; of several labels the greatest of any.
    p_label : float
        Likewise by permutation.
    suspected : bool
        Whether both are significant at 5 %.
    """

    accuracy: float
    chance: float
    p_features: float
    association: float
    p_label: float
    suspected: bool

    @property
    def strength(self) -> float:
        """How much of a shortcut it may be, 0 to 1: what is given away times what it tells."""
        excess = (self.accuracy - self.chance) / max(1e-9, 1 - self.chance)
        return max(0.0, excess) * self.association


def columns_to_tell(columns: Columns, ids: Mapping[str, Sequence[str]]) -> Told:
    """Return the columns that have few values, by split; numbers of many in quarters.

    Names, ids and texts are left out: each value has too few images to tell anything of. Values
    are in their order, numbers by size, and the empty one, of unknown cells, is the last.

    Parameters
    ----------
    columns : mapping of split name to columns
    ids : mapping of split name to sequence of str
        Of the same splits.
    """
    sizes = [len(each) for each in ids.values()]
    parts = [(columns[split], size) for split, size in zip(ids, sizes, strict=True)]
    found: dict[str, Column] = {}
    for name in names_of(columns.values()):
        if any(name in one and _is_text(Column.of(one[name])) for one, _ in parts):
            continue  # many words: not to be counted
        column = stacked(name, parts)
        there = column.counts()
        there.pop("", None)
        if 2 <= len(there) <= MOST_VALUES and sum(n >= LEAST_ROWS for n in there.values()) >= 2:
            column = column.compact()
            found[name] = column.ordered([*ordered_classes(filter(None, column.values)), ""])
        elif len(there) > MOST_VALUES and (quarters := _quarters(there)) is not None:
            column = column.map([quarters.get(value, "") for value in column.values])
            found[name] = column.ordered([*dict.fromkeys(sorted(quarters.values(), key=_edge)), ""])
    ends = np.cumsum(sizes).tolist()
    return {
        split: {name: column[end - size : end] for name, column in found.items()}
        for split, size, end in zip(ids, sizes, ends, strict=True)
    }


def _edge(quarter: str) -> float:
    return float(quarter.partition(" ")[0])


def _is_text(column: Column) -> bool:
    """Whether a column has more values than are told of, and the first one is no number."""
    used = column.used()
    if len(used) <= MOST_VALUES + 1:
        return False
    first = next(value for place in used.tolist() if (value := column.values[place]))
    try:
        return not math.isfinite(float(first))
    except ValueError:
        return True


def _quarters(counts: Mapping[str, int]) -> dict[str, str] | None:
    """Return the quarter in which each number lies; None where some are no numbers."""
    try:
        values = np.array([float(value) for value in counts])
    except ValueError:
        return None
    numbers = np.repeat(values, list(counts.values()))
    if len(numbers) < QUARTERS * LEAST_ROWS or not np.isfinite(numbers).all():
        return None
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, QUARTERS + 1)))
    if len(edges) < 3:
        return None
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    names = [f"{a:g} to {b:g}" for a, b in pairwise(edges)]
    return {one: names[at] for one, at in zip(counts, place.tolist(), strict=True)}


def by_value(said: Predictions, column: Column) -> list[dict[str, Any]]:
    """Return the figure of each value with its interval, the worst first.

    Parameters
    ----------
    column : Column, (n_rows,)
        Empty where nothing is known.

    Returns
    -------
    list of mapping
        ``value``, ``n`` (images: repeats predict each several times), and of its rows
        ``figure`` (accuracy, or of several labels the mean average precision), ``low`` and
        ``high`` (95 %). Values with fewer than LEAST_ROWS images are left out.
    """
    found = []
    for name, code in sorted((name, code) for code, name in enumerate(column.values) if name):
        rows = np.flatnonzero(column.codes == code)
        n_images = len(rows) // said.repeats
        if n_images < LEAST_ROWS:
            continue
        p, labels = said.probabilities[rows], said.label_columns[rows]
        units = None if said.units is None else said.units[rows]
        value = said.task.figure(p, labels)
        if value is None:
            continue
        low, high = said.task.interval(p, labels, units) or (value, value)
        found.append({"value": name, "n": n_images, "figure": value, "low": low, "high": high})
    return sorted(found, key=lambda one: one["figure"])


def shortcut(train: Part, column: Column, *, seed: int = 0) -> Shortcut | None:
    """Return whether training features give a column away, and whether it goes with the label.

    A ridge is fitted on folds of at most MOST_ROWS images and tells the value of those it did not
    see; the same is done DRAWS times with the column permuted. Rows that belong together stay on
    one side of the folds, and where they all have one value they are permuted together.

    Returns
    -------
    Shortcut or None
        None where fewer than two values have LEAST_ROWS images.

    References
    ----------
    Ojala, Garriga, "Permutation tests for studying classifier performance", JMLR 11, 2010.
    Cramér, "Mathematical methods of statistics", 1946, chapter 21.
    """
    counts = column.counts()
    kept = [
        code
        for code, name in enumerate(column.values)
        if name and counts.get(name, 0) >= LEAST_ROWS
    ]
    rows = np.flatnonzero(np.isin(column.codes, kept))
    random = np.random.default_rng(seed)
    if len(kept) < 2:
        return None
    if len(rows) > MOST_ROWS:
        rows = np.sort(random.choice(rows, MOST_ROWS, replace=False))
    names = np.array(list(column.take(rows)))
    codes = np.unique(names, return_inverse=True)[1].astype(np.intp)
    n_values = int(codes.max()) + 1
    if n_values < 2:
        return None
    units = dealt(None if train.units is None else train.units[rows], len(rows))
    numbers = np.arange(len(rows)) if units is None else units
    drawn = np.concatenate([codes[None], _permuted(codes, numbers, random)])  # itself first
    turns = random.permutation(int(numbers.max()) + 1) % FOLDS
    right = _balanced(_plain(train, rows), drawn, turns[numbers], n_values)
    strength = _association(train.y[rows], drawn, n_values)
    p_features, p_label = _p(right), _p(strength)
    return Shortcut(
        accuracy=float(right[0]), chance=float(right[1:].mean()), p_features=p_features,
        association=float(strength[0]), p_label=p_label,
        suspected=max(p_features, p_label) <= LEVEL,
    )  # fmt: skip


def tell(said: Predictions, split: str, columns: Mapping[str, Column]) -> dict[str, Any] | None:
    """Return figures by value of some columns, `columns_to_tell`; None where there is none."""
    found = {}
    for name, column in columns.items():
        told = by_value(said, column)
        if len(told) > 1:
            found[name] = {"values": told}
    return {"split": split, "columns": found} if found else None


def describe(
    said: Predictions,
    split: str,
    columns: Mapping[str, Column],
    train: Part,
    learnt: Mapping[str, Column],
    *,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return what `RunResult.subgroups` holds; None where there is no column to tell of.

    Parameters
    ----------
    columns, learnt : mapping of name to Column
        Columns to tell of the rows of `said` and of `train`; see `columns_to_tell`.
    """
    found = tell(said, split, columns)
    if found is None:
        return None
    for name, told in found["columns"].items():
        sign = shortcut(train, learnt[name], seed=seed) if name in learnt else None
        if sign is not None:
            told["shortcut"] = {**vars(sign), "strength": sign.strength}
    return found


def _p(figures: Array64) -> float:
    """Return how often a permuted figure is as large as the first, itself counted."""
    return float((figures >= figures[0] - 1e-12).mean())


def _permuted(codes: Codes, units: Codes, random: np.random.Generator) -> Codes:
    """Return the column permuted, (DRAWS, n_rows): by whole units where each has one value."""
    first = np.full(int(units.max()) + 1, -1)
    first[units] = codes
    if (first[units] == codes).all():
        return np.stack([random.permutation(first)[units] for _ in range(DRAWS)])
    return np.stack([random.permutation(codes) for _ in range(DRAWS)])


def _plain(train: Part, rows: Codes) -> Array64:
    """Return the first view of some images, standardised, (n, d)."""
    part = train.take(rows)
    X = part.X.take(np.arange(len(rows))) if isinstance(part.X, StreamedRows) else part.X
    plain = np.asarray(X).reshape(len(rows), part.views, -1)[:, 0].astype(np.float64)
    plain -= plain.mean(axis=0)
    spread = plain.std(axis=0)
    plain /= np.where(spread > 0, spread, 1)
    return plain


def _balanced(X: Array64, drawn: Codes, fold: Codes, n_values: int) -> Array64:
    """Return the balanced accuracy of ridges out of fold, (n_columns,), one a column drawn.

    Of all columns at once: a ridge's answers are linear in what it is fitted to.
    """
    products = X @ X.T / max(1e-12, float(np.einsum("nd,nd->n", X, X).mean()))
    told = np.zeros(drawn.shape, np.intp)
    for one in range(FOLDS):
        held, rest = np.flatnonzero(fold == one), np.flatnonzero(fold != one)
        if not len(held) or not len(rest):
            continue
        inner = products[np.ix_(rest, rest)] + PENALTY * np.eye(len(rest))
        answers = np.linalg.solve(inner, products[np.ix_(rest, held)]).T  # (held, rest)
        scores = np.empty((n_values, len(held), len(drawn)))
        for value in range(n_values):
            target = (drawn[:, rest] == value).T.astype(np.float64)
            share = np.maximum(target.mean(axis=0), 1 / len(rest))
            # against the value's share, so that rare values are answered as often
            scores[value] = answers @ (target / share - 1)
        told[:, held] = scores.argmax(axis=0).T
    right = told == drawn
    recalls = [
        np.where(drawn == value, right, 0).sum(axis=1) / np.maximum(1, (drawn == value).sum(axis=1))
        for value in range(n_values)
    ]
    return np.asarray(np.mean(recalls, axis=0), np.float64)


def _association(labels: NDArray[np.integer[Any]], drawn: Codes, n_values: int) -> Array64:
    """Return Cramér's V of each column drawn with the label, (n_columns,)."""
    tables = task_of(labels).tables(labels)
    best = np.zeros(len(drawn))
    for indicators in tables:
        counts = np.stack(
            [indicators.astype(np.float64) @ (drawn == value).T for value in range(n_values)]
        )  # (values, labels, columns)
        total = counts.sum(axis=(0, 1))
        expected = counts.sum(axis=0)[None] * counts.sum(axis=1)[:, None] / total
        gaps = np.divide(
            (counts - expected) ** 2, expected, out=np.zeros_like(counts), where=expected > 0
        )
        there = min(int((counts[..., 0].sum(axis=0) > 0).sum()), n_values) - 1
        if there > 0:
            best = np.maximum(best, np.sqrt(gaps.sum(axis=(0, 1)) / (total * there)))
    return best
