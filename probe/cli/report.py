"""`probe report`: write one HTML page about a bench or some runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.core.options import words
from probe.core.text import counted
from probe.core.urls import typed_command
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.bench.record import Bench
    from probe.report.material import Material


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs: their names, the beginnings of them, or folders. Or an entry: all runs on "
            "it, and where there are none, its images.",
            show_default="the newest bench; without one, all runs on the newest run's dataset; "
            "without runs, the newest entry",
            autocompletion=complete.runs_and_entries,
        ),
    ] = None,
    bench: Annotated[
        str | None,
        typer.Option(
            help="A bench: its name, or `newest`.",
            show_default=False,
            autocompletion=complete.benches,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="Which of a bench's datasets.", show_default="the first"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="HTML file to write.", dir_okay=False)] = Path(
        "report.html"
    ),
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    png: Annotated[
        Path | None,
        typer.Option(help="Write the pieces as pictures for a paper, too.", file_okay=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every figure, one a line, too.", dir_okay=False),
    ] = None,
    method: Annotated[
        Literal["pca", "tsne"],
        typer.Option("--projection", help="tsne adds t-SNE: minutes for 10,000 points."),
    ] = "pca",
    split: Annotated[
        str | None,
        typer.Option(
            help="Whose images the map shows: train, val, test, or several with commas.",
            show_default="an equal share of each",
        ),
    ] = None,
    max_points: Annotated[
        int, typer.Option(min=3, help="Most images on the map of features.")
    ] = 10_000,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file about a bench, some runs or an entry: it needs no network.

    Of an entry without runs it shows the images: a map of the features, what an audit found, and
    where all comes from. Ranks come from rows that were held out from training. Test figures stand
    beside them as they were reported; nothing is scored again, so the ledger counts no look.
    """
    from probe.datasets.split_names import split_called
    from probe.report.papers import write_pictures
    from probe.report.pictures import Options
    from probe.screen import console
    from probe.screen.reports import check_page_name, write_report

    started = time.perf_counter()
    check_page_name(out)
    folder = cache_folder(cache_dir)
    splits = tuple(map(split_called, words(split)))
    options = Options(method=method, max_points=max_points, splits=splits)
    material = _material(folder, runs or [], bench, dataset)
    if csv and not material.rows:
        raise UsageError(f"--csv {csv}: {material.why} has no runs, so there are no figures")
    err = console.stderr()
    if not as_json:
        err.print(f"{material.dataset}: {material.why}", soft_wrap=True)
    page, material, views, pictures = write_report(
        material, out, options, cache_dir=folder, command=typed_command()
    )
    pieces = write_pictures(png, material, views, pictures) if png else []
    if csv:
        _write_table(csv, material)
    done = {
        "page": str(page.path),
        "bytes": page.size,
        "dataset": material.dataset,
        "bench": material.bench.id if material.bench else None,
        "runs": [row.run for row in material.rows if row.run],
        "entries": list(material.entries),
        "points": page.points,
        "thumbnails": page.thumbnails,
        "notes": list(page.notes),
        "pictures": [str(path) for path in pieces],
        "csv": str(csv) if csv else None,
        "seconds": round(time.perf_counter() - started, 3),
    }
    if as_json:
        console.print_json(done)
    else:
        _show(done, _next(material, folder))
    if open_it:
        typer.launch(page.path.resolve().as_uri())


def _show(done: Mapping[str, Any], after: str) -> None:
    """Say what was written, and what is not on the page."""
    from probe.screen import console

    for note in done["notes"]:
        console.stderr().print(f"note: {note}", soft_wrap=True)
    n_runs = len(done["runs"])
    what = f"{console.size(done['bytes'])}, {counted(n_runs, 'run')}, "
    what += f"{done['points']:,} points, "
    what += f"{done['thumbnails']:,} thumbnails, in {console.duration(done['seconds'])}"
    facts = {"page": f"{console.place(done['page'])}: {what}"}
    if done["pictures"]:
        folder = Path(done["pictures"][0]).parent
        facts["png"] = (
            f"{console.place(folder)}: {', '.join(Path(one).name for one in done['pictures'])}"
        )
    if done["csv"]:
        facts["csv"] = console.place(done["csv"])
    console.facts(console.stdout(), facts | {"next": after})


def _next(material: Material, cache_dir: Path) -> str:
    """Return the command that makes a bundle of the best run, or that lists the runs."""
    from probe.screen import console

    if not material.rows:
        return _next_of_images(material, cache_dir)
    best = material.leader
    if best is None or best.run is None or not all(best.weights.split("+")):
        return console.command("runs", "list", cache_dir=cache_dir)
    return console.command("bundle", best.run, cache_dir=cache_dir)


def _next_of_images(material: Material, cache_dir: Path) -> str:
    """Return the command that fits a head to an entry; without labels, audits or exports it."""
    from probe.datasets.classes import has_labels
    from probe.screen import console

    ((name, joined),) = material.entries.items()
    words: tuple[str, ...] = ("head", name)
    if not has_labels(joined.entry.classes):
        words = ("cache", "export", f"{name}.npz", name) if material.audits else ("audit", name)
    return console.command(*words, cache_dir=cache_dir)


def _material(
    cache_dir: Path, names: list[str], bench: str | None, dataset: str | None
) -> Material:
    """Return what the page is about: what was named, or else what was made last."""
    from probe.bench.record import load_bench
    from probe.report.material import (
        entry_named,
        named_runs,
        newest_bench,
        of_bench,
        of_entry,
        of_runs,
    )

    if names and bench:
        raise UsageError("a page is about runs or about a bench: leave out one of them")
    runs = cache_dir / "runs"
    if names:
        if dataset:
            raise UsageError("--dataset chooses within a bench; the runs named have theirs")
        entry = next(filter(None, (entry_named(cache_dir, name) for name in names)), None)
        if entry is not None and len(names) > 1:
            raise UsageError(f"{entry.name} is an entry, and a page is about one; name it alone")
        if entry is not None:
            return of_entry(cache_dir, entry, f"the entry {entry.name}")
        return of_runs(cache_dir, named_runs(names, runs), "the runs that were named")
    folder = newest_bench(cache_dir / "benches")
    if bench and bench != "newest":
        folder = cache_dir / "benches" / bench if Path(bench).name == bench else Path(bench)
    if folder is not None:
        loaded = load_bench(folder)
        why = f"bench {loaded.id}" if bench else f"the newest bench, {loaded.id}"
        return of_bench(cache_dir, loaded, dataset, why)
    if bench:
        raise UsageError(f"{cache_dir / 'benches'}: no bench yet; `probe bench` makes one")
    return _of_newest(cache_dir, dataset)


def _of_newest(cache_dir: Path, dataset: str | None) -> Material:
    """Return all runs on the newest run's dataset, or on that of a name; else the newest entry."""
    from probe.cache.store import Store
    from probe.report.material import (
        newest_dataset,
        of_entry,
        of_runs,
        on_other_classes,
        read_runs,
        without_repeats,
    )

    runs = cache_dir / "runs"
    found = read_runs(runs)
    store = Store(cache_dir)
    if not found and store.files():
        entry = store.choose(dataset)
        return of_entry(cache_dir, entry, f"no runs yet; the entry {entry.name}")
    if not found:
        raise UsageError(f"{runs}: no runs yet; `probe head` or `probe bench` makes some")
    if dataset:
        found = [run for run in found if run.result.dataset == dataset]
        if not found:
            raise UsageError(f"{runs}: no run is of {dataset}; leave out --dataset")
    everything = newest_dataset(found)
    others = on_other_classes(cache_dir, everything)
    everything = [run for run in everything if run not in others]
    chosen = without_repeats(everything)
    why = f"all runs on {chosen[0].result.dataset}"
    if repeats := len(everything) - len(chosen):
        why += f", less {repeats} older with the same settings and figures"
    if others:
        why += f", less {len(others)} on other classes"
    return of_runs(cache_dir, chosen, why)


def _write_table(path: Path, material: Material) -> None:
    """Write every figure, one a line, in the columns of a bench's `results.csv`."""
    from probe.bench.table import COLUMNS, lines
    from probe.core.sheets import write_sheet

    write_sheet(path, COLUMNS, lines(material.bench or _as_bench(material)))


def _as_bench(material: Material) -> Bench:
    """Return runs that no bench made as one, for the table."""
    from probe.bench.record import Bench, Protocol
    from probe.runs.results import now

    first = next(iter(material.runs.values())).result
    heads = tuple(sorted({row.head for row in material.rows}))
    protocol = Protocol(
        heads=heads, split="val", val_size=0, folds=0, repeats=1, seed=first.seed,
        metric=material.metric,
    )  # fmt: skip
    return Bench(
        id="",
        command="",
        created=now(),
        seconds=0.0,
        protocol=protocol,
        rows=material.rows,
        comparisons=(material.tested,) if material.tested else (),
        versions={},
    )
