"""The record of a bench on disk: `bench.json`, and `results.csv` beside it.

    from probe.bench.record import load_bench
    bench = load_bench(Path("cache/benches/20260131-235959-001"))
    bench.comparisons[0].winner, bench.row(bench.comparisons[0].winner).metrics["val"]["top1"]

The comparing is in `probe.bench`; here is only what is kept, so that reports need nothing else.
Every figure of a row is also in the `result.json` of its run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from probe.bench.race_record import Race
from probe.core.plain import from_plain, to_plain
from probe.core.records import read_record, write_record
from probe.core.short_repr import short_repr
from probe.errors import DataError
from probe.evaluation.pairs import Pair

SCHEMA = 1
FILE_NAME, TABLE_NAME = "bench.json", "results.csv"
DONE, FAILED = "done", "failed"
DROPPED, LEFT_OUT = "dropped", "left out"  # by a race, and for want of time

SCORE_TITLES = {  # as people write them
    "logme": "LogME", "h_score": "H-score", "h_score_shrunk": "H-score, shrunk", "nce": "NCE",
    "leep": "LEEP", "knn": "5-NN",
}  # fmt: skip

Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What all rows have in common.

    Parameters
    ----------
    split : str
        Whose predictions choose: ``val``, or ``oof`` (out of fold).
    val_size : float
        0 where the folds hold rows out in turn.
    metric : str
        What is compared, by its name in `Row.metrics`: ``top1``, or ``map`` where images may have
        several labels, or ``mean_recall``, ``macro_f1``, ``macro_auc`` or ``log_loss``.
    sample_weight : str, optional
        The column of the table that says what each image counts in the fits.
    level : float
        Of the intervals, 0 to 1; differences are tested at 1 - level.
    """

    heads: tuple[str, ...]
    split: str
    val_size: float
    folds: int
    repeats: int
    seed: int
    metric: str = "top1"
    level: float = 0.95
    sample_weight: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row costs; absent where it was not measured or cannot be known.

    Parameters
    ----------
    parameters, multiply_adds : int, optional
        Of the network as it was cut, the latter an image at this size. Sums for several backbones.
    images_per_second : float, optional
        Of the forward pass, decoding included, as the cache entry records it. Layers that were
        filled by one pass share it.
    extract_seconds : float, optional
        All of this dataset's images at that rate.
    head_seconds : float, optional
        Fitting, the choice of the penalty included.
    disk : int, optional
        Bytes of the cache entries.
    imagenet_top1 : float, optional
        0 to 1, as the publisher of the weights states it; `imagenet_by` says who that is.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    images_per_second: float | None = None
    extract_seconds: float | None = None
    head_seconds: float | None = None
    disk: int | None = None
    imagenet_top1: float | None = None
    imagenet_by: str | None = None

    @property
    def total_seconds(self) -> float | None:
        """From images to a fitted head, or to a fine-tuned network; None where a part is absent."""
        if self.extract_seconds is None or self.head_seconds is None:
            return None
        return self.extract_seconds + self.head_seconds


@dataclass(frozen=True, kw_only=True)
class ValueFigure:
    """A row's figure on the images that have one value in a column of their table.

    Parameters
    ----------
    n : int
        Images.
    figure, low, high : float
        Accuracy, or of several labels the mean average precision, and its 95 % interval.
    """

    value: str
    n: int
    figure: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ColumnFigures:
    """Figures by the values of one column, the worst first.

    Parameters
    ----------
    shortcut : float, optional
        Only where the column is suspected to be one: its strength, 0 to 1 (`probe.runs.subgroups`).
    """

    values: tuple[ValueFigure, ...]
    shortcut: float | None = None


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """A row's figures by the columns of the list, on one split."""

    split: str
    columns: Mapping[str, ColumnFigures]

    @property
    def lines(self) -> list[tuple[str, ValueFigure]]:
        """Columns and figures of their values, the worst first."""
        every = [(name, one) for name, column in self.columns.items() for one in column.values]
        return sorted(every, key=lambda line: line[1].figure)

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Subgroups | None:
        """Return what `RunResult.subgroups` holds; None where it holds nothing."""
        if told is None:
            return None
        columns = {}
        for name, column in told["columns"].items():
            sign = column.get("shortcut", {})
            columns[name] = ColumnFigures(
                values=tuple(ValueFigure(**one) for one in column["values"]),
                shortcut=float(sign["strength"]) if sign.get("suspected") else None,
            )
        return cls(split=told["split"], columns=columns)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the leaderboard: features of a dataset and a head on them.

    Parameters
    ----------
    id : str
        Unique in this bench: ``r01``, ``r02`` ...
    name : str
        As `--backbones` takes it, with layer and size filled in: ``vgg16/pool5@64``. The same
        features have the same name on every dataset.
    kind : str
        ``backbone``, ``concat`` (features of several side by side) or ``pca``.
    status : str
        ``done``, ``failed``, or of a race ``dropped`` or ``left out``; then `reason` says why, and
        figures are absent.
    backbone, weights, layer, pool : str
        Joined by ``+`` for a concat.
    size : int, optional
        Side of the network's input in pixels; absent where the backbones of a concat differ.
    pca : int, optional
        Width after a PCA that was fitted on training rows.
    entries : tuple of str
        Names in the cache.
    run : str, optional
        Folder under ``CACHE/runs``.
    best : float, optional
        The chosen value of `penalty` (C, alpha ...).
    metrics, intervals : mapping
        As in the run's `result.json`: ``metrics["val"]["top1"]``, ``intervals["val"]["top1"]`` =
        (low, high).
    groups : mapping of split to int, optional
        How many groups its images are, where some belong together; intervals are over groups then.
    subgroups : Subgroups, optional
        Figures by the columns of the images' table, where there is one.
    rank : int, optional
        1 for the best of this dataset by the protocol's metric and split.
    letters : str
        Rows of a dataset that share a letter are not distinguishable with these data.
    """

    __repr__ = short_repr

    id: str
    dataset: str
    name: str
    kind: str
    head: str
    status: str
    backbone: str
    weights: str
    layer: str
    pool: str
    entries: tuple[str, ...]
    metrics: Figures
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    cost: Cost
    letters: str = ""
    reason: str | None = None
    size: int | None = None
    pca: int | None = None
    run: str | None = None
    feature_dim: int | None = None
    penalty: str | None = None
    best: float | None = None
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    groups: Mapping[str, int] | None = None
    subgroups: Subgroups | None = None
    rank: int | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure of features that no head was trained for, on training rows alone; more is better.

    Parameters
    ----------
    name : str
        ``logme``, ``h_score``, ``h_score_shrunk``, ``nce``, ``leep`` or ``knn``.
    features : str
        `Row.name` of the rows it speaks of.
    value : float, optional
        Absent where it has none: LogME where the evidence has no maximum, see
        `probe.bench.transferability.logme`.
    n_rows : int
        Training rows it was computed on.
    """

    name: str
    features: str
    seconds: float
    n_rows: int
    value: float | None = None


def unbounded_words(features: Sequence[str]) -> str:
    """Return why a score of these features has no value, in a sentence."""
    return (
        f"LogME has no value for {', '.join(features)}: these features give the labels of the "
        "training rows without an error, so its evidence grows without bound."
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well a score ranked these features, against each one's best head.

    Parameters
    ----------
    n : int
        Features that have both, at least 3.
    kendall, weighted : float
        Kendall's tau-b, and the weighted one of Vigna 2015, where the top counts most; -1 to 1.
    p : float
        Of tau-b: how often as much agreement, or disagreement, comes by chance.
    best : str
        The features that the score would have taken.
    loss : float
        What that choice loses against the best, in the protocol's metric.
    """

    score: str
    n: int
    kendall: float
    weighted: float
    p: float
    best: str
    loss: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answer for one dataset.

    Parameters
    ----------
    images : mapping of split to int
    rows : tuple of str
        Ids of finished rows, the best first.
    winner : str, optional
        Row id; absent where no row is finished.
    tied : tuple of str
        Rows that do not differ significantly from the winner, itself first.
    cheapest : str, optional
        The one of `tied` with the fewest multiply-adds an image (then: the narrowest features).
    verdict : str
        The answer in one or two sentences.
    """

    __repr__ = short_repr

    dataset: str
    n_classes: int
    images: Mapping[str, int]
    rows: tuple[str, ...]
    pairs: tuple[Pair, ...]
    tied: tuple[str, ...]
    verdict: str
    scores: tuple[Score, ...]
    agreement: tuple[Agreement, ...]
    winner: str | None = None
    cheapest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Several datasets: each feature's figure on each, and average ranks.

    Parameters
    ----------
    datasets, names : tuple of str
        Columns; rows (`Row.name` and head), those with a figure on every dataset.
    values : tuple of tuple of float
        A row a name: the protocol's metric on its split.
    average_ranks : tuple of float
        1 is best; ties share.
    critical_difference : float, optional
        Nemenyi's: average ranks that differ by less are not distinguishable. Absent where the
        datasets are too few for either to mean something; `note` says so.
    """

    datasets: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    average_ranks: tuple[float, ...]
    note: str
    friedman_p: float | None = None
    critical_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One comparison; the fields are those of the JSON.

    Parameters
    ----------
    id : str
        The folder's name under ``CACHE/benches``.
    created : str
        UTC, ISO 8601.
    seconds : float
        Wall time; what was reused took none.
    rows : tuple of Row
        Of all datasets, failed ones included.
    matrix : Matrix, optional
        Where there are several datasets.
    races : tuple of Race
        One a dataset, where there was one.
    versions : mapping of package name to version
    """

    __repr__ = short_repr

    id: str
    command: str
    created: str
    seconds: float
    protocol: Protocol
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    versions: Mapping[str, str]
    matrix: Matrix | None = None
    races: tuple[Race, ...] = ()
    schema: int = SCHEMA

    def row(self, id: str) -> Row:  # noqa: A002 - what the field is called
        """Return a row by its id."""
        return next(row for row in self.rows if row.id == id)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows that could not be made."""
        return tuple(row for row in self.rows if row.status == FAILED)


def save_bench(folder: Path, bench: Bench) -> Path:
    """Write `bench.json` by rename and return its path; do it last, it marks a complete bench."""
    path = folder / FILE_NAME
    write_record(path, to_plain(bench), indent=1)
    return path


def load_bench(folder: Path) -> Bench:
    """Read a bench.

    Raises
    ------
    DataError
        There is none, or it is not what `save_bench` writes; the message has the path.
    """
    return read_record(
        folder / FILE_NAME, "a bench", partial(from_plain, Bench),
        schema=SCHEMA, absent="the bench did not finish",
    )  # fmt: skip


def newest_bench(benches: Path) -> Bench | None:
    """Return the newest complete bench of a folder, or None; damaged ones are passed over."""
    for path in sorted(benches.glob(f"*/{FILE_NAME}"), reverse=True):
        try:
            return load_bench(path.parent)
        except DataError:
            continue
    return None
