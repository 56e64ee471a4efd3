"""`probe dataset`: list the named datasets, and show what a folder holds."""

from __future__ import annotations

from typing import Annotated

import typer

from probe.cli import complete
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, DatasetRoot, cache_folder
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions

app = command_app("Which datasets are known by name, and what one holds.")


@app.command(cls=Command, name="list")
def list_datasets(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the datasets that have a name; class folders, and .csv or .tsv lists, are some too."""
    from probe.datasets import DATASETS
    from probe.screen import console

    folder = cache_folder(cache_dir) / "datasets"
    if as_json:
        listed = [
            {"name": one.name, "title": one.title, "classes": len(one.classes),
             "splits": list(one.splits), "licence": one.licence}
            for one in DATASETS.values()
        ]  # fmt: skip
        console.print_json({"datasets": listed})
        return
    rows = [
        [
            one.name,
            str(len(one.classes)),
            ", ".join(one.splits),
            one.licence,
            console.place(folder / one.name)
            if one.layouts[0].sources
            else "comes with scikit-learn",
        ]
        for one in DATASETS.values()
    ]
    console.table(
        console.stdout(),
        ["dataset", "classes", "splits", "licence", "where its files lie"],
        rows,
        right=(1,),
    )


@app.command(cls=Command, name="show")
@takes_reading
def show_dataset(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name, a folder, or a .csv or .tsv list.", autocompletion=complete.datasets
        ),
    ],
    dataset_root: DatasetRoot = None,
    reading: ReadOptions = AS_IT_IS,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Count a dataset's images by split and class."""
    from probe.datasets import load_dataset
    from probe.screen import console

    found = load_dataset(
        dataset,
        root=dataset_root,
        reading=reading,
        cache_dir=cache_folder(cache_dir),
        progress=console.download_bar,
    )
    counts = {
        name: found.task.counts(split.labels, len(found.classes)).tolist()
        for name, split in found.splits.items()
    }
    if as_json:
        console.print_json(
            {
                "name": found.name,
                "root": str(found.root) if found.root else None,
                "classes": list(found.classes),
                "multilabel": not found.task.exclusive,
                "counts": counts,
                "images": {name: len(split) for name, split in found.splits.items()},
            }
        )
        return
    out = console.stdout()
    facts = {
        "dataset": found.name,
        "root": console.place(found.root) if found.root else "in a package",
    }
    if not found.task.exclusive:
        facts["labels"] = "an image may have several, or none"
    console.facts(out, facts)
    rows = [
        [label, *(f"{counts[name][i]:,}" for name in counts)]
        for i, label in enumerate(found.classes)
    ]
    rows.append(["images", *(f"{len(split):,}" for split in found.splits.values())])
    console.table(out, ["class", *counts], rows, right=range(1, len(counts) + 1))
