"""`probe bench`: compare backbones, with intervals, paired tests and costs."""

from __future__ import annotations

from typing import Annotated

import typer

from probe.cli import complete
from probe.cli.extract import interruptible
from probe.cli.options import AsJson, CacheDir, Group, LogTo, MetricName, Seed, cache_folder
from probe.cli.pass_options import (
    BatchSize,
    Coarse,
    Device,
    Dtype,
    EngineName,
    Limit,
    PerClass,
    PoolName,
    ResizeName,
    SchedulerName,
    SkipBad,
    Workers,
)
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.urls import typed_command

Backbones = Annotated[
    list[str],
    typer.Option(
        "--backbone", "--backbones", autocompletion=complete.backbones,
        help="What to compare, with commas between: "
        "NAME[/LAYER[+LAYER][:POOL]][@SIZE[:RESIZE]][=WEIGHTS], as vgg16@32,vgg16@64:pad,"
        "resnet18@32=random:0; an ONNX file; or the name of an entry that `cache import` made, or "
        "its beginning.",
    ),
]  # fmt: skip
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset", "-d", autocompletion=complete.datasets,
        help="A name (`probe dataset list`), a folder, a list, a file of images or a URL; repeat "
        "it for several. Entries alone need none: they are compared on the first one's rows.",
    ),
]  # fmt: skip
Roots = Annotated[
    list[str] | None,
    typer.Option(
        help="Where a named dataset's files lie: NAME=DIR, or DIR where only one has a name.",
        show_default="CACHE/datasets/NAME",
    ),
]
WeightsOf = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE: weights of a backbone where --backbones does not say, or FILE alone "
        "where there is one backbone; repeat it.",
        show_default="what is at hand",
    ),
]
PreprocessOf = Annotated[
    list[str] | None,
    typer.Option(help="NAME=SPEC: what its weights were trained on; known weights bring it."),
]
MeanOf = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE.binaryproto: a mean image of Caffe's, whose channels' means replace those "
        "of the preprocessing."
    ),
]
Concat = Annotated[
    list[str] | None,
    typer.Option(
        help="A row of features side by side: vgg16@64+efficientnet_lite0, or all; repeat it."
    ),
]


@takes_reading
def bench(
    backbones: Backbones,
    dataset: Datasets = None,
    dataset_root: Roots = None,
    heads: Annotated[
        str,
        typer.Option(
            "--head", "--heads", metavar="NAME,...", autocompletion=complete.heads,
            help="Heads to fit, with commas between; grids are searched.",
        ),
    ] = "path",
    layers: Annotated[
        str | None,
        typer.Option(
            "--layer", "--layers",
            help="a,b: each backbone takes those of its own, from one pass.",
            show_default="the last before the classifier",
        ),
    ] = None,
    pool: PoolName = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--size", "--sizes", help="Side of the input for all, or several: 32,64.",
            show_default="each weights' own",
        ),
    ] = None,
    resize: ResizeName = None,
    weights: WeightsOf = None,
    preprocess: PreprocessOf = None,
    mean: MeanOf = None,
    concat: Concat = None,
    pca: Annotated[
        str | None, typer.Option(help="Another row after a PCA to this width, or several: 64,256.")
    ] = None,
    val_size: Annotated[
        float,
        typer.Option(min=0, help="Part of the training rows held out, a fraction or a number."),
    ] = 0.3,
    folds: Annotated[
        int, typer.Option(min=0, help="Compare out-of-fold predictions of so many folds instead.")
    ] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Draw the folds so many times.")] = 1,
    group: Group = None,
    metric: Annotated[
        MetricName,
        typer.Option(help="What heads are chosen, and rows ranked and tested by."),
    ] = "top1",
    sample_weight: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of the table with what each image counts in the fits, as in `probe "
            "head`; comparisons count every image once.",
        ),
    ] = None,
    per_class: PerClass = None,
    limit: Limit = None,
    coarse: Coarse = False,
    skip_bad: SkipBad = False,
    reading: ReadOptions = AS_IT_IS,
    seed: Seed = 42,
    batch_size: BatchSize = None,
    workers: Workers = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    scheduler: SchedulerName = None,
    dtype: Dtype = "float32",
    race: Annotated[
        bool,
        typer.Option(
            "--race",
            help="Compare on samples first, and run on all images only what can still win.",
        ),
    ] = False,
    risk: Annotated[
        float | None,
        typer.Option(
            help="How likely the race may drop the best by chance, over all its samples.",
            show_default="0.05",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Race, and be done in 2h, 90m or 45s; what does not fit is left out, and named.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and stop.")
    ] = False,
    log: LogTo = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compare backbones on your images, under one protocol and on the same rows.

    Missing features are extracted, heads are fitted, and paired tests say which differences are
    real. The winner comes from validation or out-of-fold rows; test figures choose nothing. Images
    that may have several labels are ranked by mean average precision. Interrupt it at any time:
    the same command does only what is missing.
    """
    from probe.bench.options import BenchOptions
    from probe.cli import bench_screen
    from probe.core.plain import to_plain
    from probe.runs.listeners import listeners_of
    from probe.screen import console
    from probe.screen.benches import plan_shown, run_shown

    options = BenchOptions(
        backbones=backbones, dataset=dataset, dataset_root=dataset_root, heads=heads,
        layer=layers, pool=pool, size=sizes, resize=resize, weights=weights,
        preprocess=preprocess, mean=mean,
        concat=concat, pca=pca, val_size=val_size, folds=folds, repeats=repeats, group=group,
        metric=metric, sample_weight=sample_weight, per_class=per_class, limit=limit,
        coarse=coarse, skip_bad=skip_bad, reading=reading, seed=seed, batch_size=batch_size,
        workers=workers,
        engine=engine, device=device, scheduler=scheduler, dtype=dtype, race=race, risk=risk,
        budget=budget,
    )  # fmt: skip
    listeners = listeners_of(log)
    with interruptible():
        request, plan = plan_shown(options, cache_folder(cache_dir), typed_command())
        if not dry_run:
            folder, made = run_shown(request, plan, listeners)
    if dry_run:
        if as_json:
            console.print_json(bench_screen.plan_object(plan))
        raise typer.Exit(any(one.reason for passes in plan.passes for one in passes))
    if as_json:
        console.print_json({**to_plain(made), "folder": str(folder)})
    else:
        bench_screen.show(made, folder)
    raise typer.Exit(1 if made.failed else 0)
