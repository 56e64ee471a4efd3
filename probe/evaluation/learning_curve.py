"""Learning curves, accuracy against images per class: `learning_curve.json` in a run's folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.plain import from_plain, to_plain
from probe.core.records import read_record, write_record
from probe.core.short_repr import short_repr
from probe.evaluation.statistics import Spread, spread

SCHEMA = 1
FILE_NAME = "learning_curve.json"
PICTURE = "learning_curve.png"
ALL = 1e-9  # part of the images in which draws differ: less is none


@dataclass(frozen=True, kw_only=True)
class Point:
    """One head, fitted on one draw of training images.

    Parameters
    ----------
    per_class : int
        Images drawn of each class; a class with fewer gives all it has.
    draw : int
        From 0.
    n_train : int
        Images drawn in all.
    top1, mean_recall : float
        On all rows of the curve's split.
    shared : float
        Part of a draw's images that another draw of this size has too, as expected: 0 to 1. It is
        1 where every class gives all its images.
    params : mapping
        What was chosen for this draw, or the head's default where it is too small to choose from;
        empty where there was no choice.
    """

    per_class: int
    draw: int
    n_train: int
    top1: float
    mean_recall: float
    log_loss: float
    params: Mapping[str, Any]
    shared: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Points of one head on one entry, smallest draws first.

    Parameters
    ----------
    split : {"val", "test"}
        What every point was scored on.
    n_split : int
        Its images.
    """

    __repr__ = short_repr

    entry: str
    dataset: str
    head: str
    split: str
    n_split: int
    points: tuple[Point, ...]
    schema: int = SCHEMA

    def bands(self, metric: str = "top1") -> dict[int, Spread]:
        """Return mean and standard deviation for each number of images a class.

        The deviation is that of other images of the same kind. Draws from one pool vary less, since
        they share images: so their variance is divided by the part that they do not share. A single
        draw has no spread, nor have draws of all images: then the deviation is NaN.

        References
        ----------
        Nadeau, Bengio, "Inference for the generalization error", Machine Learning 52, 2003: samples
        that share a part of their rows are correlated by that part. Cochran, "Sampling Techniques",
        1977, 2.6: the finite population's correction, which is the same.
        """
        found = {}
        for count in sorted({point.per_class for point in self.points}):
            points = [point for point in self.points if point.per_class == count]
            values = [getattr(point, metric) for point in points]
            apart = 1 - points[0].shared
            deviation = float("nan")
            if len(values) > 1 and apart > ALL:
                deviation = spread(values).deviation / math.sqrt(apart)
            mean = float(np.mean(values))
            found[count] = Spread(mean=mean, deviation=deviation, count=len(values))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers."""
        return {"schema": self.schema, **to_plain(self)}


def save_learning_curve(folder: Path, curve: LearningCurve) -> Path:
    """Write `learning_curve.json` by rename and return its path."""
    path = folder / FILE_NAME
    write_record(path, curve.to_dict())
    return path


def load_learning_curve(folder: Path) -> LearningCurve | None:
    """Read a run's learning curve; None where it has none.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    return read_record(path, "a learning curve", _curve, schema=SCHEMA)


def _curve(data: Any) -> LearningCurve:
    curve = from_plain(LearningCurve, data)
    if not all(0 <= point.shared <= 1 for point in curve.points):
        raise ValueError("the part of images that draws share is not from 0 to 1")
    return curve
