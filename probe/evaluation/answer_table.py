"""A table with a row an image: what it is, what was answered, and what its own table says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column, free_names, names_of
from probe.core.files import replacing
from probe.core.sheets import Sheet
from probe.core.short_repr import short_repr
from probe.evaluation.predictions import Predictions

BAR = "|"  # between the labels of one image, as in lists of images


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """Predictions with the answer that is made of each.

    Parameters
    ----------
    said : Predictions
    answers : intp, (n_rows,), or uint8, (n_rows, n_classes)
        Class numbers; where a row may have several labels, 1 for each that is answered.
    temperature : float, optional
        By which probabilities are still to be scaled.
    """

    __repr__ = short_repr

    said: Predictions
    answers: NDArray[Any]
    temperature: float | None = None


def write_answers(path: Path, splits: Mapping[str, Answered], classes: Sequence[str]) -> None:
    """Write a CSV file of predictions, by rename, as `probe.core.sheets` writes text.

    Its columns are ``image``, ``split``, ``label``, ``answer``, ``probability`` (of the answer, at
    the temperature; not where an image may have several labels) and ``right`` (1 or 0), and then
    those of the table that the images are from. One of these whose name is taken ends with ``_``.

    Parameters
    ----------
    splits : mapping of split name to Answered
        Rows that were predicted in several repeats are written as the first one has them.
    classes : sequence of str

    Raises
    ------
    CacheError
        The file cannot be written.
    """
    exclusive = all(one.said.task.exclusive for one in splits.values())
    own = ["image", "split", "label", "answer", *(["probability"] if exclusive else []), "right"]
    names = free_names(names_of(one.said.columns for one in splits.values()), own)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        sheet = Sheet(file)
        sheet.row([*own, *names.values()])
        for split, one in splits.items():
            for row in _rows(split, one, classes, list(names)):
                sheet.row(row)


def _rows(
    split: str, one: Answered, classes: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    said = one.said.first()
    count = len(said)
    answers, labels = one.answers[:count], said.labels
    texts: list[Sequence[Any]] = [_texts(labels, classes), _texts(answers, classes)]
    if said.task.exclusive:
        p = said.confidence_at(one.temperature, answers)
        texts.append([f"{value:.6g}" for value in p.tolist()])
        right = answers == labels
    else:
        right = (answers == labels).all(axis=1)
    columns = [said.columns.get(name, Column.empty(count)) for name in names]
    return zip(
        said.ids.tolist(), [split] * count, *texts, right.astype(int).tolist(), *columns,
        strict=True,
    )  # fmt: skip


def _texts(labels: NDArray[Any], classes: Sequence[str]) -> list[str]:
    if labels.ndim == 1:
        return [classes[number] for number in labels.tolist()]
    return [BAR.join(classes[place] for place in np.flatnonzero(row)) for row in labels]
