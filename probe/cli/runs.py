"""`probe runs`: list, show, compare, tag and remove runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from probe.bench.candidates import feature_name
from probe.bench.find import default_run, find_run
from probe.bench.record import FILE_NAME, Bench, load_bench
from probe.cache.joining import parse_features_name
from probe.cache.needed import in_words
from probe.cache.store import Entry, Store
from probe.cli import complete
from probe.cli.commands import Command, command_app
from probe.cli.head_figures import LABEL_NAMES, NAMES, about_run, after_run, show_metrics
from probe.cli.options import AsJson, CacheDir, Csv, cache_folder
from probe.core.plain import to_plain
from probe.core.run_folders import outside_runs
from probe.errors import DataError, UsageError
from probe.evaluation.pairs import Pair
from probe.runs.answers import write_run_answers
from probe.runs.kept import Kept, compare_runs, kept_runs, needed_runs, read_tag, write_tag
from probe.runs.results import (
    METRIC_WORDS,
    RunResult,
    difference_text,
    figure_text,
    read_run,
    span_text,
)
from probe.runs.tie_words import settling_words
from probe.screen import console

WIDE = 120  # columns of the whole list, or about as many

Run = Annotated[
    str | None,
    typer.Argument(
        help="A run's name, the beginning of it, or its folder.", autocompletion=complete.runs,
        show_default="the newest run, or the winner of a bench made after it",
    ),
]  # fmt: skip
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Names, beginnings of names, or folders.",
        autocompletion=complete.runs,
    ),
]  # fmt: skip

app = command_app("List, show, compare, tag and remove runs of `probe head` and the others.")


@app.command(cls=Command, name="list")
def list_runs(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the runs, the newest first, and the benches; damaged folders are among them.

    Top-1 (or mAP, where an image may have several labels) is on validation or out-of-fold rows,
    and on test rows.
    """
    folder = cache_folder(cache_dir)
    kept, entries = kept_runs(folder / "runs"), _entries(folder)
    benches = _benches(folder / "benches")
    if as_json:
        console.print_json(
            {
                "runs": [_as_json(one, entries) for one in kept],
                "benches": [_bench_json(path, one) for path, one in benches],
            }
        )
        return
    out = console.stdout()
    if not kept and not benches:
        out.print(f"{console.place(folder / 'runs')}: no runs yet; `probe head` makes one")
        return
    if kept:
        _show_list(kept, entries)
    if benches:
        out.print()
        rows = [[path.name, *_about_bench(one)] for path, one in benches]
        console.table(out, ["bench", "made", "rows", "winner"], rows, right=(2,))
    if newest := next((one for one in kept if one.result is not None), None):
        console.stderr().print()
        name = console.run_name(newest.folder, folder)
        after = console.command("runs", "show", name, cache_dir=folder)
        console.facts(console.stderr(), {"next": after})


def _show_list(kept: Sequence[Kept], entries: Mapping[str, Entry]) -> None:
    rows = []
    for one in kept:
        result = one.result
        if result is None:
            rows.append([one.folder.name, "", one.problem, "", "", "", one.tag])
            continue
        held_out, test = _figures(result)
        rows.append(
            [one.folder.name, result.head, _features(result, entries), held_out, test,
             _when(result.created), one.tag]
        )  # fmt: skip
    out = console.stdout()
    columns = ["run", "head", "features", "held out", "test", "made", "tag"]
    if out.is_terminal and out.width < WIDE:
        narrow = []
        for name, head, features, held_out, test, _, tag in rows:
            below = " ".join(filter(None, (head, features, tag)))
            narrow.append([console.two_lines(name, below), held_out, test])
        console.table(out, ["run", *columns[3:5]], narrow, right=(1, 2))
    else:
        if not any(one.tag for one in kept):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        console.table(out, columns, rows, right=(3, 4))


def _entries(folder: Path) -> dict[str, Entry]:
    """Return the entries by name."""
    return {entry.name: entry for entry in Store(folder).entries()}


def _sizes(result: RunResult, entries: Mapping[str, Entry]) -> list[int]:
    """Return the side of the network's input of each entry of a run, in pixels, where known."""
    names, _ = parse_features_name(result.entry)
    found = [entries[name].provenance.get("size") for name in names if name in entries]
    return [size for size in found if isinstance(size, int)]


def _features(result: RunResult, entries: Mapping[str, Entry]) -> str:
    """Return the dataset and the features that a head was fitted on, named as in `probe bench`."""
    names, width = parse_features_name(result.entry)
    sizes = list(dict.fromkeys(_sizes(result, entries)))
    if len(names) == 1 and sizes:
        features = feature_name(
            result.backbone, result.layer, result.pool, sizes[0], result.weights,
            resize=entries[names[0]].provenance.get("resize"),
        )  # fmt: skip
    else:
        size = f"@{','.join(map(str, sizes))}" if sizes else ""
        features = f"{result.backbone}/{result.layer}{size}"
    return f"{result.dataset}: {features}" + (f", PCA {width}" if width else "")


def _figures(result: RunResult) -> tuple[str, str]:
    """Return what it is ranked by on rows that were held out, and on test rows."""
    held_out = next((one for one in ("oof", "val") if one in result.metrics), "val")
    return tuple(
        figure_text(result.metric, result.metrics.get(split, {}).get(result.metric))
        for split in (held_out, "test")
    )  # type: ignore[return-value]


def _when(created: str) -> str:
    """Return a time of a record as the clock here showed it."""
    try:
        return f"{datetime.fromisoformat(created).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return created


def _as_json(one: Kept, entries: Mapping[str, Entry]) -> dict[str, Any]:
    about: dict[str, Any] = {"name": one.folder.name, "path": str(one.folder), "tag": one.tag}
    if one.result is None:
        return about | {"problem": one.problem}
    plain = one.result.to_dict()
    names = ("created", "head", "entry", "dataset", "backbone", "weights", "layer", "pool")
    return {
        **about, **{name: plain[name] for name in names},
        "sizes": _sizes(one.result, entries), "metrics": plain["metrics"],
    }  # fmt: skip


def _benches(benches: Path) -> list[tuple[Path, Bench | str]]:
    """Return the benches, the newest first, or why one cannot be read."""
    found: list[tuple[Path, Bench | str]] = []
    for path in sorted(benches.glob(f"*/{FILE_NAME}"), reverse=True):
        try:
            found.append((path.parent, load_bench(path.parent)))
        except DataError as error:
            found.append((path.parent, f"damaged: {error}"))
    return found


def _about_bench(one: Bench | str) -> list[str]:
    if isinstance(one, str):
        return ["", "", one]
    won = [f"{one.row(each.winner).name}" for each in one.comparisons if each.winner is not None]
    return [_when(one.created), f"{len(one.rows):,}", ", ".join(won) or "-"]


def _bench_json(path: Path, one: Bench | str) -> dict[str, Any]:
    if isinstance(one, str):
        return {"name": path.name, "path": str(path), "problem": one}
    won = {each.dataset: one.row(each.winner).run for each in one.comparisons if each.winner}
    runs = [row.run for row in one.rows if row.run]
    return {"name": path.name, "path": str(path), "created": one.created, "runs": runs,
            "winners": won}  # fmt: skip


@app.command(cls=Command, name="show")
def show_run(
    run: Run = None, csv: Csv = None, cache_dir: CacheDir = None, as_json: AsJson = False
) -> None:
    """Show a run's figures, its parameters, and where its features came from."""
    folder = cache_folder(cache_dir)
    found = _folder(folder, run) if run is not None else console.chosen(default_run(folder))
    result = read_run(found)
    tag = read_tag(found)
    if csv is not None:
        write_run_answers(found, result, folder, csv)
    if as_json:
        console.print_json({"run": str(found), "tag": tag, **result.to_dict()})
        return
    out = console.stdout()
    params = ", ".join(f"{k} {v}" for k, v in result.params.items() if v not in (None, "", False))
    facts = {
        "run": console.place(found),
        "made": f"{_when(result.created)}, by {result.command}",
        "features": f"{_features(result, _entries(folder))}, {result.weights}",
        "entry": result.entry,
        "head": f"{result.head}, {params}".rstrip(", "),
    }
    console.facts(out, facts | ({"tag": tag} if tag else {}))
    out.print()
    show_metrics(out, result, NAMES if result.multilabel is None else LABEL_NAMES)
    out.print()
    files = ", ".join(sorted(one.name for one in found.iterdir() if one.is_file()))
    after = after_run(result, found, folder)
    console.facts(out, about_run(result) | {"kept": files, "next": after})


@app.command(cls=Command)
def compare(runs: Runs, cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show runs side by side, with paired tests where they predicted the same images.

    Nothing is scored again: the tests are of the predictions that the runs keep.
    """
    folder = cache_folder(cache_dir)
    found = {one.name: one for one in (_folder(folder, run) for run in dict.fromkeys(runs))}
    if len(found) < 2:
        raise UsageError("name two runs or more; `probe runs list` lists them")
    results = {name: read_run(path) for name, path in found.items()}
    tests, why_not = compare_runs(found)
    if as_json:
        console.print_json(
            {
                "runs": {name: result.to_dict() for name, result in results.items()},
                "tests": to_plain(tests),
                "not_tested": why_not,
            }
        )
        return
    out, entries = console.stdout(), _entries(folder)
    rows = _side_by_side(results, entries)
    console.table(out, ["", *found], rows, right=range(1, len(found) + 1))
    for one in tests:
        out.print()
        word = METRIC_WORDS[one.metric]
        columns = [
            f"{word} on {one.split}",
            "less",
            "difference",
            "95 %",
            "p",
            "Holm's p",
            "verdict",
        ]
        rows = [_pair_row(pair, one.metric) for pair in one.pairs]
        console.table(out, columns, rows, right=range(2, 6))
        for pair in one.pairs:
            if words := settling_words(pair, f"{pair.a} and {pair.b}", one.metric):
                out.print(words, style="dim", soft_wrap=True)
    if why_not:
        out.print()
        console.facts(out, {f"no test on {split}": why for split, why in why_not.items()})


def _side_by_side(
    results: Mapping[str, RunResult], entries: Mapping[str, Entry]
) -> list[list[str]]:
    several = list(results.values())
    rows = [
        ["head", *(one.head for one in several)],
        ["features", *(_features(one, entries) for one in several)],
        ["made", *(_when(one.created) for one in several)],
    ]
    for name in several[0].params:  # what all have and not all alike
        values = [str(one.params[name]) for one in several if name in one.params]
        if len(values) == len(several) and len(set(values)) > 1:
            rows.append([name, *values])
    words = LABEL_NAMES if several[0].multilabel else NAMES
    for split in ("val", "oof", "test"):
        for name, word in words.items():
            figures = [one.metrics.get(split, {}).get(name) for one in several]
            if any(one is not None for one in figures):
                rows.append([f"{word}, {split}", *(figure_text(name, one) for one in figures)])
    return rows


def _pair_row(pair: Pair, metric: str) -> list[str]:
    verdict = "different" if pair.different else "not told apart"
    return [
        pair.a, pair.b, difference_text(metric, pair.difference, "+"),
        span_text(metric, pair.low, pair.high, "+"),
        f"{pair.p:.2g}", f"{pair.p_adjusted:.2g}", f"{verdict} ({pair.test})",
    ]  # fmt: skip


@app.command(cls=Command)
def tag(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's name, the beginning of it, or its folder.", autocompletion=complete.runs
        ),
    ],
    text: Annotated[str, typer.Argument(help="What to note; '' removes it.")],
    cache_dir: CacheDir = None,
) -> None:
    """Note something of a run, which `probe runs list` shows."""
    folder = _folder(cache_folder(cache_dir), run)
    write_tag(folder, text)
    console.facts(console.stdout(), {"run": folder.name, "tag": read_tag(folder) or "none"})


@app.command(cls=Command)
def remove(
    runs: Runs,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also remove what benches or fine-tunings need.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove runs with all their files, damaged and unfinished ones too; features stay.

    A run that a bench or a fine-tuning that is not finished was made of stays, unless --force is
    given. Bundles need no run, but one inside the run's folder goes with it.
    """
    folder = cache_folder(cache_dir)
    found = list(dict.fromkeys(_folder(folder, run) for run in runs))
    needed = needed_runs(folder)
    for path in found:
        if not _is_run(path, folder):
            raise UsageError(f"{path}: no folder of a run; remove it yourself")
        if path.name in needed and not force:
            raise UsageError(
                f"{path.name} is needed by {in_words(needed[path.name])}; --force removes it"
            )
    if not yes:
        _confirm(found)
    sizes = [sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) for path in found]
    for path in found:
        shutil.rmtree(path)
    if as_json:
        console.print_json({"removed": list(map(str, found)), "bytes": sum(sizes)})
        return
    for path, size in zip(found, sizes, strict=True):
        console.stdout().print(
            f"removed {console.place(path)} ({console.size(size)})", soft_wrap=True
        )


def _confirm(folders: Sequence[Path]) -> None:
    names = ", ".join(one.name for one in folders)
    if not sys.stdin.isatty():
        raise UsageError(f"remove {names}? give --yes")
    if not typer.confirm(f"remove {names}?", err=True):
        raise typer.Exit(1)


def _folder(cache_dir: Path, run: str) -> Path:
    return find_run(cache_dir / "runs", Path(run))


def _is_run(path: Path, cache_dir: Path) -> bool:
    """Return whether a folder lies among the runs, or is known to be one that lies elsewhere."""
    runs = cache_dir / "runs"
    place = path.resolve()
    return place.parent == runs.resolve() or place in outside_runs(runs)
