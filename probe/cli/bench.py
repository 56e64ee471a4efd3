"""`probe bench`: which backbone to take, by how much, how sure that is, and what it costs."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.cli.pass_options import (
    BatchSize,
    Coarse,
    Device,
    Dtype,
    Limit,
    PerClass,
    PoolName,
    SkipBad,
    Workers,
    default_workers,
    words,
)
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.bench.candidates import Candidate
    from probe.bench.work import BenchRequest
    from probe.request import Request

Backbones = Annotated[
    list[str],
    typer.Option(
        "--backbones", "--backbone",
        help="What to compare, with commas between: NAME[/LAYER[+LAYER][:POOL]][@SIZE][=WEIGHTS], "
        "as vgg16@32,vgg16@64,resnet18@32=random:0.",
    ),
]  # fmt: skip
Datasets = Annotated[
    list[str],
    typer.Option(
        "--dataset", "-d",
        help="A name (`probe dataset list`), a folder of class folders or a list (.csv); repeat "
        "it for several.",
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


def bench(
    backbones: Backbones,
    dataset: Datasets,
    dataset_root: Roots = None,
    heads: Annotated[
        str, typer.Option(help="Heads to fit, with commas between; grids are searched.")
    ] = "path",
    layers: Annotated[
        str | None,
        typer.Option(
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
    per_class: PerClass = None,
    limit: Limit = None,
    coarse: Coarse = False,
    skip_bad: SkipBad = False,
    seed: Seed = 42,
    batch_size: BatchSize = None,
    workers: Workers = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and stop.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compare backbones on your images, under one protocol and on the same rows.

    Missing features are extracted, heads are fitted, and paired tests say which differences are
    real. The winner comes from validation or out-of-fold rows; test figures choose nothing. Images
    that may have several labels are ranked by mean average precision. Interrupt it at any time:
    the same command does only what is missing.
    """
    from probe.bench.candidates import Defaults, assignments, candidates
    from probe.bench.work import BenchRequest
    from probe.heads import HEADS
    from probe.outcome import Protocol
    from probe.request import Request

    folder, command = cache_folder(cache_dir), "probe " + shlex.join(sys.argv[1:])
    texts = [text for option in backbones for text in option.split(",")]
    asked = candidates(
        texts,
        Defaults(
            sizes=_numbers("--size", sizes),
            layers=words(layers),
            weights=assignments("--weights", weights or [], texts),
            preprocess=assignments("--preprocess", preprocess or [], texts),
            mean=assignments("--mean", mean or [], texts),
        ),
    )
    roots = _roots(dataset, dataset_root or [])
    requests = [
        [
            (
                one,
                Request(
                    backbone=one.backbone,
                    dataset=name,
                    dataset_root=roots.get(name),
                    weights=one.weights or "auto",
                    preprocess=one.preprocess,
                    mean=one.mean,
                    layers=one.layers,
                    pool=one.pool or pool,
                    size=one.size,
                    per_class=per_class,
                    limit=limit,
                    coarse=coarse and name == "cifar100",
                    skip_bad=skip_bad,
                    seed=seed,
                    batch_size=batch_size,
                    workers=workers or default_workers(),
                    device=device,
                    dtype=dtype,
                    cache_dir=folder,
                    command=command,
                ),
            )
            for one in asked
        ]
        for name in dict.fromkeys(dataset)
    ]
    request = BenchRequest(
        cache_dir=folder,
        protocol=Protocol(
            heads=tuple(HEADS[name].name for name in dict.fromkeys(words(heads)) or ("path",)),
            split="oof" if folds else "val",
            val_size=0.0 if folds else val_size,
            folds=folds,
            repeats=repeats,
            seed=seed,
        ),
        concat=tuple(() if text == "all" else _parts(text) for text in concat or []),
        pca=_numbers("--pca", pca),
        group=tuple(group or ()),
        command=command,
    )
    _run(request, requests, dry_run=dry_run, as_json=as_json)


def _run(
    request: BenchRequest,
    requests: list[list[tuple[Candidate, Request]]],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from probe.bench.fitting import check_protocol
    from probe.bench.plan import make_plan
    from probe.bench.work import check_request, run_bench
    from probe.cache.store import Store
    from probe.cli import bench_screen, console
    from probe.cli.screen import interruptible
    from probe.grouping import related_images
    from probe.plain import to_plain
    from probe.request import requested_dataset

    metrics = {}
    for passes in requests:
        # a dataset that is not there, or cannot be split, is no backbone's failure
        images = requested_dataset(passes[0][1])
        labels = {name: split.labels for name, split in images.splits.items()}
        related = related_images(images.splits, request.group, passes[0][1].dataset)
        check_protocol(request.protocol, labels, related)
        metrics["map" if images.multilabel else "top1"] = images.name
    if len(metrics) > 1:
        raise UsageError(
            f"images of {metrics['map']} may have several labels, those of {metrics['top1']} have "
            "one: they are ranked by other figures; give each kind a bench of its own"
        )
    protocol = replace(request.protocol, metric=next(iter(metrics)))
    request = replace(request, protocol=protocol)
    with interruptible():
        screen = bench_screen.BenchScreen()
        plan = make_plan(requests, Store(request.cache_dir), on_pass=screen.measuring)
        check_request(request, plan)
        screen.plan(plan, request)
        if not dry_run:
            plan.check_disk(request.cache_dir)
            folder, made = run_bench(request, plan, screen)
    if dry_run:
        if as_json:
            console.print_json(bench_screen.plan_object(plan))
        raise typer.Exit(any(one.reason for passes in plan.passes for one in passes))
    if as_json:
        console.print_json({**to_plain(made), "folder": str(folder)})
    else:
        bench_screen.show(made, folder)
    raise typer.Exit(1 if made.failed else 0)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    found = []
    for word in words(text):
        if not word.isdecimal() or int(word) < 1:
            raise UsageError(f"{option} {text}: give whole numbers above 0, as 32,64")
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def _parts(text: str) -> tuple[str, ...]:
    """Return the candidates of a concat; a layer may be named, one each."""
    return tuple(part.strip() for part in text.split("+") if part.strip())


def _roots(datasets: list[str], texts: list[str]) -> dict[str, Path]:
    """Return the folder of each dataset that was given one."""
    from probe.datasets import DATASETS

    named = [name for name in datasets if name in DATASETS]
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name in named:
            found[name] = Path(value)
        elif len(named) == 1:
            found[named[0]] = Path(text)
        else:
            raise UsageError(f"--dataset-root {text}: say whose, as cifar10={text}")
    return found
