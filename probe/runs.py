"""A run: a head fitted on an entry, and the folder with all that it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from probe.cache.store import Joined
from probe.errors import UsageError
from probe.heads import HEADS, save_head
from probe.report.confusion import draw_confusion
from probe.report.curves import draw_curves
from probe.results import FeatureSource, new_run_folder, write_run
from probe.selection import HeadRun, Part, SplitPlan, plan_splits, run_head

if TYPE_CHECKING:
    from probe.heads import Epoch, LinearHead

HEAD, CURVES, CONFUSION = "head.safetensors", "curves.png", "confusion.png"


@dataclass(frozen=True, kw_only=True)
class HeadRequest:
    """What `probe head` was asked for.

    Parameters
    ----------
    solver : str
        A name in the catalog of heads.
    params : mapping
        Of the estimator, those that were named.
    val_size : float
        See `plan_splits`.
    seed : int
        Of the split, and of the head where there is chance in it.
    command : str
        What was typed; recorded.
    """

    solver: str = "dense"
    params: Mapping[str, Any] = field(default_factory=dict)
    val_size: float = 0.3
    seed: int = 42
    command: str = ""

    def estimator(self) -> LinearHead:
        """Return the unfitted head.

        Raises
        ------
        UnknownNameError
            There is no such solver; the message lists those that there are.
        """
        head = HEADS[self.solver].load()(**self.params)
        if "random_state" in head.get_params():
            head.set_params(random_state=self.seed)
        return head


def plan_head(joined: Joined, request: HeadRequest) -> SplitPlan:
    """Decide which rows a head is trained, watched and tested on; see `plan_splits`."""
    labels = {name: split.labels for name, split in joined.splits.items()}
    return plan_splits(labels, val_size=request.val_size, seed=request.seed)


def fit_head(
    joined: Joined,
    request: HeadRequest,
    plan: SplitPlan,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> HeadRun:
    """Fit and score a head on the features of an entry; maps are flattened to rows.

    Raises
    ------
    HeadError
        A parameter makes no sense, or the head cannot be fitted on these rows.
    CorruptEntryError
        Rows of the entry do not match their checksum.
    """
    entry, key = joined.entry, joined.entry.key
    parts = {
        name: Part(X=split.features.reshape(len(split), -1), y=split.labels, ids=split.ids)
        for name, split in joined.splits.items()
    }
    return run_head(
        plan.apply(parts, entry.classes),
        request.estimator(),
        name=request.solver,
        source=FeatureSource(
            entry=entry.name,
            dataset=entry.dataset,
            backbone=key.backbone,
            weights=str(entry.provenance.get("weights", "")),
            layer=key.layer,
            pool=key.pool,
        ),
        command=request.command,
        seed=request.seed,
        on_epoch=on_epoch,
    )


@contextmanager
def run_folder(wanted: Path | None, runs: Path) -> Iterator[Path]:
    """Yield an empty folder: the one asked for, or a new one among the runs.

    If the run fails before it left anything there, the folder goes.

    Raises
    ------
    UsageError
        The folder asked for holds something, or cannot be made. Nothing is overwritten.
    """
    folder = _claim(wanted, runs)
    try:
        yield folder
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise


def _claim(wanted: Path | None, runs: Path) -> Path:
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
    matrix = run.metrics[split].confusion
    draw_confusion(matrix, classes, folder / CONFUSION, title=f"{about}: {split}")
    history = getattr(run.head, "history_", [])
    if history:  # a solver without epochs has no curve to show
        draw_curves(history, folder / CURVES, title=about)
    write_run(folder, result)
