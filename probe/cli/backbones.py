"""`probe backbones`: list and show the backbones."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, cache_folder

if TYPE_CHECKING:
    from probe.backbones.foreign import OnnxBackbone
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
    console.table(console.stdout(), columns, rows, right=(1, 2), fold=(3,))


@app.command(cls=Command, name="show")
def show_backbone(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from `probe backbones list`, an ONNX file or a folder with one.",
            autocompletion=complete.backbones,
        ),
    ],
    cache_dir: CacheDir = None,
) -> None:
    """Show every layer: its width and the smallest input it works at.

    Of an ONNX file these are the values that all information passes through; --layer takes any
    other of its values, too.
    """
    from probe.backbones.foreign import OnnxBackbone
    from probe.core.memo import Memo
    from probe.screen import console
    from probe.weights import backbone_called

    spec = backbone_called(name, Memo(cache_folder(cache_dir) / "memo.sqlite"))
    out = console.stdout()
    if isinstance(spec, OnnxBackbone):
        _show_network(spec)
        return
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


def _show_network(spec: OnnxBackbone) -> None:
    from probe.backbones.spec import resolve_pool
    from probe.screen import console

    out, images = console.stdout(), spec.model.images
    order = "(N, S, S, 3)" if images.channels_last else "(N, 3, S, S)"
    facts = {
        "backbone": spec.name,
        "file": console.place(spec.path or Path()),
        "parameters": f"{spec.parameters:,}",
        "input": f"{images.name} {order}, "
        + (f"{images.side} x {images.side}" if images.side else "any size"),
        "preprocessing": f"{spec.published.describe()}  [{spec.published_by}]"
        if spec.published
        else spec.refused or "unknown; give it with --preprocess",
    }
    if spec.batch is not None:
        count = "one image" if spec.batch == 1 else f"{spec.batch} images"
        facts["note"] = f"takes {count} at a time, as it was exported"
    if len(spec.classes):
        facts["classes"] = f"{len(spec.classes):,}"
    console.facts(out, facts)
    shapes = spec.row_shapes([one.name for one in spec.layers], spec.input_size)
    rows = []
    for one in spec.layers:
        said = str(one.kind)
        if one.own_tokens:
            said += " with a class token"
        if one.own_tokens > 1:
            said += f" and {one.own_tokens - 1} more"
        rows.append(
            [
                one.name + (" *" if one.name == spec.usual_layer else ""),
                " x ".join(map(str, shapes[one.name])),
                said,
                resolve_pool(one, None),
            ]
        )
    console.table(out, ["layer", "shape", "kind", "--pool"], rows, right=(1,), fold=(0,))
    usual = f"* {spec.usual_layer}, where --layer names none"
    console.stderr().print(usual if spec.usual_layer else "several outputs: name one with --layer")


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
