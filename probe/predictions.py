"""What a run said of each row it was not trained on: for paired tests, the report and ensembles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.files import replacing

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
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
        splits = {name.removesuffix("_ids") for name in arrays if name.endswith("_ids")}
        found = {
            s: Predictions(
                **{n: arrays[f"{s}_{n}"] for n in ARRAYS}, units=arrays.get(f"{s}_{UNITS}")
            )
            for s in sorted(splits)
        }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged ({error}); fit the head again") from error
    for split, one in found.items():
        units = one.ids if one.units is None else one.units
        if not len(one.ids) == len(one.labels) == len(one.probabilities) == len(units):
            raise DataError(f"{path}: {split} has arrays of different lengths; fit the head again")
    return found
