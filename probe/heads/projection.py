"""A PCA between the features and the head: learnt from training rows and kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.core.short_repr import short_repr
from probe.errors import HeadError

FILE_NAME = "projection.safetensors"
ARRAYS = ("mean", "scale", "axes")
BLOCK = 4096  # rows at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A map of feature rows to fewer numbers: ``((x - mean) / scale) @ axes``.

    Parameters
    ----------
    mean : float64, (n_features,)
    scale : float64, (n_features,)
        Ones for one backbone; of several, one number for all features of each.
    axes : float64, (n_features, width)
        Columns of length one, at right angles to each other.
    """

    __repr__ = short_repr

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return len(self.axes)

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return int(self.axes.shape[1])

    @cached_property
    def basis(self) -> NDArray[np.float64]:
        """Scale and axes in one, (n_features, width): ``(x - mean) @ basis``."""
        return self.axes / self.scale[:, None]

    def apply(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return rows after the map, (n_rows, width), computed in float64."""
        found = np.empty((len(X), self.width), np.float32)
        for start in range(0, len(X), BLOCK):
            found[start : start + BLOCK] = (X[start : start + BLOCK] - self.mean) @ self.basis
        return found

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return what `from_arrays` takes, for a file."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Projection:
        """Check arrays and return the projection that they are.

        Raises
        ------
        HeadError
            Names, types, shapes or numbers do not go together.
        """
        if set(arrays) != set(ARRAYS) or any(a.dtype != np.float64 for a in arrays.values()):
            raise HeadError(f"a projection is {', '.join(ARRAYS)} in float64")
        made = cls(**arrays)
        row = made.mean.shape
        if made.axes.ndim != 2 or row != (len(made.axes),) or made.scale.shape != row:
            raise HeadError("mean, scale and axes of the projection do not go together")
        if not all(np.isfinite(a).all() for a in arrays.values()) or not (made.scale > 0).all():
            raise HeadError("the projection has numbers that are not finite, or a scale of 0")
        return made


def save_projection(projection: Projection, path: Path) -> None:
    """Write a projection by rename."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in projection.arrays().items()}
    with replacing(path) as temporary:
        save_file(whole, temporary)


def load_projection(path: Path) -> Projection:
    """Read what `save_projection` wrote.

    Raises
    ------
    HeadError
        It is not there, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return Projection.from_arrays(load_file(path))
    except HeadError as error:
        raise HeadError(f"{path}: {error}") from error
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise HeadError(f"{path}: cannot be read ({error})") from error
