"""The course of a training: `history.csv` in a run's folder, one row an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from probe.core.files import write_text
from probe.core.regular import read_regular
from probe.errors import DataError

FILE_NAME = "history.csv"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training rows, measured with the parameters at its end.

    Parameters
    ----------
    epoch : int
        From 1.
    train_loss, val_loss : float or None
        Mean cross-entropy in nats, without the penalty; None where there is no validation.
    train_top1, val_top1 : float or None
        Fraction of rows whose label has the highest score; None where rows may have several.
    val_map : float or None
        Where they may, the mean average precision, if it was measured.
    lr : float, optional
        Step size: of fine-tuning the mean over the epoch's batches, as its training loss is, for
        under a warmup or a schedule no single step stands for them; of a head it stays the same
        or is that of the epoch's first step.
    seconds : float
        Wall time of this epoch, the measuring included.
    """

    epoch: int
    train_loss: float
    train_top1: float | None = None
    val_loss: float | None = None
    val_top1: float | None = None
    val_map: float | None = None
    lr: float | None = None
    seconds: float = field(default=0.0, compare=False)  # the same run twice is the same history

    @property
    def val_score(self) -> float:
        """What epochs are ranked by: top-1 on validation, or mean average precision; 0 without."""
        found = self.val_map if self.val_map is not None else self.val_top1
        return found or 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """What sorts epochs, the best highest: `val_score`, of equals the lowest loss.

        Of epochs that are equal in both the first is the best.
        """
        return self.val_score, -(self.val_loss or 0.0)


COLUMNS = tuple(one.name for one in fields(Epoch))
NEEDED = COLUMNS[:3]
OPEN = ("train_top1", "")  # the column is there, and rows may have several labels


def save_history(folder: Path, history: Iterable[Epoch]) -> None:
    """Write `history.csv` by rename; what was not measured is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for epoch in history:
        values = [getattr(epoch, name) for name in COLUMNS]
        writer.writerow(["" if value is None else value for value in values])
    write_text(folder / FILE_NAME, text.getvalue())


def load_history(folder: Path) -> list[Epoch]:
    """Read a run's history; empty where it has none. Columns that are not Epoch's are left out.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    try:
        text = read_regular(path).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return [_epoch(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{path}: not a training history ({reason})") from error


def _epoch(row: dict[str, str]) -> Epoch:
    found = {name: float(row[name]) for name in COLUMNS[1:] if row.get(name)}
    lacking = [one for one in NEEDED if not row.get(one) and (one, row.get(one)) != OPEN]
    if lacking:
        raise ValueError(f"{lacking[0]} is missing")
    return Epoch(
        epoch=int(row["epoch"]),
        train_loss=found["train_loss"],
        train_top1=found.get("train_top1"),
        val_loss=found.get("val_loss"),
        val_top1=found.get("val_top1"),
        val_map=found.get("val_map"),
        lr=found.get("lr"),
        seconds=found.get("seconds", 0.0),
    )
