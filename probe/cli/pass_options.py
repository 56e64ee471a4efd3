"""Options of commands that start, or speak of, a forward pass."""

from __future__ import annotations

from typing import Annotated

import typer

BackboneName = Annotated[
    str, typer.Option("--backbone", help="A name; `probe backbones list` has them all.")
]
Weights = Annotated[
    str,
    typer.Option(
        help="A file, a name from `probe weights list`, auto (what is at hand) or random:SEED."
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="What the weights were trained on: a name or a JSON file. Known weights bring it."
    ),
]
LayerNames = Annotated[
    str | None,
    typer.Option(
        help="Where to cut; a,b fills two entries from one pass.",
        show_default="the last before the classifier",
    ),
]
PoolName = Annotated[
    str | None,
    typer.Option(
        help="How a map is reduced: avg, max, flatten or none.", show_default="avg for maps"
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1, help="Side of the network's input in pixels.", show_default="the weights' own"
    ),
]
SplitNames = Annotated[
    str | None, typer.Option(help="Only these splits: train, val, test.", show_default="all")
]
PerClass = Annotated[
    int | None, typer.Option(min=1, help="At most N images of each class and split.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most N images of each split, over all classes.")
]
Coarse = Annotated[bool, typer.Option("--coarse", help="cifar100: the 20 superclasses.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out and list images that cannot be read.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", "-b", min=1, help="Images a forward pass.", show_default="by input size"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, help="Threads that decode.", show_default="cores, at most 8"
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:1.")]
Dtype = Annotated[str, typer.Option(help="What is stored: float32 or float16.")]
Views = Annotated[
    str,
    typer.Option(
        help="Augmented copies of each image beside the plain one: none, flip (2 views) or "
        "crops5 (5)."
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Hash all images again, whatever their sizes and times say of them."
    ),
]
