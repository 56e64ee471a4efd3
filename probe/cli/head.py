"""`probe head`: fit a head on a cache entry and show its figures.

Its options are its own, and those that the heads of the catalog declare.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer

from probe.cli import complete
from probe.cli.options import (
    TWO,
    AsJson,
    CacheDir,
    Entry,
    Group,
    LogTo,
    MaxMemory,
    MetricName,
    Positive,
    Seed,
    cache_folder,
)
from probe.cli.pass_options import SchedulerName
from probe.core.urls import typed_command
from probe.heads.catalog import HEADS, names_that, owners
from probe.heads.spec import Option, PowersOfTen

CHOOSING, CURVE = "Choosing, and how sure it is", "Learning curve"

Solver = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="NAME", autocompletion=complete.heads,
        help="{heads}.",
        show_default="path with its grid, or the head that an option such as --epochs belongs to",
    ),
]  # fmt: skip
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1,
        help="{one_by_one}: fits at a time, one thread each.",
        show_default="all cores",
    ),
]  # fmt: skip
Out = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="CACHE/runs/ID")]

ValSize = Annotated[
    float | None,
    typer.Option(
        min=0, rich_help_panel=CHOOSING,
        help="Part of the training rows held out, a fraction or a number; 0 trains on all.",
        show_default="0.3; 0 with --folds",
    ),
]  # fmt: skip
Folds = Annotated[
    int,
    typer.Option(
        min=0, rich_help_panel=CHOOSING,
        help="Choose, or only measure, by so many stratified folds instead of validation rows.",
    ),
]  # fmt: skip
Repeats = Annotated[
    int, typer.Option(min=1, rich_help_panel=CHOOSING, help="Draw the folds so many times.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=CHOOSING,
        help="{seeded}: fit each candidate with so many seeds, and choose by the mean.",
        show_default="one, that of --seed",
    ),
]  # fmt: skip
Metric = Annotated[
    MetricName,
    typer.Option(
        rich_help_panel=CHOOSING,
        help="What a choice among several values goes by. Of those within one standard error of "
        "the best top-1, the one with the lowest calibrated log loss is taken.",
    ),
]
SampleWeight = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="{takes_weights}: a column of the table with what each image counts in "
        "the fit, from 0. Choices, temperature and figures count every image once.",
        show_default="all count alike",
    ),
]
Refit = Annotated[
    bool | None,
    typer.Option(
        "--refit/--no-refit", rich_help_panel=CHOOSING,
        help="Fit again on train + val at the end; test is that head's.",
        show_default="where something was chosen, from 20 images a class on",
    ),
]  # fmt: skip
Ensemble = Annotated[
    Literal["average", "vote"] | None,
    typer.Option(
        rich_help_panel=CHOOSING,
        help="The final head is those of all folds together.",
    ),
]

Recall = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=TWO,
        help="Choose the highest threshold that finds this share of the positive class, as 0.95, "
        "at a confidence of 95 % by held-out rows; the bundle answers by it.",
        show_default="what is more probable",
    ),
]

Cost = Annotated[
    str | None,
    typer.Option(
        metavar="FP:FN", rich_help_panel=TWO,
        help="What a false positive and a false negative cost, as 1:5: choose the threshold whose "
        "answers cost least on held-out rows; the bundle answers by it. Not with --recall.",
    ),
]  # fmt: skip

Curve = Annotated[
    str | None,
    typer.Option(
        "--learning-curve", metavar="5,10,20", rich_help_panel=CURVE,
        help="Images a class, as 5,10,20,50,100: fit on draws of so many too; where a grid was "
        "given, each draw chooses by folds of its own, or has the default where it is too small.",
    ),
]  # fmt: skip
Draws = Annotated[
    int | None,
    typer.Option(
        min=1,
        rich_help_panel=CURVE,
        help="Draws of each size of the learning curve.",
        show_default="5",
    ),
]


class WithHeadOptions:
    """A command that takes the options of all heads besides its own; they reach it as `given`.

    Its signature is read when the command line is put together, so that a head that is new in the
    catalog is there without a line of code.

    Parameters
    ----------
    command : callable
        It has a parameter `given`: a mapping of `Option.name` to what was typed, None where
        nothing was.
    """

    def __init__(self, command: Callable[..., None]) -> None:
        self._command = command
        self.__name__, self.__doc__ = command.__name__, command.__doc__

    def __call__(self, **values: Any) -> None:
        """Run the command."""
        given = {key: values.pop(key, None) for key in _keys()}
        self._command(**values, given=given)

    @property
    def __signature__(self) -> inspect.Signature:
        hints = get_type_hints(self._command, include_extras=True)
        own = [
            one.replace(annotation=_filled(hints[name]))
            for name, one in inspect.signature(self._command).parameters.items()
            if name != "given"
        ]
        return inspect.Signature([*own, *map(_parameter, _keys())])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: one.annotation for name, one in self.__signature__.parameters.items()}


ABLE = ("one_by_one", "seeded", "takes_weights")  # what stands in braces in a help text


def _filled(hint: Any) -> Any:
    """Return an option whose help names the heads there are now, where it has words in braces."""
    typed, *said = get_args(hint)
    if not (said and isinstance(said[0].help, str) and "{" in said[0].help):
        return hint
    names = {able: names_that(able) for able in ABLE}
    names["heads"] = "; ".join(f"{name}: {spec.summary}" for name, spec in HEADS.items())
    info = copy(said[0])
    info.help = info.help.format(**names)
    return Annotated[typed, info]


def _keys() -> list[str]:
    return list(dict.fromkeys(one.name for spec in HEADS.values() for one in spec.options))


def _parameter(key: str) -> inspect.Parameter:
    """Return an option as a parameter of the command, from all that heads declare of it."""
    declared = owners(key)
    first = declared[0][1]
    names = [spec.name for spec, _ in declared]
    panel = None if len(names) == len(HEADS) else "--head " + ", ".join(names)
    typed: Any = str if first.grid is not None else first.kind
    if first.choices:
        typed = Literal[tuple(first.choices)]
    info = typer.Option(
        first.spelled,
        *([first.short] if first.short else []),
        help=_shared([(name, _help(one)) for name, (_, one) in zip(names, declared, strict=True)]),
        show_default=_shared([(spec.name, one.default) for spec, one in declared]) or False,
        rich_help_panel=panel,
        min=first.low if first.kind is int and first.grid is None else None,
    )
    return inspect.Parameter(
        key,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[typed | None, info],
    )


def _help(option: Option) -> str:
    """Return the sentence of ``--help``, with what several values do."""
    if option.grid is None:
        return option.help
    grid = option.grid
    values = str(len(grid))
    if not isinstance(grid, PowersOfTen):
        values = ", ".join(f"{one:g}" for one in grid)
    return f"{option.help}; several with commas, or `grid` for {values}: the best is taken."


def _shared(texts: list[tuple[str, str]]) -> str:
    """Return what heads say of an option, each once: "20 for knn, else 10"."""
    counts = Counter(text for _, text in texts)
    usual = counts.most_common(1)[0][0]
    others = [f"{text} for {name}" for name, text in texts if text != usual]
    return ", ".join([*others, f"else {usual}"]) if others else usual


@WithHeadOptions
def head(
    *,
    entry: Entry = None,
    solver: Solver = None,
    jobs: Jobs = None,
    scheduler: SchedulerName = None,
    max_memory: MaxMemory = None,
    seed: Seed = 42,
    out: Out = None,
    log: LogTo = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
    val_size: ValSize = None,
    folds: Folds = 0,
    repeats: Repeats = 1,
    group: Group = None,
    metric: Metric = "top1",
    sample_weight: SampleWeight = None,
    seeds: Seeds = None,
    refit: Refit = None,
    ensemble: Ensemble = None,
    positive: Positive = None,
    recall: Recall = None,
    cost: Cost = None,
    learning_curve: Curve = None,
    draws: Draws = None,
    given: Mapping[str, Any],
) -> None:
    """Fit a head on cached features: seconds, no image is read.

    Validation is the dataset's own, or else a stratified part of the training rows. The test split,
    where there is one, is scored once, at the end; where nothing is held out, the heads of a
    learning curve are scored on it too. Each evaluation on test rows is counted.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.cli.head_figures import show
    from probe.runs.fit import HeadRequest
    from probe.runs.listeners import listeners_of
    from probe.screen import console
    from probe.screen.heads import fit_named

    listeners = listeners_of(log)
    request = HeadRequest.of(
        head=solver, options=given, val_size=val_size, seeds=seeds, folds=folds, repeats=repeats,
        refit=refit, ensemble=ensemble, jobs=jobs, max_memory=max_memory,
        learning_curve=learning_curve, draws=draws, metric=metric, sample_weight=sample_weight,
        positive=positive, recall=recall, cost=cost, seed=seed,
        command=typed_command(),
    )  # fmt: skip
    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    run, path = fit_named(
        joined, request, group=group, jobs=jobs, scheduler=scheduler, cache_dir=folder,
        folder=out, listeners=listeners,
    )  # fmt: skip
    if as_json:
        console.print_json({"run": str(path), **run.result.to_dict()})
    else:
        show(run, path, joined.entry.classes, cache_dir=folder)
