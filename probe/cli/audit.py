"""`probe audit`: find duplicates and doubtful labels from cached features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, Entry, Group, MaxMemory, Seed, cache_folder
from probe.core.urls import typed_command

if TYPE_CHECKING:
    from probe.audit.record import Audit


def audit(
    entry: Entry = None,
    threshold: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Cosine of standardised features from which images are duplicates."
        ),
    ] = 0.95,
    folds: Annotated[
        int, typer.Option(min=2, help="Folds of the cross-validation that doubts labels.")
    ] = 5,
    c: Annotated[
        float, typer.Option("--C", help="Inverse of the penalty of its logistic regression.")
    ] = 0.01,
    run: Annotated[
        str | None,
        typer.Option(
            help="A run whose test accuracy is told with and without leaked images.",
            autocompletion=complete.runs,
            show_default="the newest of the entry",
        ),
    ] = None,
    group: Group = None,
    max_memory: MaxMemory = None,
    seed: Seed = 42,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="CACHE/runs/ID")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Look for test images that are in train, and for labels worth a second look.

    Of images without labels, duplicates are listed within and across splits.

    Both come from the cached features: no image is forwarded. Nothing is changed; audit.json lists
    the images, and two sheets show the first of them where the dataset is still at hand.
    """
    from probe.screen import console
    from probe.screen.audits import audit_shown

    folder = cache_folder(cache_dir)
    target, found = audit_shown(
        entry, folder, threshold=threshold, folds=folds, C=c,
        run=None if run is None else Path(run), group=group or (), max_memory=max_memory,
        seed=seed, out=out, command=typed_command(),
    )  # fmt: skip
    if as_json:
        console.print_json({"folder": str(target), **found.to_dict()})
    else:
        _show(found, target, folder)


def _show(found: Audit, target: Path, cache_dir: Path) -> None:
    from probe.audit.words import audit_facts, audit_tables
    from probe.screen import console

    out = console.stdout()
    console.facts(out, audit_facts(found))
    for one in audit_tables(found):
        out.print()
        fold = [place for place in range(len(one.columns)) if place not in one.numbers]
        console.table(out, one.columns, one.rows, right=one.numbers, fold=fold)
    out.print()
    files = ", ".join(sorted(path.name for path in target.iterdir()))
    alike = ("--group", "duplicates") if found.near_duplicates else ()
    words = ("report", found.entry) if found.every_pair else ("head", found.entry, *alike)
    after = console.command(*words, cache_dir=cache_dir)
    console.facts(out, {"kept": f"{console.place(target)}: {files}", "next": after})
