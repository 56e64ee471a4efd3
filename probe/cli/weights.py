"""`probe weights`: which are known, which are at hand, and what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.weights import WeightsSpec

app = typer.Typer(
    help="Which pretrained weights are known, fetching them, and what a file holds.",
    no_args_is_help=True,
)


@app.command("list")
def list_weights(
    backbone: Annotated[str | None, typer.Option(help="Only those of this backbone.")] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """List the published weights: size, licence, accuracy, preprocessing, at hand or not."""
    from probe.backbones.catalog import BACKBONES
    from probe.cli import console
    from probe.weights import WEIGHTS, locate, serves

    folder = cache_folder(cache_dir)
    wanted = list(WEIGHTS.values())
    if backbone is not None:
        wanted = [one for one in wanted if serves(one, BACKBONES[backbone])]
    found = {one.name: locate(one, folder) for one in wanted}
    if as_json:
        console.print_json({"weights": [_as_json(one, found[one.name]) for one in wanted]})
        return
    rows = [
        [
            one.name,
            console.size(one.size) if one.size else "?",
            f"{100 * one.top1:.2f} %" if one.top1 is not None else "-",
            one.preprocess.name,
            one.licence,
            "at hand" if found[one.name] else "-",
        ]
        for one in wanted
    ]
    columns = ["weights", "size", "ImageNet top-1", "preprocessing", "licence", ""]
    console.table(console.stdout(), columns, rows, right=(1, 2), fold=4)
    publishers = sorted({one.top1_by for one in wanted if one.top1_by})
    if publishers:
        console.stderr().print(f"top-1 as published by {'; '.join(publishers)}")


@app.command("fetch")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="A name from `probe weights list`.")],
    cache_dir: CacheDir = None,
) -> None:
    """Download a published file into the cache folder and check its digest."""
    from probe.cli import console
    from probe.weights import fetch

    with console.DownloadBar(name) as bar:
        path = fetch(name, cache_folder(cache_dir), progress=bar)
    console.stdout().print(str(path))


@app.command("show")
def show_weights(
    file: Annotated[Path, typer.Argument(help="A weight file of any known format.")],
    backbone: Annotated[
        str | None, typer.Option(help="Say why it does or does not fit this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a file holds, and which backbones it fits."""
    from probe.backbones.catalog import BACKBONES
    from probe.cli import console
    from probe.memo import Memo
    from probe.weights import (
        fitting_backbones,
        hash_file,
        held_layers,
        identify,
        open_tensors,
    )

    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    opened = open_tensors(file)
    known = identify(*hash_file(file))
    fits = [backbone] if backbone else list(fitting_backbones(opened))
    nowhere = Memo(Path("/nonexistent/memo"))
    held = {name: held_layers(file, BACKBONES[name], nowhere) for name in fits}
    if as_json:
        console.print_json(
            {
                "path": str(file),
                "format": opened.format,
                "name": known.name if known else None,
                "fits": {name: list(layers) for name, layers in held.items()},
                "tensors": {
                    name: {"shape": list(one.shape), "dtype": str(one.dtype)}
                    for name, one in opened.tensors.items()
                },
            }
        )
        return
    out = console.stdout()
    facts = {
        "file": str(file),
        "format": opened.format,
        "known as": known.name if known else "nothing in the catalog",
    }
    facts["input"] = (
        known.preprocess.describe() if known else "not known; give it with --preprocess"
    )
    for name, layers in held.items():
        facts[f"fits {name}"] = f"up to {layers[-1]}" if layers else "no layer"
    if not held:
        facts["fits"] = "no backbone of the catalog; --backbone NAME says why not"
    console.facts(out, facts)
    rows = [
        [name, "x".join(map(str, one.shape)), str(one.dtype)]
        for name, one in opened.tensors.items()
    ]
    console.table(out, ["tensor", "shape", "dtype"], rows)


def _as_json(spec: WeightsSpec, path: Path | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "backbone": spec.backbone,
        "format": spec.format,
        "file": spec.file_name,
        "bytes": spec.size,
        "licence": spec.licence,
        "top1": spec.top1,
        "top1_by": spec.top1_by or None,
        "preprocess": spec.preprocess.to_json(),
        "urls": list(spec.urls),
        "install": spec.install or None,
        "path": str(path) if path else None,
    }
