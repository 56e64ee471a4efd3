"""Write `results.csv` in long form: one line for each leaderboard row, split and metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from probe.bench.record import TABLE_NAME, Bench, Comparison, Cost, Row
from probe.core.sheets import write_sheet

COLUMNS = (
    "bench", "dataset", "name", "kind", "backbone", "weights", "size", "layer", "pool", "pca",
    "head", "split", "metric_name", "metric_value", "ci_lower", "ci_upper", "feature_dim", "best_c",
    "n_train", "n_val", "n_test", "seed", "seconds", "rank", "letters", "tied", "entry", "run",
)  # fmt: skip

Line = dict[str, object]


def write_table(folder: Path, bench: Bench) -> Path:
    """Write `results.csv` by rename and return its path.

    What was not measured is empty. Costs have no split; scores without training have the split
    ``train`` and no head.
    """
    path = folder / TABLE_NAME
    write_sheet(path, COLUMNS, lines(bench))
    return path


def lines(bench: Bench) -> Iterator[Line]:
    """Yield the lines of the table."""
    comparisons = {one.dataset: one for one in bench.comparisons}
    for row in bench.rows:
        about = _about(bench, row, comparisons.get(row.dataset))
        for split, figures in row.metrics.items():
            for name, value in figures.items():
                low, high = row.intervals.get(split, {}).get(name, ("", ""))
                yield {
                    **about, "split": split, "metric_name": name, "metric_value": value,
                    "ci_lower": low, "ci_upper": high,
                }  # fmt: skip
        for field in fields(Cost):
            cost = getattr(row.cost, field.name)
            if isinstance(cost, int | float):
                yield {**about, "metric_name": field.name, "metric_value": cost}
    for comparison in bench.comparisons:
        for score in comparison.scores:
            wanted = (comparison.dataset, score.features)
            row = next(one for one in bench.rows if (one.dataset, one.name) == wanted)
            about = _about(bench, row, None)
            own = {word: about[word] for word in COLUMNS[: COLUMNS.index("head")]}
            yield {
                **own, "dataset": comparison.dataset, "split": "train", "metric_name": score.name,
                "metric_value": score.value, "n_train": score.n_rows, "seconds": score.seconds,
                "seed": bench.protocol.seed, "feature_dim": about["feature_dim"],
            }  # fmt: skip


def _about(bench: Bench, row: Row, comparison: Comparison | None) -> Line:
    plain: Line = {
        "bench": bench.id,
        "entry": "+".join(row.entries),
        "best_c": row.best,
        "seed": bench.protocol.seed,
        "seconds": row.cost.head_seconds,
        "tied": int(row.id in comparison.tied) if comparison and row.rank else None,
    }
    plain |= {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
    return {name: "" if value is None else value for name, value in plain.items()}
