"""What a run said of each row it was not trained on: for paired tests, the report and ensembles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.files import replacing
from probe.records import in_one_line, read_npz

FILE_NAME = "predictions.npz"
ARRAYS = ("ids", "labels", "probabilities")
UNITS = "units"  # absent where each row is alone, and in files of older versions


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Probabilities of rows that the head did not see.

    Parameters
    ----------
    ids : str, (n_rows,)
        As in the entry.
    labels : int64, (n_rows,), or uint8, (n_rows, n_classes)
        Indices into the entry's classes; where a row may have several, 1 for each, else 0.
    probabilities : float32, (n_rows, n_classes)
        Columns in the order of the entry's classes; 0 for a class without training rows. Rows sum
        to 1 unless they may have several labels.
    units : int, (n_rows,), optional
        Rows of one unit belong together (`probe.units`): they show one picture or are of one group.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64] | NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    units: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def save_predictions(folder: Path, splits: Mapping[str, Predictions]) -> None:
    """Write `predictions.npz` in a run's folder, by rename.

    Parameters
    ----------
    splits : mapping of str to Predictions
        ``val`` by the head fitted on training rows alone, ``test`` by the final one, ``oof``: each
        training row by the fold head that did not see it.
    """
    arrays = {
        f"{split}_{name}": np.asarray(getattr(one, name))
        for split, one in splits.items()
        for name in (*ARRAYS, *([] if one.units is None else [UNITS]))
    }
    with replacing(folder / FILE_NAME) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_predictions(folder: Path) -> dict[str, Predictions]:
    """Read a run's predictions by split; empty where the run kept none.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        arrays = read_npz(path)
        splits = {name.removesuffix("_ids") for name in arrays if name.endswith("_ids")}
        found = {
            s: Predictions(
                **{n: arrays[f"{s}_{n}"] for n in ARRAYS}, units=arrays.get(f"{s}_{UNITS}")
            )
            for s in sorted(splits)
        }
        for split, one in found.items():
            _check(split, one)
    except (OSError, ValueError, KeyError) as error:
        reason = in_one_line(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: damaged ({reason}); fit the head again") from error
    return found


def _check(split: str, one: Predictions) -> None:
    """Raise ValueError where arrays do not belong together: none of it would be found later."""
    ids, labels, probabilities = one.ids, one.labels, one.probabilities
    units = ids if one.units is None else one.units
    kinds = ids.dtype.kind, labels.dtype.kind in "iu", probabilities.dtype.kind
    if kinds != ("U", True, "f") or (ids.ndim, probabilities.ndim, units.ndim) != (1, 2, 1):
        raise ValueError(f"{split} has arrays of another kind")
    if not len(ids) == len(labels) == len(probabilities) == len(units):
        raise ValueError(f"{split} has arrays of different lengths")
    wide = probabilities.shape[1]
    right = labels.shape[1:] == (wide,) if labels.ndim == 2 else labels.ndim == 1
    if not right or not np.isfinite(probabilities).all():
        raise ValueError(f"{split} has no probabilities")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < max(wide, 2):
        raise ValueError(f"{split} has labels that are none of {wide} classes")
