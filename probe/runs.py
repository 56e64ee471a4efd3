"""A run's folder: the fitted head, the pictures, and `result.json` last of all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from probe.errors import UsageError
from probe.heads import save_head
from probe.report.confusion import draw_confusion
from probe.report.curves import draw_curves
from probe.results import new_run_folder, write_run
from probe.selection import HeadRun

if TYPE_CHECKING:
    from probe.heads import LinearHead

HEAD, CURVES, CONFUSION = "head.safetensors", "curves.png", "confusion.png"


def claim_folder(wanted: Path | None, runs: Path) -> Path:
    """Return an empty folder for a run: the one asked for, or a new one among the runs.

    Raises
    ------
    UsageError
        The folder asked for holds something, or cannot be made. Nothing is overwritten.
    """
    try:
        if wanted is None:
            return new_run_folder(runs)
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise UsageError(f"--out {wanted}: the folder is not empty; name another one")
    except OSError as error:
        place = runs if wanted is None else wanted
        raise UsageError(
            f"{place}: cannot be written ({error.strerror}); name another folder with --out"
        ) from error
    return wanted


def keep_run(folder: Path, run: HeadRun, classes: tuple[str, ...]) -> None:
    """Write everything a run leaves behind; `result.json` comes last and marks it complete."""
    save_head(cast("LinearHead", run.head), folder / HEAD)
    result, split = run.result, run.result.per_class.split
    about = f"{result.backbone} {result.layer} on {result.dataset}, {result.head} head"
    draw_confusion(
        run.metrics[split].confusion, classes, folder / CONFUSION, title=f"{about}: {split}"
    )
    history = getattr(run.head, "history_", [])
    if history:  # a solver without epochs has no curve to show
        draw_curves(history, folder / CURVES, title=about)
    write_run(folder, result)
