"""`probe head`: fit a head on an entry and look at it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson, CacheDir, Seed, cache_folder
from probe.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from probe.cache.store import Joined
    from probe.heads import Epoch
    from probe.runs import HeadRequest
    from probe.selection import HeadRun

SOLVER_OPTIONS = {
    "dense": ("epochs", "batch_size", "optimizer", "lr", "wd", "momentum"),
    "logistic": ("C", "max_iter"),
    "path": ("C", "max_iter"),
    "ridge": ("alpha",),
    "prototype": ("distance", "shrinkage"),
}
GRID = ("grid", "auto")  # what --C, --alpha and --lr take besides a number


def head(
    entry: Annotated[
        str | None,
        typer.Argument(help="A cache entry or the start of its name.", show_default="the newest"),
    ] = None,
    solver: Annotated[
        str,
        typer.Option(
            help="dense (a Gluon layer), path (logistic regression, fast), logistic "
            "(scikit-learn's), ridge or prototype."
        ),
    ] = "dense",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="dense: passes over the training rows.", show_default="50"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", "-b", min=1, help="dense: rows a step.", show_default="256"),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="dense: adam or sgd.", show_default="adam")
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="dense: step size, or `grid`: the best of 13, trained at once.",
            show_default="0.001 for adam, 0.01 for sgd",
        ),
    ] = None,
    wd: Annotated[
        float | None, typer.Option(help="dense: weight decay, not on biases.", show_default="0")
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="dense: of sgd.", show_default="0.9")
    ] = None,
    c: Annotated[
        str | None,
        typer.Option(
            "--C",
            help="path, logistic: inverse of the L2 penalty, or `grid`: the best of 45.",
            show_default="0.01",
        ),
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            help="ridge: the L2 penalty a row, or `grid`: the best of 33.", show_default="0.1"
        ),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(help="prototype: lda or mean.", show_default="lda")
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(help="prototype: of lda's covariance, 0 to 1.", show_default="0.1"),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(min=0, help="Choose by so many stratified folds, not on validation rows."),
    ] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Draw the folds so many times.")] = 1,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="CSV of `id,group`: rows of a group stay on one side of a fold.",
            dir_okay=False,
            exists=True,
        ),
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            help="Fit again on train + val at the end; test is that head's.",
            show_default="where a grid was searched",
        ),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(
            min=1, help="path, logistic: at most so many iterations.", show_default="300, 1000"
        ),
    ] = None,
    normalize: Annotated[
        str, typer.Option(help="standard, l2 or none; learnt from training rows only.")
    ] = "standard",
    val_size: Annotated[
        float,
        typer.Option(
            min=0,
            help="Part of the training rows held out, a fraction or a number; 0 trains on all.",
        ),
    ] = 0.3,
    seed: Seed = 42,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="CACHE/runs/ID")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Fit a head on cached features: seconds, no image is read.

    Validation is the dataset's own, or else a stratified part of the training rows. The test split,
    where there is one, is scored once, at the end.
    """
    from probe.cache.store import Store, join
    from probe.cli import console
    from probe.cli.head_figures import show
    from probe.runs import HeadRequest

    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": _penalty("--lr", lr),
        "wd": wd,
        "momentum": momentum,
        "C": _penalty("--C", c),
        "alpha": _penalty("--alpha", alpha),
        "max_iter": max_iter,
        "distance": distance,
        "shrinkage": shrinkage,
    }
    params = _params(solver, {name: value for name, value in given.items() if value is not None})
    searched = [name for name, value in params.items() if value == GRID[0]]
    request = HeadRequest(
        solver=solver,
        params={n: v for n, v in params.items() if n not in searched} | {"normalize": normalize},
        val_size=val_size,
        grid=bool(searched),
        folds=folds,
        repeats=repeats,
        groups=_read_groups(groups) if groups else None,
        refit=refit,
        seed=seed,
        command="probe " + shlex.join(sys.argv[1:]),
    )
    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    run, path = fit(
        joined, request, folder=out, runs=folder / "runs", ledger=folder / "ledger", quiet=as_json
    )
    if as_json:
        console.print_json(run.result.to_dict())
    else:
        show(run, path, joined.entry.classes)


def _params(solver: str, given: dict[str, Any]) -> dict[str, Any]:
    from probe.heads import HEADS

    name = HEADS[solver].name  # an unknown one says which there are
    for option in given:
        if option not in SOLVER_OPTIONS[name]:
            owners = [one for one, options in SOLVER_OPTIONS.items() if option in options]
            raise UsageError(
                f"--{option.replace('_', '-')} belongs to --solver {' or '.join(owners)}; "
                f"leave it out with {solver}"
            )
    return given


def _penalty(option: str, text: str | None) -> float | str | None:
    """Return a number, or the word for a grid."""
    if text is None:
        return None
    if text in GRID:
        return GRID[0]
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {text}: give a number above 0, or `grid`") from None


def _read_groups(path: Path) -> dict[str, str]:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise UsageError(f"--groups {path}: line {number} is not `id,group`")
    return {one: group for one, group in rows}  # noqa: C416  # two columns, checked


def fit(
    joined: Joined,
    request: HeadRequest,
    *,
    folder: Path | None,
    runs: Path,
    ledger: Path | None = None,
    quiet: bool,
) -> tuple[HeadRun, Path]:
    """Fit, score and keep a head; tell stderr about it unless `quiet`."""
    from probe.cli import console
    from probe.runs import fit_head, keep_run, plan_head, run_folder

    plan, estimator, err = plan_head(joined, request), request.estimator(), console.stderr()
    if not quiet:
        name = joined.entry.name
        others = sorted(set(joined.sources.values()) - {name})
        params = {k: v for k, v in estimator.get_params().items() if v is not None}
        if request.grid:
            from probe.heads.grid import default_grid

            penalty, values = default_grid(request.solver)
            params[penalty] = f"the best of {len(values)}"
        facts = {
            "entry": name + (f", joined with {', '.join(others)}" if others else ""),
            "head": f"{request.solver}, " + ", ".join(f"{k} {v}" for k, v in params.items()),
            "rows": plan.why,
        }
        console.facts(err, facts)
    with run_folder(folder, runs) as target:
        on_epoch = None if quiet else _EpochTable(err)
        run = fit_head(joined, request, plan, on_epoch=on_epoch, ledger=ledger)
        keep_run(target, run, joined.entry.classes)
    return run, target


class _EpochTable:
    """One line an epoch: loss and accuracy on the training and the validation rows."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, epoch: Epoch) -> None:
        if epoch.epoch == 1:
            watched = "   val loss  val top-1" if epoch.val_loss is not None else ""
            self._console.print(f"epoch      loss      top-1{watched}", style="bold cyan")
        line = f"{epoch.epoch:>5}  {epoch.train_loss:>8.4f}  {100 * epoch.train_top1:>7.2f} %"
        if epoch.val_loss is not None and epoch.val_top1 is not None:
            line += f"   {epoch.val_loss:>8.4f}  {100 * epoch.val_top1:>7.2f} %"
        self._console.print(line)
