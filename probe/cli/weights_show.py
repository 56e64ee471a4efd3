"""`probe weights show`: what a file holds, which backbone it fits and why not the others."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import complete
from probe.cli.options import AsJson
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.weights import TensorFile, WeightsSpec

CLOSEST = 5  # backbones that a file nearly fits


def show(
    file: Annotated[Path, typer.Argument(help="A weight file of any known format.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Say why it does or does not fit this one.", autocompletion=complete.backbones
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a file holds, and which backbones it fits."""
    from probe.backbones.catalog import BACKBONES
    from probe.screen import console
    from probe.weights import (
        fitting_backbones,
        hash_file,
        identify,
        open_tensors,
        require_layers,
        why_not,
    )

    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    opened = open_tensors(file)
    known = identify(hash_file(file))
    fits = [backbone] if backbone else list(fitting_backbones(opened))
    held = {name: require_layers(opened, BACKBONES[name]) for name in fits}
    others = {} if backbone else why_not(opened)
    if as_json:
        console.print_json(_as_json(opened, known, held, others))
        return
    out = console.stdout()
    console.facts(out, _facts(opened, known, held, others))
    rows = [
        [name, "x".join(map(str, one.shape)), str(one.dtype)]
        for name, one in opened.tensors.items()
    ]
    console.table(out, ["tensor", "shape", "dtype"], rows)


def _as_json(
    opened: TensorFile,
    known: WeightsSpec | None,
    held: Mapping[str, tuple[str, ...]],
    others: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "path": str(opened.path),
        "format": opened.format,
        "name": known.name if known else None,
        "fits": {name: list(layers) for name, layers in held.items()},
        "fits_not": dict(others),
        "notes": list(opened.notes),
        "tensors": {
            name: {"shape": list(one.shape), "dtype": str(one.dtype)}
            for name, one in opened.tensors.items()
        },
    }


def _facts(
    opened: TensorFile,
    known: WeightsSpec | None,
    held: Mapping[str, tuple[str, ...]],
    others: Mapping[str, str],
) -> dict[str, str]:
    from probe.screen import console

    facts = {
        "file": console.place(opened.path),
        "format": opened.format,
        "known as": ", ".join((known.name, *known.aliases)) if known else "nothing in the catalog",
        "input": _input(opened, known),
    }
    facts |= {f"fits {name}": f"up to {layers[-1]}" for name, layers in held.items()}
    if opened.notes:
        facts["note"] = "; ".join(opened.notes)
    if not held:
        facts["fits"] = "no backbone of the catalog"
        if opened.format == "onnx":
            facts["next"] = f"probe backbones show {shlex.quote(console.place(opened.path))}"
    return facts | {f"not {name}": reason for name, reason in list(others.items())[:CLOSEST]}


def _input(opened: TensorFile, known: WeightsSpec | None) -> str:
    from probe.preprocess.published import published_beside

    if known is not None:
        return known.preprocess.describe()
    inside = opened.metadata.get("probe.preprocess")
    if inside:
        return f"inside the file: {inside}"
    try:
        stated = published_beside(opened.path)
    except UsageError as error:
        return str(error)
    if stated is None:
        return "not known; give it with --preprocess"
    return f"by {stated[0].name} beside it: {stated[1].describe()}"
