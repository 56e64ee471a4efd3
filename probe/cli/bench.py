"""`probe bench`: which backbone to take, by how much, how sure that is, and what it costs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.extract import interruptible
from probe.cli.head_options import MetricName
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.cli.pass_options import (
    BatchSize,
    Coarse,
    Device,
    Dtype,
    Limit,
    PerClass,
    PoolName,
    ResizeName,
    SkipBad,
    Workers,
    default_workers,
    words,
)
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.bench.candidates import Candidate
    from probe.bench.work import BenchRequest
    from probe.cache.store import Entry, Store
    from probe.extraction.request import Request

Backbones = Annotated[
    list[str],
    typer.Option(
        "--backbone", "--backbones", autocompletion=complete.backbones,
        help="What to compare, with commas between: "
        "NAME[/LAYER[+LAYER][:POOL]][@SIZE[:RESIZE]][=WEIGHTS], as vgg16@32,vgg16@64:pad,"
        "resnet18@32=random:0; or the name of an entry that `cache import` made, or its beginning.",
    ),
]  # fmt: skip
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset", "-d", autocompletion=complete.datasets,
        help="A name (`probe dataset list`), a folder of class folders or a list (.csv); repeat "
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
            help="A column of the list with what each image counts in the fits, as in `probe "
            "head`; comparisons count every image once.",
        ),
    ] = None,
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
    from probe.bench.candidates import Candidate, Defaults, assignments, candidates
    from probe.bench.given import named_entry
    from probe.bench.record import Protocol
    from probe.bench.work import BenchRequest
    from probe.cache.store import Store
    from probe.extraction.request import Request
    from probe.heads import HEADS

    folder, command = cache_folder(cache_dir), "probe " + shlex.join(sys.argv[1:])
    texts = [text for option in backbones for text in option.split(",")]
    store = Store(folder)
    given = {text: entry for text in texts if (entry := named_entry(text, store)) is not None}
    named = [text for text in texts if text not in given]
    asked: list[Candidate] = []
    if named or not given:
        asked = candidates(
            named,
            Defaults(
                sizes=_numbers("--size", sizes),
                resize=resize,
                layers=words(layers),
                weights=assignments("--weights", weights or [], named),
                preprocess=assignments("--preprocess", preprocess or [], named),
                mean=assignments("--mean", mean or [], named),
            ),
        )
    elif useless := [
        option
        for option, value in {
            "--size": sizes, "--resize": resize, "--layer": layers, "--pool": pool,
            "--weights": weights, "--preprocess": preprocess, "--mean": mean,
        }.items()
        if value
    ]:  # fmt: skip
        raise UsageError(f"{', '.join(useless)}: entries hold features already; leave it out")
    entries = {entry.name: entry for entry in given.values()}
    asked += [Candidate(backbone=one.key.backbone, entry=name) for name, one in entries.items()]
    datasets = _datasets(dataset or [], named, entries)
    if not dataset and (
        of_images := [
            option
            for option, value in {
                "--dataset-root": dataset_root, "--per-class": per_class, "--limit": limit,
                "--coarse": coarse, "--skip-bad": skip_bad,
            }.items()
            if value
        ]
    ):  # fmt: skip
        raise UsageError(
            f"{', '.join(of_images)}: speaks of images, and entries alone are compared on all of "
            "their rows; leave it out, or give --dataset"
        )
    roots = _roots(datasets, dataset_root or [])
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
                    resize=one.resize,
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
        for name in dict.fromkeys(datasets)
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
            metric=_metric(metric),
            sample_weight=sample_weight,
        ),
        concat=tuple(() if text == "all" else _parts(text, store) for text in concat or []),
        pca=_numbers("--pca", pca),
        group=tuple(group or ()),
        command=command,
    )
    _run(request, requests, of_images=bool(dataset), dry_run=dry_run, as_json=as_json)


def _run(
    request: BenchRequest,
    requests: list[list[tuple[Candidate, Request]]],
    *,
    of_images: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from probe.bench import given
    from probe.bench.fitting import check_protocol
    from probe.bench.plan import make_plan
    from probe.bench.work import check_request, run_bench
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.cli import bench_screen
    from probe.core.plain import to_plain
    from probe.extraction.request import requested_dataset
    from probe.runs.grouping import related_images
    from probe.screen import console
    from probe.screen.benches import BenchScreen

    metrics = {}
    references: list[given.Reference | None] = []
    store = Store(request.cache_dir)
    for passes in requests:
        # a dataset that is not there, or cannot be split, is no backbone's failure
        rows, named = None, [one.entry for one, _ in passes if one.entry is not None]
        if of_images:
            images = requested_dataset(passes[0][1])
            labels = {name: split.labels for name, split in images.splits.items()}
            related = related_images(images.splits, request.group, passes[0][1].dataset)
            if named:
                rows = given.reference_of_images(images, passes[0][1].dataset)
        else:
            rows = given.reference_of_entry(join(store, store.choose(named[0])))
            labels = {name: one.labels for name, one in rows.splits.items()}
            related = given.related_given(rows, request.group)
        check_protocol(request.protocol, labels, related)
        several = any(one.ndim == 2 for one in labels.values())
        metrics["map" if several else request.protocol.metric] = (
            images.name if of_images else passes[0][1].dataset
        )
        references.append(rows)
    _require_one_kind(metrics)
    protocol = replace(request.protocol, metric=next(iter(metrics)))
    request = replace(request, protocol=protocol)
    with interruptible():
        screen = BenchScreen()
        plan = make_plan(requests, store, references=references, on_pass=screen.measuring)
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


def _require_one_kind(metrics: Mapping[str, str]) -> None:
    """Refuse datasets that are ranked by different figures; a dataset's name a metric is given."""
    if len(metrics) > 1:
        one = next(name for metric, name in metrics.items() if metric != "map")
        raise UsageError(
            f"images of {metrics['map']} may have several labels, those of {one} have one: they "
            "are ranked by other figures; give each kind a bench of its own"
        )


def _metric(name: str) -> str:
    """Return what the figures call a metric."""
    from probe.heads.grid import CHOICE_METRICS

    if name not in CHOICE_METRICS:
        raise UsageError(f"--metric {name}: it is one of {', '.join(CHOICE_METRICS)}")
    return CHOICE_METRICS[name]


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    found = []
    for word in words(text):
        if not word.isdecimal() or int(word) < 1:
            raise UsageError(f"{option} {text}: give whole numbers above 0, as 32,64")
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def _datasets(dataset: list[str], named: list[str], entries: Mapping[str, Entry]) -> list[str]:
    """Return the datasets; where entries are alone, what the first one is of."""
    if dataset:
        return dataset
    if any(text.strip() for text in named):
        raise UsageError(
            f"--dataset: {named[0].strip()} needs images; give a name, a folder of class folders "
            "or a list (.csv)"
        )
    return [next(iter(entries.values())).dataset]


def _parts(text: str, store: Store) -> tuple[str, ...]:
    """Return the candidates of a concat; a layer may be named, one each, or an entry."""
    from probe.bench.given import named_entry

    parts = [part.strip() for part in text.split("+") if part.strip()]
    found = [named_entry(part, store) for part in parts]
    return tuple(part if one is None else one.name for part, one in zip(parts, found, strict=True))


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
