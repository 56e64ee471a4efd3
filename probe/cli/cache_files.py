"""`probe cache pack | import | export`: smaller entries, and features in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from probe.cli.cache_sync import Name
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.cli.pass_options import DtypeName
from probe.core.text import counted


def pack(
    name: Name = None,
    codec: Annotated[
        Literal["blosc-lz4", "blosc-zstd", "zstd", "none"],
        typer.Option(help="Compression; none undoes it."),
    ] = "zstd",
    dtype: Annotated[
        DtypeName | None,
        typer.Option(
            help="float16 halves the size and makes another entry.", show_default="as it is"
        ),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Compress an entry; heads read it as before. Says how far the stored features moved."""
    from probe.cache import pack as packing
    from probe.cache.features import FeatureSet
    from probe.cache.store import Store
    from probe.screen import console

    store = Store(cache_folder(cache_dir))
    entry = FeatureSet.open(store.choose(name).path)
    done = packing.pack(entry, store, codec=codec, dtype=dtype)
    if as_json:
        console.print_json(
            {
                "name": done.entry.name,
                "path": str(done.entry.path),
                "before": done.before,
                "after": done.after,
                "largest": done.largest,
                "relative": done.relative,
            }
        )
        return
    facts = {
        "entry": console.place(done.entry.path),
        "size": f"{console.size(done.before)} -> {console.size(done.after)} "
        f"({done.after / done.before:.2f})",
        "error": "none, every bit is as it was"
        if done.largest == 0
        else f"largest {done.largest:.3g}, relative to a row's norm {done.relative:.3g}",
    }
    if done.entry.path != entry.path:
        facts["next"] = f"the old entry is still there; `probe cache rm {entry.name}` removes it"
    console.facts(console.stdout(), facts)


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(help="Pickles, .npy, .npz, HDF5 or .safetensors files of one dataset."),
    ],
    features: Annotated[
        str | None,
        typer.Option(
            help="Name of the array of features in the files.", show_default="features or X"
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Name of the array of labels, or a .npy file of them.", show_default="labels or y"
        ),
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="Name of the array of image ids.", show_default="ids")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split that the rows are of: train, val or test.",
            show_default="by the files' names, else train",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Name that the dataset gets.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone that the features were computed with, if known.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names, as a,b,c.")] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an entry of features that somebody has already. No code in a pickle is run."""
    from probe.cache.interchange import Names, import_features
    from probe.cache.store import Store
    from probe.cli.extract import next_step
    from probe.core.options import words
    from probe.screen import console

    store = Store(cache_folder(cache_dir))
    entry = import_features(
        files,
        store,
        names=Names(features=features, labels=labels, ids=ids),
        split=split,
        dataset=dataset,
        backbone=backbone,
        classes=words(classes) or None,
    )
    if as_json:
        console.print_json(
            {
                "name": entry.name,
                "path": str(entry.path),
                "splits": {name: len(one) for name, one in entry.splits.items()},
                "row_shape": list(entry.row_shape),
                "classes": list(entry.classes),
            }
        )
        return
    counts = ", ".join(f"{name} {len(one):,}" for name, one in entry.splits.items())
    shape = "x".join(map(str, entry.row_shape))
    console.facts(
        console.stdout(),
        {
            "entry": console.place(entry.path),
            "rows": f"{counts}; {shape} features, "
            f"{counted(len(entry.classes), 'class', 'classes')}",
            "note": "how they were made is unknown, and the entry says so"
            if entry.key.layer == "unknown"
            else f"features of {entry.key.backbone} {entry.key.layer}, as the file says; the "
            "network itself is unknown",
            **next_step(entry, store),
        },
    )


def export(
    file: Annotated[Path, typer.Argument(help="Ends in .npz, .parquet or .safetensors.")],
    name: Name = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Write an entry, checked on its way, as a file that other tools read."""
    from probe.cache.features import FeatureSet
    from probe.cache.interchange import export_features
    from probe.cache.store import Store
    from probe.datasets.classes import UNLABELED, has_labels
    from probe.datasets.head_check import NO_LABELS
    from probe.screen import console

    entry = FeatureSet.open(Store(cache_folder(cache_dir)).choose(name).path)
    export_features(entry, file)
    labelled = has_labels(entry.classes)
    if as_json:
        size = file.stat().st_size
        console.print_json(
            {"name": entry.name, "path": str(file), "bytes": size, "labelled": labelled}
        )
        return
    console.stdout().print(
        f"{console.place(file)}: {entry.name}, {console.size(file.stat().st_size)}"
        + ("" if labelled else f"; {NO_LABELS}, and each row has the class {UNLABELED!r}")
    )
