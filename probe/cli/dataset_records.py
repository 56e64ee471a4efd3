"""`probe dataset index | pack`: lists of images and files of records, as MXNet reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, DatasetRoot, Seed, cache_folder
from probe.cli.pass_options import SkipBad, Workers
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]


@takes_reading
def index(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A folder of class folders, or a list of images.", autocompletion=complete.datasets
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PREFIX",
            help="Beginning of the lists' names: PREFIX.lst, PREFIX_train.lst ...",
            show_default="as the dataset is called, beside it",
        ),
    ] = None,
    val: Annotated[
        float, typer.Option("--val", help="Part of the images held out as val, as 0.15.")
    ] = 0.0,
    test: Annotated[
        float, typer.Option("--test", help="Part of the images held out as test, as 0.15.")
    ] = 0.0,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="What belongs together and comes into one list: a column of the list of images (a "
            "patient), or a CSV of `id,group`; repeat it for several. Copies of one picture always "
            "do."
        ),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--no-shuffle", help="Put images in random order.")
    ] = True,
    chunks: Annotated[
        int, typer.Option(min=1, help="Number of lists that each is divided into.")
    ] = 1,
    seed: Seed = 42,
    dataset_root: DatasetRoot = None,
    reading: ReadOptions = AS_IT_IS,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Write the images of a folder as lists of index, label and path (.lst), as im2rec does.

    Each class gives its share to --val and --test. A dataset with splits of its own keeps them.
    The names of the classes are written beside the lists, in the order of the labels.
    """
    from probe.core.options import default_workers
    from probe.datasets import load_dataset
    from probe.datasets.forms.indexing import Ratios, names_file
    from probe.screen import console, records

    ratios = Ratios(val=val, test=test)
    found = load_dataset(
        dataset,
        root=dataset_root,
        reading=reading,
        cache_dir=cache_folder(cache_dir),
        skip_bad=skip_bad,
        workers=workers or default_workers(),
    )
    if found.url is not None:  # its images are packed next
        for each in found.splits.values():
            each.images.content()
    prefix = records.prefix_of(dataset, out)
    lists = records.index_shown(
        found, prefix, ratios,
        group=group or (), shuffle=shuffle, chunks=chunks, seed=seed, overwrite=overwrite,
    )  # fmt: skip
    names = names_file(found, prefix)
    if as_json:
        console.print_json(
            {
                "lists": [{"path": str(one.path), "images": one.images} for one in lists],
                "classes": list(found.classes),
                "names": None if names is None else str(names),
            }
        )
        return
    out_console = console.stdout()
    rows = [[console.place(one.path), f"{one.images:,}"] for one in lists]
    console.table(out_console, ["list", "images"], rows, right=(1,))
    numbered = [f"{number} is {name}" for number, name in enumerate(found.classes)]
    if len(numbered) > 5:
        numbered[3:-1] = ["..."]
    said = "0, for the images have none"
    if names is not None:
        said = f"{', '.join(numbered)}, as {console.place(names)} says"
    root = Path(os.path.abspath(found.root or "."))
    near = root in {prefix.parent, prefix.parent / prefix.name}
    where: list[str | Path] = [] if near else ["--dataset-root", root]
    console.facts(
        out_console,
        {
            "labels": said,
            "next": console.command("dataset", "pack", *(Path(one.path) for one in lists), *where),
        },
    )


def pack(
    lists: Annotated[
        list[Path], typer.Argument(help="Lists of images (.lst); each becomes a file of records.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The file of records, of one list.",
            show_default="the list's name with .rec",
        ),
    ] = None,
    dataset_root: Annotated[
        Path | None,
        typer.Option(
            help="The folder that paths are relative to.",
            file_okay=False,
            show_default="the list's own, or one beside it that is called like it",
        ),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(min=1, max=2**14, help="Encode anew, with a shorter side of so many pixels."),
    ] = None,
    encoding: Annotated[
        Literal[".jpg", ".png"] | None,
        typer.Option(
            help="Encode anew, in this format.",
            show_default="the files' own bytes; .jpg beside --resize or --color",
        ),
    ] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Of a JPEG that is encoded anew.")
    ] = 95,
    color: Annotated[
        Literal["rgb", "grey"] | None,
        typer.Option(
            help="Encode anew, in colour or grey.", show_default="rgb where they are encoded anew"
        ),
    ] = None,
    workers: Workers = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and list images that cannot be read.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pack the images of lists into files of records (.rec and .idx), as im2rec does.

    Order and labels are those of the list. Files are packed byte for byte, unless an option has
    them encoded anew. Every image is decoded once: one that cannot be read is refused.
    """
    from probe.core.options import default_workers
    from probe.datasets.forms.packing import recoding_of
    from probe.screen import console, records

    done = records.pack_shown(
        lists, out,
        root=dataset_root,
        recoding=recoding_of(resize=resize, encoding=encoding, quality=quality, color=color),
        skip_bad=skip_bad, workers=workers or default_workers(), overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        console.print_json(
            {
                "records": [
                    {
                        "path": str(one.path), "index": str(one.index), "images": one.images,
                        "bytes": one.size,
                        "skipped": [{"id": b.id, "reason": b.reason} for b in one.skipped],
                    }
                    for one in done
                ]
            }
        )  # fmt: skip
        return
    rows = [[console.place(one.path), f"{one.images:,}", console.size(one.size)] for one in done]
    console.table(console.stdout(), ["records", "images", "size"], rows, right=(1, 2))
