"""Units of related rows: copies of one picture, and rows of one group.

Rows that show the same picture, or the same patient, tell the same thing twice. A unit is what must
not be divided: the connected components of "same content" and "same group". Every row belongs to
exactly one unit, most often to one of its own. Splits, folds, draws, bootstraps and paired tests
deal whole units; where every unit is a single row they do what they do with rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr

Units = NDArray[np.intp]
ALONE = -1  # the group of a row that is in none


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Rows that were said to belong together.

    Parameters
    ----------
    by : str
        What they were said to belong together by, as messages have it: ``patient``,
        ``groups.csv``, ``near-duplicates``.
    of : mapping of split name to int, (n_rows,)
        Each row's group, numbered over all splits together, and ALONE for a row that is in none.
    """

    __repr__ = short_repr

    by: str
    of: Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Related:
    """The units of a dataset's rows.

    Parameters
    ----------
    units : mapping of split name to int, (n_rows,)
        Numbered over all splits together: a unit may have rows in several.
    pictures : mapping of split name to int, (n_rows,)
        Likewise by content alone.
    by : str
        What rows were grouped by beside their content; empty where by nothing.
    """

    __repr__ = short_repr

    units: Mapping[str, Units]
    pictures: Mapping[str, Units]
    by: str = ""


def relate(content: Mapping[str, NDArray[np.uint8]], groups: Sequence[Groups] = ()) -> Related:
    """Return the units of all rows.

    Parameters
    ----------
    content : mapping of split name to uint8, (n_rows, n_bytes)
        Hash of each image.
    groups : sequence of Groups
        A row may be in one group of each.
    """
    names = list(content)
    pictures = _numbers(np.concatenate([_texts(content[name]) for name in names]))
    units = pictures
    for one in groups:
        of = np.concatenate([one.of[name] for name in names])
        units = _merged(units, of)
    ends = np.cumsum([len(content[name]) for name in names])[:-1]
    by = " and ".join(dict.fromkeys(one.by for one in groups))
    return Related(
        units=dict(zip(names, np.split(units, ends), strict=True)),
        pictures=dict(zip(names, np.split(pictures, ends), strict=True)),
        by=by,
    )


def group_rows(by: str, values: Mapping[str, Sequence[str | None]]) -> Groups:
    """Return groups of rows with the same value; None is in no group.

    Parameters
    ----------
    values : mapping of split name to sequence of str or None, (n_rows,)
    """
    number: dict[str | None, int] = {None: ALONE}
    of = {
        split: np.array([number.setdefault(one, len(number)) for one in each], np.intp)
        for split, each in values.items()
    }
    return Groups(by=by, of=of)


def dealt(units: NDArray[Any] | Sequence[Any] | None, n_rows: int) -> Units | None:
    """Return units numbered from 0, (n_rows,); None where every unit is a single row.

    Parameters
    ----------
    units : (n_rows,), optional
        Numbers or names.
    """
    if units is None:
        return None
    own, numbers = np.unique(np.asarray(units), return_inverse=True)
    assert numbers.shape == (n_rows,)
    return None if len(own) == n_rows else numbers.astype(np.intp)


def count_units(units: NDArray[Any] | None, n_rows: int) -> int:
    """Return how many units some rows are."""
    return n_rows if units is None else len(np.unique(units))


def effective_count(units: NDArray[Any] | None, n_rows: int) -> float:
    """Return how many units of equal size would say as much: all of them where sizes are equal.

    References
    ----------
    Kish, "Survey Sampling", 1965: the square of the sum over the sum of squares.
    """
    if units is None:
        return float(n_rows)
    sizes = np.unique(units, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def beyond_single(units: NDArray[Any] | None) -> bool:
    """Whether some unit has several rows."""
    return units is not None and len(np.unique(units)) < len(units)


def _texts(content: NDArray[np.uint8]) -> NDArray[Any]:
    """Return each row's bytes as one value."""
    rows = np.ascontiguousarray(content)
    return rows.view(f"V{rows.shape[1]}")[:, 0] if len(rows) else np.empty(0, f"V{rows.shape[1]}")


def _numbers(values: NDArray[Any]) -> Units:
    """Number values by where they come first, so that rows of their own keep their order."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.intp)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    return place[inverse]


def _merged(units: Units, groups: NDArray[np.intp]) -> Units:
    """Return units where those that share a group are one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    there = groups != ALONE
    n_units = int(units.max()) + 1 if len(units) else 0
    n = n_units + (int(groups.max()) + 1 if there.any() else 0)
    edges = (np.ones(int(there.sum()), np.int8), (units[there], n_units + groups[there]))
    component = connected_components(coo_matrix(edges, (n, n)), directed=False)[1]
    return _numbers(component[units])
