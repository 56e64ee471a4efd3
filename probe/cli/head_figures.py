"""What `probe head` prints of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from probe.learning_curve import LearningCurve
    from probe.results import RunResult
    from probe.selection import HeadRun

NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_recall": "mean recall",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "log_loss": "log loss",
    "calibration_error": "calib. error",
    "calibration_error_scaled": "after scaling",
}
WORST = 20  # classes listed where there are more


def show(run: HeadRun, folder: Path, classes: tuple[str, ...]) -> None:
    """Print the figures of a run, split by split and class by class, and where it is kept."""
    from probe.cli import console

    out, result = console.stdout(), run.result
    counts = {"train": result.n_train, "val": result.n_val, "test": result.n_test}
    counts["oof"] = result.n_train  # each by the heads of the folds that did not see it
    used = [name for name in NAMES if any(name in figures for figures in result.metrics.values())]
    rows = [
        [split, f"{counts[split]:,}"]
        + [_figure(name, figures[name]) if name in figures else "-" for name in used]
        for split, figures in result.metrics.items()
    ]
    right = range(1, len(used) + 2)
    console.table(out, ["split", "images", *(NAMES[name] for name in used)], rows, right=right)
    about = _about(result)
    if about:
        out.print()
        console.facts(out, about)
    recall = result.per_class.recall
    shown = [name for name in classes if name in recall]
    title = f"recall on {result.per_class.split}"
    if len(shown) > WORST:
        shown = sorted(shown, key=lambda name: recall[name])[:WORST]
        title += f", the {WORST} worst of {len(recall)}"
    out.print()
    console.table(
        out, ["class", title], [[name, f"{100 * recall[name]:.1f} %"] for name in shown], right=(1,)
    )
    if run.curve is not None:
        out.print()
        _show_curve(out, run.curve)
    out.print()
    files = sorted(path.name for path in folder.iterdir())
    console.facts(
        out,
        {
            "fitted": f"in {console.duration(result.seconds)}",
            "run": f"{folder}: {', '.join(files)}",
        },
    )


def _show_curve(out: Console, curve: LearningCurve) -> None:
    from probe.cli import console

    recalls = curve.bands("mean_recall")
    rows = []
    for count, top1 in curve.bands().items():
        points = [point for point in curve.points if point.per_class == count]
        band = f" ± {100 * top1.deviation:.2f}" if top1.count > 1 else ""
        rows.append(
            [
                f"{count:,}", f"{points[0].n_train:,}", f"{100 * top1.mean:.2f}{band} %",
                f"{100 * recalls[count].mean:.2f} %",
            ]
        )  # fmt: skip
    header = ["images a class", "images", f"top-1 on {curve.split}", "mean recall"]
    console.table(out, header, rows, right=(0, 1, 2, 3))


def _about(result: RunResult) -> dict[str, str]:
    """Return how the penalty was chosen, how sure the accuracy is, and how often test was seen."""
    about = {}
    if chosen := result.selection:
        how = f"{chosen['fits']} folds" if chosen["by"] == "folds" else "validation"
        best = max(chosen["top1"])
        also = "".join(f", {k} {v:.3g}" for k, v in chosen.get("also_chosen", {}).items())
        about["chosen"] = (
            f"{chosen['penalty']} {chosen['chosen']:.3g}{also} of {len(chosen['values'])} by {how} "
            f"(top-1 {100 * best:.2f} %)" + (", refit on train + val" if chosen["refit"] else "")
        )
        if "seeds" in chosen:
            spread = chosen["top1_seed_deviation"][chosen["top1"].index(best)]
            about["seeds"] = (
                f"top-1 varies by {100 * spread:.2f} points (standard deviation) over "
                f"{chosen['seeds']} seeds"
            )
        if "overflowed" in chosen:
            about["left out"] = f"{len(chosen['overflowed'])} candidates that overflowed"
    if ensemble := result.params.get("ensemble"):
        about["ensemble"] = f"test is the {ensemble} of the heads of all folds"
    if result.intervals and result.per_class.split in result.intervals:
        low, high = result.intervals[result.per_class.split]["top1"]
        about["interval"] = (
            f"top-1 on {result.per_class.split}: {100 * low:.2f} to {100 * high:.2f} % "
            "(95 %, bootstrap over its rows)"
        )
    if result.test_looks:
        about["looks"] = f"this was look {result.test_looks} at these test rows"
    return about


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "log_loss" else f"{100 * value:.2f} %"
