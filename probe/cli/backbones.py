"""`probe backbones`: list and show the backbones."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, cache_folder

if TYPE_CHECKING:
    from probe.backbones.spec import BackboneSpec

app = command_app("Which backbones there are, where they can be cut, and what weights are at hand.")


@app.command(cls=Command, name="list")
def list_backbones(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List parameters, input size, layers with their widths, and weights at hand."""
    from probe.backbones.catalog import BACKBONES
    from probe.screen import console
    from probe.weights import WEIGHTS, locate, serves

    folder = cache_folder(cache_dir)
    there = [weights for weights in WEIGHTS.values() if locate(weights, folder)]
    at_hand = {
        name: [weights.name for weights in there if serves(weights, spec)]
        for name, spec in BACKBONES.items()
    }
    if as_json:
        console.print_json(
            {"backbones": [_as_json(spec, at_hand[name]) for name, spec in BACKBONES.items()]}
        )
        return
    rows = [
        [
            name,
            f"{spec.parameters / 1e6:.1f} M",
            str(spec.input_size),
            _layers(spec),
            ", ".join(at_hand[name]) or "-",
        ]
        for name, spec in BACKBONES.items()
    ]
    columns = ["backbone", "parameters", "input", "layers (width)", "weights at hand"]
    console.table(console.stdout(), columns, rows, right=(1, 2), fold=3)


@app.command(cls=Command, name="show")
def show_backbone(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from `probe backbones list`.", autocompletion=complete.backbones
        ),
    ],
) -> None:
    """Show every layer: its width and the smallest input it works at."""
    from probe.backbones.catalog import BACKBONES
    from probe.screen import console

    spec, out = BACKBONES[name], console.stdout()
    console.facts(
        out,
        {
            "backbone": spec.name,
            "parameters": f"{spec.parameters:,} with the 1,000-class classifier",
            "input": f"{spec.input_size} x {spec.input_size}",
            "paper": spec.paper,
        },
    )
    kinds = {"map": "map", "gap": "global average", "vector": "fully connected, after ReLU"}
    rows = [
        [one.name, f"{one.width:,}", kinds[one.kind], str(one.min_size), str(one.max_size or "any")]
        for one in spec.layers
    ]
    console.table(
        out, ["layer", "width", "kind", "smallest input", "largest"], rows, right=(1, 3, 4)
    )


def _as_json(spec: BackboneSpec, at_hand: list[str]) -> dict[str, object]:
    return {
        "name": spec.name,
        "parameters": spec.parameters,
        "input_size": spec.input_size,
        "layers": {layer.name: layer.width for layer in spec.layers},
        "weights_at_hand": at_hand,
        "paper": spec.paper,
    }


def _layers(spec: BackboneSpec) -> str:
    groups = []
    for width, members in groupby(spec.layers, key=lambda layer: layer.width):
        names = [layer.name for layer in members]
        span = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        groups.append(f"{span} {width}")
    return ", ".join(groups)
