"""`probe dataset`: list the named datasets, and look at what one holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from probe.cli import complete, dataset_records
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, DatasetRoot, cache_folder
from probe.cli.pass_options import Coarse, SkipBad, Workers
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions

Dataset = Annotated[
    str,
    typer.Argument(
        help="A name, a folder, a list or a file of images, or a URL.",
        autocompletion=complete.datasets,
    ),
]

app = command_app("Look at, divide, pack and fetch datasets.")


@app.command(cls=Command, name="list")
def list_datasets(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the datasets that have a name; folders, lists and archives are named by their path."""
    from probe.datasets import DATASETS
    from probe.screen import console

    folder = cache_folder(cache_dir) / "datasets"
    if as_json:
        listed = [
            {"name": one.name, "title": one.title, "classes": len(one.classes),
             "splits": list(one.splits), "licence": one.licence, "homepage": one.homepage,
             "citation": one.citation, "figure": str(one.figure) if one.figure else None}
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
            else f"comes with {one.package}",
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
    dataset: Dataset,
    read: Annotated[
        Literal["names", "files", "pixels"],
        typer.Option(
            help="What is read of the images: names counts them and opens none; files reads "
            "headers and hashes, for sizes, formats and copies; pixels decodes all, which finds "
            "every damaged image, and transparent or dark ones."
        ),
    ] = "files",
    sheet: Annotated[
        Path | None,
        typer.Option(help="Draw some images of each class as this PNG.", dir_okay=False),
    ] = None,
    dataset_root: DatasetRoot = None,
    reading: ReadOptions = AS_IT_IS,
    coarse: Coarse = False,
    skip_bad: SkipBad = False,
    workers: Workers = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Count a dataset's images by split and class, and say what they are like.

    Sizes, formats, colours, images that cannot be read, and exact copies: within a split, and
    across splits, where they are leaks. Nothing is changed.
    """
    from probe.core.options import default_workers
    from probe.datasets import load_dataset
    from probe.screen import console, datasets

    threads = workers or default_workers()
    if sheet is not None:
        datasets.check_sheet(sheet)
    found = load_dataset(
        dataset,
        root=dataset_root,
        reading=reading,
        cache_dir=cache_folder(cache_dir),
        coarse=coarse,
        skip_bad=skip_bad,
        workers=threads,
        progress=console.download_bar,
    )
    if not as_json:
        datasets.show_counts(datasets.look_at(found, read="names", workers=threads), dataset)
    survey = datasets.look_at(found, read=read, workers=threads)
    if sheet is not None:
        datasets.draw_sheet(found, sheet)
    if as_json:
        console.print_json(
            {**survey.to_json(), **({"sheet": str(sheet)} if sheet is not None else {})}
        )
        return
    if survey.pictures is not None:
        datasets.show_pictures(survey.pictures)
    if sheet is not None:
        console.stdout().print()
        console.facts(console.stdout(), {"sheet": console.place(sheet)})


@app.command(cls=Command, name="split")
@takes_reading
def split_dataset(
    dataset: Dataset,
    val: Annotated[
        float | None,
        typer.Option(help="Share of all images that is val; 0 for none.", show_default="0.15"),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share of all images that is test; 0 for none.", show_default="0.15"),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="What belongs together and stays on one side: a column of the list (a patient), "
            "or a CSV of `id,group`; repeat it for several. Exact copies always do."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Seed of the random choice.", show_default="42"),
    ] = None,
    from_train: Annotated[
        bool,
        typer.Option(
            "--from-train",
            help="Of a dataset that has val or test of its own: leave them, and take the other "
            "out of train.",
        ),
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Remove the dataset's stored split; no image is touched."),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Also write images, labels and splits as this CSV, a dataset itself.",
            dir_okay=False,
        ),
    ] = None,
    dataset_root: DatasetRoot = None,
    reading: ReadOptions = AS_IT_IS,
    skip_bad: SkipBad = False,
    workers: Workers = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Divide a dataset that has no splits into train, val and test, for every command.

    The split is stratified, and stored by the images' content: moving or renaming files changes
    nothing. Run it again after images were added: the new ones are divided, the others stay.
    """
    from probe.core.options import default_workers
    from probe.runs.dataset_split import Wanted
    from probe.screen import console, datasets

    folder = cache_folder(cache_dir)
    if remove:
        path = datasets.remove_split(
            dataset, cache_dir=folder, dataset_root=dataset_root, reading=reading
        )
        if as_json:
            console.print_json({"removed": str(path)})
        else:
            console.facts(console.stdout(), {"removed": console.place(path)})
        return
    wanted = Wanted(val=val, test=test, group=tuple(group or ()), seed=seed, from_train=from_train)
    made, divided = datasets.split_shown(
        dataset, wanted, cache_dir=folder, dataset_root=dataset_root, reading=reading,
        skip_bad=skip_bad, workers=workers or default_workers(), export=export,
    )  # fmt: skip
    if as_json:
        console.print_json(made.to_json())
    else:
        datasets.show_split(made, divided, dataset, folder)


@app.command(cls=Command, name="fetch")
def fetch_dataset(
    name: Annotated[
        str,
        typer.Argument(help="A name of `probe dataset list`.", autocompletion=complete.datasets),
    ],
    dataset_root: DatasetRoot = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Download a dataset that has a name, check it against its checksum and unpack it.

    From then on `--dataset NAME` reads it without the network. What is there already is not
    downloaded again; a download that was interrupted goes on.
    """
    from probe.datasets.survey import survey
    from probe.screen import console, datasets

    spec, found = datasets.fetch_shown(
        name, cache_dir=cache_folder(cache_dir), dataset_root=dataset_root
    )
    if as_json:
        about = survey(found, read="names")
        console.print_json({
            "name": spec.name, "title": spec.title, "root": str(found.root) if found.root else None,
            "images": dict(about.images), "licence": spec.licence, "homepage": spec.homepage,
            "citation": spec.citation, "figure": str(spec.figure) if spec.figure else None,
        })  # fmt: skip
    else:
        datasets.show_fetched(spec, found)


app.command(cls=Command, name="index")(dataset_records.index)
app.command(cls=Command, name="pack")(dataset_records.pack)
