"""The options of `probe promote`, by what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from probe.cli import complete
from probe.finetune.options import BatchNorm, OptimizerName, Sampling, ScheduleName, Start

START, LEARNS, STEPS = "Where it starts", "What learns, and how fast", "Steps"
IMAGES, WATCH = "Images", "Watching, comparing, resuming"

Run = Annotated[
    Path | None,
    typer.Argument(
        help="A run's folder, its name or the beginning of its name.",
        show_default="the newest run, or the winner of a bench made after it",
        autocompletion=complete.runs,
    ),
]
StartName = Annotated[
    Start,
    typer.Option(
        "--start", rich_help_panel=START,
        help="probe: the fitted head on its backbone's weights; fresh: a head of random weights "
        "(Xavier) on them; scratch: random weights everywhere.",
    ),
]  # fmt: skip
Weights = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=START,
        help="Where the weights are now.",
        show_default="where extract found them",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=START,
        help="Where the images are now.",
        show_default="where extract found them",
    ),
]
Freeze = Annotated[
    str,
    typer.Option(
        rich_help_panel=LEARNS,
        help="none, backbone (the last layer alone learns), or a layer: it and all below it stay.",
    ),
]
Unfreeze = Annotated[
    str,
    typer.Option(
        rich_help_panel=LEARNS, metavar="EPOCH:LAYER,...", show_default=False,
        help="Free more from an epoch on, as in --freeze backbone --unfreeze 2:pool4,4:none.",
    ),
]  # fmt: skip
BackboneMult = Annotated[
    float, typer.Option(min=0, rich_help_panel=LEARNS, help="Factor on --lr for the backbone.")
]
HeadMult = Annotated[
    float, typer.Option(min=0, rich_help_panel=LEARNS, help="Factor on --lr for the head.")
]
LayerDecay = Annotated[
    float,
    typer.Option(
        rich_help_panel=LEARNS, help="A factor more for each layer further from the head, 0 to 1."
    ),
]
LrMult = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=LEARNS, metavar="PATTERN=FACTOR",
        help="Factor for layers or parameters of that name, as in 'conv1_*=0'; repeatable.",
    ),
]  # fmt: skip
Bn = Annotated[
    BatchNorm | None,
    typer.Option(
        rich_help_panel=LEARNS,
        help="BatchNorm's statistics: frozen (as stored) or moving (the batch's).",
        show_default="frozen; moving from scratch",
    ),
]
Epochs = Annotated[int, typer.Option(min=1, rich_help_panel=STEPS)]
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, rich_help_panel=STEPS, help="Images a batch.")
]
Accumulate = Annotated[int, typer.Option(min=1, rich_help_panel=STEPS, help="Batches a step.")]
Optimizer = Annotated[
    OptimizerName,
    typer.Option(
        rich_help_panel=STEPS,
        help="sgd has MXNet's momentum rule: past steps keep their rates, so "
        "that under a schedule it differs from torch's.",
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=STEPS, help="Highest step size.",
        show_default="0.001 for sgd, 0.0001 for adam and adamw",
    ),
]  # fmt: skip
Momentum = Annotated[float, typer.Option(rich_help_panel=STEPS, help="Of sgd.")]
Wd = Annotated[
    float,
    typer.Option(min=0, rich_help_panel=STEPS, help="Weight decay, never on biases and norms."),
]
Schedule = Annotated[
    ScheduleName,
    typer.Option(
        rich_help_panel=STEPS, help="How the learning rate falls; step: to a tenth at 1/2 and 3/4."
    ),
]
Warmup = Annotated[
    float, typer.Option(min=0, rich_help_panel=STEPS, help="Epochs of a linear rise.")
]
Clip = Annotated[
    float, typer.Option(min=0, rich_help_panel=STEPS, help="Largest gradient norm; 0: any.")
]
Ema = Annotated[
    float,
    typer.Option(
        rich_help_panel=STEPS,
        help="Decay a step of an average of the weights, which is then what is kept; 0: none.",
    ),
]
Smoothing = Annotated[
    float, typer.Option(rich_help_panel=STEPS, help="Part of a target spread over all classes.")
]
Augment = Annotated[
    str,
    typer.Option(
        rich_help_panel=IMAGES,
        help="auto (flip, unless the probe errs on mirrored images), none, light (flip,crop), "
        "medium (+ jitter), strong (flip,crop,rand,erase), or a list of flip, crop=P, "
        "resized-crop=A, jitter=S, hue=H, lighting=S, rand=NxM, erase=P. "
        "Training images only.",
    ),
]
Mixup = Annotated[
    float, typer.Option(min=0, rich_help_panel=IMAGES, help="Alpha of mixup; 0: none.")
]
TrainSizes = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=IMAGES, metavar="28,32,36", show_default="that of the features",
        help="Sides that training images are drawn from, one for a batch.",
    ),
]  # fmt: skip
SamplingOption = Annotated[
    Sampling,
    typer.Option(
        rich_help_panel=IMAGES,
        help="How training images are drawn; balanced: classes equally often.",
    ),
]
SamplingWeights = Annotated[
    Path | None,
    typer.Option(
        "--sampling-weights",
        rich_help_panel=IMAGES, help="CSV of `id,weight` for --sampling weighted.", dir_okay=False,
        exists=True,
    ),
]  # fmt: skip
Ohem = Annotated[
    float,
    typer.Option(
        rich_help_panel=IMAGES, help="Part of a batch, the hardest images, that is learnt from."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, rich_help_panel=IMAGES, help="Threads that decode.",
        show_default="cores, at most 8",
    ),
]  # fmt: skip
MaxMemory = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=IMAGES,
        help="What the process may take, as 1GB or 2GiB: a batch that does not fit is computed in "
        "parts whose gradients are added up, which is the same step.",
        show_default="as much as whole batches take",
    ),
]
ShowBatch = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=IMAGES, metavar="FILE.png", dir_okay=False,
        help="Draw the first batch as the network sees it, and stop.",
    ),
]  # fmt: skip
Patience = Annotated[
    int,
    typer.Option(
        min=0, rich_help_panel=WATCH, help="Stop after so many epochs without a better one."
    ),
]
Compare = Annotated[
    str,
    typer.Option(
        rich_help_panel=WATCH, metavar="fresh,scratch,last-layer", show_default=False,
        help="Train these controls too, on the same images in the same order.",
    ),
]  # fmt: skip
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", rich_help_panel=WATCH, help="Write TensorBoard's events.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", rich_help_panel=WATCH, help="Check, estimate, advise, and stop."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", rich_help_panel=WATCH,
        help="Go on with an interrupted run: RUN, or the newest such. Its own options hold.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(rich_help_panel=WATCH, help="Folder of the run.", show_default="CACHE/runs/ID"),
]
