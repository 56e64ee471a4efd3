"""What a head refuses, in one line each: parameters that make no sense, and malformed rows.

Labels become one-hot rows here, too, which do not fit in memory where there are thousands of
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.text import shown
from probe.errors import HeadError
from probe.evaluation.many import MANY
from probe.evaluation.task import Task, task_of

TEXT = "OSU"  # kinds of labels that are no numbers


def require(condition: bool, name: str, value: object, wanted: str) -> None:
    """Raise HeadError unless a parameter is what it should be."""
    if not condition:
        raise HeadError(f"{name} must be {wanted}, not {shown(value)}")


def one_of(name: str, value: object, names: Sequence[str]) -> None:
    """Raise HeadError unless a parameter is one of the names."""
    require(value in names, name, value, f"one of {', '.join(names)}")


def above_zero(name: str, value: object) -> None:
    """Raise HeadError unless a parameter is a finite number above 0."""
    require(isinstance(value, Real) and 0 < float(value) < np.inf, name, value, "a number above 0")


def whole(name: str, value: object) -> None:
    """Raise HeadError unless a parameter is a whole number from 1."""
    require(isinstance(value, Integral) and int(value) >= 1, name, value, "a whole number from 1")


def part(name: str, value: object) -> None:
    """Raise HeadError unless a parameter is a fraction below 1."""
    below = isinstance(value, Real) and 0 <= float(value) < 1
    require(below, name, value, "a number from 0 to below 1")


def as_head_error(check: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run one of scikit-learn's checks; its ValueError becomes a HeadError of one line."""
    try:
        return check(*args, **options)
    except ValueError as error:
        raise HeadError(" ".join(str(error).split())) from error


def checked_weights(
    weights: ArrayLike | None, labels: NDArray[np.intp], names: NDArray[Any]
) -> NDArray[np.float64] | None:
    """Return what rows count, (n_rows,), or None where all count alike.

    Raises
    ------
    HeadError
        They are not one number from 0 a row, or nothing of a class counts.
    """
    if weights is None:
        return None
    found = as_head_error(np.asarray, weights, dtype=np.float64)
    if found.shape != labels.shape[:1]:
        raise HeadError(f"{len(labels)} rows but weights of shape {found.shape}")
    if not (np.isfinite(found) & (found >= 0)).all():
        raise HeadError("sample_weight must be finite numbers from 0")
    if task_of(labels).exclusive:
        empty = np.flatnonzero(np.bincount(labels, found, minlength=len(names)) <= 0)
        if len(empty):
            raise HeadError(
                f"all training rows of class {shown(names[empty[0]])} have a weight of zero"
            )
    elif not found.any():
        raise HeadError("all training rows have a weight of zero")
    return np.asarray(found, np.float64)


def encoded(
    labels: NDArray[Any], classes: NDArray[Any], n_rows: int, task: Task
) -> NDArray[np.intp]:
    """Return labels of rows that were not trained on as a head has them; see `BaseHead.encode`."""
    fits = labels.shape == task.shape(n_rows, len(classes))
    if not fits or not (task.exclusive or np.isin(labels, (0, 1)).all()):
        raise HeadError(f"validation: {n_rows} rows but labels of shape {labels.shape}")
    if task.exclusive and (labels.dtype.kind in TEXT) != (classes.dtype.kind in TEXT):
        raise HeadError(
            f"validation: labels are {labels.dtype}, those of training {classes.dtype}; give both "
            "as numbers or both as text"
        )
    return task.encode(labels, classes)


def one_hot(labels: NDArray[np.intp], n_classes: int) -> Any:
    """Return a 1 in each row's class, float64, (n_rows, n_classes).

    A dense array, or of many classes a sparse one of SciPy's, which has the same products and sums.
    """
    if n_classes <= MANY:
        return np.eye(n_classes)[labels]
    from scipy.sparse import csr_array

    n_rows = len(labels)
    places = labels.astype(np.int32), np.arange(n_rows + 1)
    return csr_array((np.ones(n_rows), *places), shape=(n_rows, n_classes))
