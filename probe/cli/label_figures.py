"""What `probe head` prints of a run whose images may have several labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from probe.runs.results import RunResult

NAMES = {
    "map": "mAP",
    "micro_f1": "micro F1 at 0.5",
    "macro_f1": "macro F1 at 0.5",
    "micro_f1_chosen": "micro F1 at chosen thresholds",
    "macro_f1_chosen": "macro F1 at chosen thresholds",
    "subset_accuracy": "all labels of an image right",
    "hamming_loss": "decisions that are wrong",
    "macro_auc": "macro AUC",
    "log_loss": "log loss a decision",
    "calibration_error": "calibration error",
    "calibration_error_scaled": "after temperature scaling",
}
LOWEST = 20  # labels listed where there are more


def show_labels(out: Console, result: RunResult, classes: tuple[str, ...]) -> None:
    """Print the figures, a column a split, then the labels, a row each."""
    from probe.cli import console
    from probe.cli.head_figures import about_run, show_metrics

    assert result.multilabel is not None
    show_metrics(out, result, NAMES)
    about = about_run(result)
    for split, names in result.multilabel["without_positives"].items():
        about[f"not in {split}"] = f"{_some(names)}: left out of means over labels there"
    if about:
        out.print()
        console.facts(out, about)
    out.print()
    show_each(out, result.multilabel["classes"], classes, result.per_class.split)


def show_each(
    out: Console, figures: Mapping[str, Mapping[str, Any]], classes: tuple[str, ...], split: str
) -> None:
    """Print a row a label; of many those with the lowest average precision."""
    from probe.cli import console

    shown, title = list(classes), f"label, on {split}"
    if len(shown) > LOWEST:
        shown = sorted(shown, key=lambda name: figures[name].get("average_precision", 2.0))[:LOWEST]
        title += f" (the {LOWEST} lowest of {len(classes)})"
    rows = []
    for name in shown:
        one = figures[name]
        values = [one.get(each) for each in ("average_precision", "precision", "recall", "f1")]
        percent = ["-" if value is None else f"{100 * value:.1f} %" for value in values]
        rows.append([name, f"{one['positives']:,}", percent[0], f"{one['threshold']:.2f}",
                     *percent[1:]])  # fmt: skip
    header = [title, "images", "AP", "threshold", "precision", "recall", "F1"]
    console.table(out, header, rows, right=range(1, len(header)))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
