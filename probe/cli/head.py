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
}


def head(
    entry: Annotated[
        str | None,
        typer.Argument(help="A cache entry or the start of its name.", show_default="the newest"),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="dense (a Gluon layer) or logistic (scikit-learn).")
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
        float | None,
        typer.Option(help="dense: step size.", show_default="0.001 for adam, 0.01 for sgd"),
    ] = None,
    wd: Annotated[
        float | None, typer.Option(help="dense: weight decay, not on biases.", show_default="0")
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="dense: of sgd.", show_default="0.9")
    ] = None,
    c: Annotated[
        float | None,
        typer.Option("--C", help="logistic: inverse of the L2 penalty.", show_default="0.01"),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(min=1, help="logistic: at most so many iterations.", show_default="1000"),
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
    from probe.runs import HeadRequest

    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "wd": wd,
        "momentum": momentum,
        "C": c,
        "max_iter": max_iter,
    }
    params = _params(solver, {name: value for name, value in given.items() if value is not None})
    request = HeadRequest(
        solver=solver,
        params={**params, "normalize": normalize},
        val_size=val_size,
        seed=seed,
        command="probe " + shlex.join(sys.argv[1:]),
    )
    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    run, path = fit(joined, request, folder=out, runs=folder / "runs", quiet=as_json)
    if as_json:
        console.print_json(run.result.to_dict())
    else:
        show(run, path, joined.entry.classes)


def _params(solver: str, given: dict[str, Any]) -> dict[str, Any]:
    from probe.heads import HEADS

    name = HEADS[solver].name  # an unknown one says which there are
    for option in given:
        if option not in SOLVER_OPTIONS[name]:
            owner = next(one for one, options in SOLVER_OPTIONS.items() if option in options)
            raise UsageError(
                f"--{option.replace('_', '-')} belongs to --solver {owner}; "
                f"leave it out with {solver}"
            )
    return given


def fit(
    joined: Joined, request: HeadRequest, *, folder: Path | None, runs: Path, quiet: bool
) -> tuple[HeadRun, Path]:
    """Fit, score and keep a head; tell stderr about it unless `quiet`."""
    from probe.cli import console
    from probe.runs import fit_head, keep_run, plan_head, run_folder

    plan, estimator, err = plan_head(joined, request), request.estimator(), console.stderr()
    if not quiet:
        name = joined.entry.name
        others = sorted(set(joined.sources.values()) - {name})
        params = {k: v for k, v in estimator.get_params().items() if v is not None}
        facts = {
            "entry": name + (f", joined with {', '.join(others)}" if others else ""),
            "head": f"{request.solver}, " + ", ".join(f"{k} {v}" for k, v in params.items()),
            "rows": plan.why,
        }
        console.facts(err, facts)
    with run_folder(folder, runs) as target:
        run = fit_head(joined, request, plan, on_epoch=None if quiet else _EpochTable(err))
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


WORST = 20  # classes listed where there are more


def show(run: HeadRun, folder: Path, classes: tuple[str, ...]) -> None:
    """Print the figures of a run, split by split and class by class, and where it is kept."""
    from probe.cli import console

    out, result = console.stdout(), run.result
    counts = {"train": result.n_train, "val": result.n_val, "test": result.n_test}
    names = {"top1": "top-1", "top5": "top-5", "mean_recall": "mean recall", "log_loss": "log loss"}
    used = [name for name in names if any(name in figures for figures in result.metrics.values())]
    rows = [
        [split, f"{counts[split]:,}"]
        + [_figure(name, figures[name]) if name in figures else "-" for name in used]
        for split, figures in result.metrics.items()
    ]
    right = range(1, len(used) + 2)
    console.table(out, ["split", "images", *(names[name] for name in used)], rows, right=right)
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
    out.print()
    files = sorted(path.name for path in folder.iterdir())
    console.facts(
        out,
        {
            "fitted": f"in {console.duration(result.seconds)}",
            "run": f"{folder}: {', '.join(files)}",
        },
    )


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "log_loss" else f"{100 * value:.2f} %"
