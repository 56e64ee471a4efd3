"""`probe export`: write a bundle in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from probe.cli.options import AsJson

if TYPE_CHECKING:
    from probe.bundle import Bundle

SAY = {  # with what goes in
    "onnx": "{} uint8 (N, S, S, 3) -> probabilities, features; classes are in its metadata",
    "mxnet": "SymbolBlock.imports(SYMBOL, [{}], PARAMS) -> probabilities, features",
    "sklearn": "joblib.load(FILE).predict(features{}); a joblib file is a pickle, which runs code "
    "when loaded",
}


def export(
    bundle: Annotated[Path, typer.Argument(help="What `probe bundle` made.")],
    to: Annotated[
        Literal["onnx", "mxnet", "sklearn"],
        typer.Option("--to", help="mxnet: symbol and params; sklearn: the head alone."),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            help="File to make; for mxnet what the files' names begin with.",
            show_default="the bundle's name",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a bundle for other programs, checked against it first.

    Resizing stays outside: the input is an RGB image of the network's size. (Cache entries have
    `probe cache export`.)
    """
    from probe.api.bundles import export as exported
    from probe.bundle import Bundle
    from probe.screen import console

    loaded = Bundle.load(bundle)
    paths = exported(loaded, to, out)
    if as_json:
        files = {str(path): path.stat().st_size for path in paths}
        console.print_json({"format": to, "files": files})
        return
    rows = {
        (
            "made" if number == 0 else "and"
        ): f"{console.place(path)}  ({console.size(path.stat().st_size)})"
        for number, path in enumerate(paths[:1])
    }
    for path in paths[1:]:
        rows[path.name] = console.size(path.stat().st_size)
    rows |= {
        "checked": "it answers as the bundle does, within 1e-4",
        "use": SAY[to].format(_taken(loaded, to)),
    }
    console.facts(console.stdout(), rows)


def _taken(loaded: Bundle, to: str) -> str:
    """Return what an export takes, for `SAY`."""
    from probe.export.check import input_names

    if to == "sklearn":
        parts = [f"{one.backbone}/{one.layer}" for one in loaded.about.networks]
        return f" of {', '.join(parts)} side by side" if len(parts) > 1 else ""
    return ", ".join(f'"{name}"' if to == "mxnet" else name for name in input_names(loaded))
