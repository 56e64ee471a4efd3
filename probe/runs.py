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
from probe.ledger import record_look
from probe.parts import Part, SplitPlan, plan_splits
from probe.predictions import save_predictions
from probe.report.confusion import draw_confusion
from probe.report.curves import draw_curves
from probe.results import FeatureSource, new_run_folder, write_run
from probe.selection import HeadRun, Search, run_head
from probe.splitting import fold_split

if TYPE_CHECKING:
    from probe.heads import Epoch, LinearHead

HEAD, CURVES, CONFUSION = "head.safetensors", "curves.png", "confusion.png"
TRAIN_HEAD, FOLD_HEAD = "head-train.safetensors", "head-fold{:02d}.safetensors"


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
    grid : bool
        Choose the penalty from the solver's grid, on validation rows or by folds.
    folds, repeats : int
        Choose by so many folds, so often; 0 folds choose on validation rows.
    groups : mapping of id to group, optional
        Rows of one group are held out together.
    refit : bool, optional
        Fit once more on train and val after choosing. Default: where there is a grid.
    seed : int
        Of the split, and of the head where there is chance in it.
    command : str
        What was typed; recorded.
    """

    solver: str = "dense"
    params: Mapping[str, Any] = field(default_factory=dict)
    val_size: float = 0.3
    grid: bool = False
    folds: int = 0
    repeats: int = 1
    groups: Mapping[str, str] | None = None
    refit: bool | None = None
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

    def search(self, train: Part) -> Search | None:
        """Return what is to be chosen and how, for these training rows.

        Raises
        ------
        UsageError
            The solver has no grid, there are too few rows for the folds, or a row has no group.
        """
        if self.groups is not None and not self.folds:
            raise UsageError("--groups keeps groups on one side of a fold: add --folds")
        if not self.grid:
            if self.folds:
                raise UsageError("--folds is for choosing: add --C grid, --alpha grid or --lr grid")
            return None
        from probe.heads.grid import default_grid

        penalty, values = default_grid(self.solver)
        if not self.folds:
            return Search(penalty=penalty, grid=values)
        folds = fold_split(
            train.y, self.folds, self.seed, repeats=self.repeats, groups=self._groups(train)
        )
        return Search(penalty=penalty, grid=values, folds=folds)

    def _groups(self, train: Part) -> list[str] | None:
        if self.groups is None:
            return None
        lacking = [one for one in train.ids if one not in self.groups]
        if lacking:
            raise UsageError(f"--groups: {len(lacking)} rows have no group; first {lacking[0]!r}")
        return [self.groups[one] for one in train.ids]


def plan_head(joined: Joined, request: HeadRequest) -> SplitPlan:
    """Decide which rows a head is trained, watched and tested on; see `plan_splits`."""
    labels = {name: split.labels for name, split in joined.splits.items()}
    val_size = 0.0 if request.folds else request.val_size  # the folds hold rows out in turn
    return plan_splits(labels, val_size=val_size, seed=request.seed)


def fit_head(
    joined: Joined,
    request: HeadRequest,
    plan: SplitPlan,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    ledger: Path | None = None,
) -> HeadRun:
    """Fit and score a head on the features of an entry; maps are flattened to rows.

    Parameters
    ----------
    ledger : Path, optional
        The folder where a look at the test rows is written down first.

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
    data = plan.apply(parts, entry.classes)

    def look() -> int:
        content = joined.splits["test"].content
        assert ledger is not None
        return record_look(ledger, content, command=request.command, entry=entry.name)

    return run_head(
        data,
        request.estimator(),
        search=request.search(data.train),
        refit=request.grid if request.refit is None else request.refit,
        before_test=look if ledger is not None and "test" in joined.splits else None,
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
    if run.train_head is not run.head:
        save_head(cast("LinearHead", run.train_head), folder / TRAIN_HEAD)
    for number, head in enumerate(run.choice.heads if run.choice else (), start=1):
        if run.choice and len(run.choice.heads) > 1:
            save_head(head, folder / FOLD_HEAD.format(number))
    save_predictions(folder, run.predictions)
    result, split = run.result, run.result.per_class.split
    about = f"{result.backbone} {result.layer} on {result.dataset}, {result.head} head"
    matrix = run.metrics[split].confusion
    draw_confusion(matrix, classes, folder / CONFUSION, title=f"{about}: {split}")
    history = getattr(run.head, "history_", [])
    if history:  # a solver without epochs has no curve to show
        draw_curves(history, folder / CURVES, title=about)
    write_run(folder, result)
