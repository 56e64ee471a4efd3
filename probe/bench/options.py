"""What `probe bench` is told, with its defaults, and what follows: passes and a protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path

from probe.backbones.spec import BackboneSpec
from probe.bench import given
from probe.bench.candidates import Candidate, Defaults, assignments, candidates
from probe.bench.fitting import check_protocol
from probe.bench.race import RaceOptions
from probe.bench.record import Protocol
from probe.bench.work import BenchRequest
from probe.cache.joining import join
from probe.cache.store import Entry, Store
from probe.core.options import Counts, Words, counts, read_seconds, texts, words
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.datasets import DATASETS, Dataset
from probe.datasets.head_check import require_labels
from probe.errors import UsageError
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL, task_by_metric, task_of_splits
from probe.extraction.request import Request, requested_dataset
from probe.heads import HEADS
from probe.heads.grid import CHOICE_METRICS
from probe.runs.grouping import related_images

Passes = list[tuple[Candidate, Request]]
Assignments = str | Sequence[str] | Mapping[str, str | PathLike[str]] | None


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of `probe bench`; those of the same names say what each means.

    Where the command line has ``a,b`` or ``NAME=VALUE``, Python may have a sequence or a mapping.
    """

    backbones: str | BackboneSpec | Sequence[str | BackboneSpec]
    dataset: str | Dataset | Sequence[str | Dataset] | None = None
    dataset_root: Assignments = None
    heads: Words = "path"
    layer: Words = None
    pool: str | None = None
    size: Counts = None
    resize: str | None = None
    weights: Assignments = None
    preprocess: Assignments = None
    mean: Assignments = None
    concat: str | Sequence[str] | None = None
    pca: Counts = None
    val_size: float = 0.3
    folds: int = 0
    repeats: int = 1
    group: str | Sequence[str] | None = None
    metric: str = "top1"
    sample_weight: str | None = None
    per_class: int | None = None
    limit: int | None = None
    coarse: bool = False
    skip_bad: bool = False
    reading: ReadOptions = AS_IT_IS
    seed: int = 42
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"
    device: str = "auto"
    scheduler: str | None = None
    dtype: str = "float32"
    race: bool = False
    risk: float | None = None
    budget: str | float | None = None

    def read(self, cache_dir: Path, command: str) -> tuple[BenchRequest, list[Passes]]:
        """Return the request, and for each dataset its passes.

        Raises
        ------
        ProbeError
            A candidate, a dataset or a head is unknown, or options do not go together.
        """
        store, (objects, asked_for) = Store(cache_dir), _told_apart(self.backbones)
        entries = {text: found for text in asked_for if (found := given.named_entry(text, store))}
        named = [text for text in asked_for if text not in entries]
        asked = [Candidate(backbone=one.name, network=one) for one in objects]
        if named or not objects:
            asked += self._candidates(named, alone=bool(entries) and not named)
        asked += [
            Candidate(backbone=one.key.backbone, entry=one.name)
            for one in {entry.name: entry for entry in entries.values()}.values()
        ]
        datasets = self._datasets(named, list(entries.values()))
        roots = _roots([one for one in datasets if isinstance(one, str)], self.dataset_root)
        passes = [
            [(one, self._pass(one, each, roots, cache_dir, command)) for one in asked]
            for each in datasets
        ]
        heads = tuple(HEADS[name].name for name in dict.fromkeys(words(self.heads)) or ("path",))
        protocol = Protocol(
            heads=heads,
            split="oof" if self.folds else "val",
            val_size=0.0 if self.folds else self.val_size,
            folds=self.folds,
            repeats=self.repeats,
            seed=self.seed,
            metric=_metric(self.metric),
            sample_weight=self.sample_weight,
        )
        request = BenchRequest(
            race=self._race(),
            cache_dir=cache_dir,
            protocol=protocol,
            concat=tuple(
                () if text == "all" else _parts(text, store) for text in texts(self.concat)
            ),
            pca=counts("--pca", self.pca),
            group=texts(self.group),
            scheduler=self.scheduler,
            command=command,
        )
        return request, passes

    def _race(self) -> RaceOptions | None:
        """Return what a race is told; None where there is none."""
        budget = read_seconds("--budget", self.budget)
        if not self.race and budget is None:
            if self.risk is not None:
                raise UsageError("--risk is of a race: add --race")
            return None
        risk = RaceOptions.risk if self.risk is None else self.risk
        if not 0 < risk < 1:
            raise UsageError(f"--risk {risk:g}: it is a share between 0 and 1, as 0.05")
        return RaceOptions(risk=risk, budget=budget, began=time.monotonic())

    def _candidates(self, named: list[str], *, alone: bool) -> list[Candidate]:
        """Return the backbones to compare; entries that are alone leave options without a use."""
        of_passes = (
            "size", "resize", "layer", "pool", "weights", "preprocess", "mean", "batch_size",
            "workers", "engine", "device", "scheduler", "dtype",
        )  # fmt: skip
        if not alone:
            defaults = Defaults(
                sizes=counts("--size", self.size),
                resize=self.resize,
                layers=words(self.layer),
                weights=_assigned("--weights", self.weights, named),
                preprocess=_assigned("--preprocess", self.preprocess, named),
                mean=_assigned("--mean", self.mean, named),
            )
            return candidates(named, defaults)
        usual = {one.name: one.default for one in fields(self)}
        if useless := [_option(name) for name in of_passes if getattr(self, name) not in (
            usual[name], None, (), [], {},
        )]:  # fmt: skip
            raise UsageError(f"{', '.join(useless)}: entries hold features already; leave it out")
        return []

    def _datasets(self, named: list[str], entries: Sequence[Entry]) -> list[str | Dataset]:
        """Return the datasets; where entries are alone, what the first one is of."""
        if not self.of_images:
            if any(text.strip() for text in named):
                raise UsageError(
                    f"--dataset: {named[0].strip()} needs images; give a name, a folder of class "
                    "folders or a list (.csv)"
                )
            of_images = ("dataset_root", "per_class", "limit", "coarse", "skip_bad")
            if useless := [_option(name) for name in of_images if getattr(self, name)]:
                raise UsageError(
                    f"{', '.join(useless)}: speaks of images, and entries alone are compared on "
                    "all of their rows; leave it out, or give --dataset"
                )
            return [entries[0].dataset]
        one = self.dataset
        several = [one] if isinstance(one, str | Dataset) else list(one or ())
        distinct: list[str | Dataset] = []
        for each in several:
            if not any(each is other or (isinstance(each, str) and each == other)
                       for other in distinct):  # fmt: skip
                distinct.append(each)
        return distinct

    @property
    def of_images(self) -> bool:
        """Whether a dataset was named; else the rows of entries are compared."""
        return isinstance(self.dataset, Dataset) or bool(self.dataset)

    def _pass(
        self, one: Candidate, dataset: str | Dataset, roots: Mapping[str, Path], cache_dir: Path,
        command: str,
    ) -> Request:  # fmt: skip
        images = None if isinstance(dataset, str) else dataset
        name = dataset if isinstance(dataset, str) else dataset.name
        return Request.of(
            backbone=one.place or one.backbone, network=one.network, dataset=name, images=images,
            dataset_root=roots.get(name),
            weights=one.weights or "auto", preprocess=one.preprocess, mean=one.mean,
            layer=one.layers, pool=one.pool or self.pool, size=one.size, resize=one.resize,
            per_class=self.per_class, limit=self.limit,
            coarse=self.coarse and name == "cifar100", skip_bad=self.skip_bad,
            reading=self.reading, seed=self.seed,
            batch_size=self.batch_size, workers=self.workers, engine=self.engine,
            device=self.device, scheduler=self.scheduler,
            dtype=self.dtype, cache_dir=cache_dir, command=command,
        )  # fmt: skip


def checked(
    request: BenchRequest, every: Sequence[Passes], *, of_images: bool
) -> tuple[BenchRequest, list[Passes], list[given.Reference | None]]:
    """Read each dataset once and refuse what no protocol can follow, before anything runs.

    Returns
    -------
    request : BenchRequest
        With what these images are ranked by.
    passes : list of Passes
        With the images that were read.
    references : list of Reference or None
        The rows of each dataset, where entries were named.
    """
    metrics, references, store = {}, [], Store(request.cache_dir)
    read: list[Passes] = []
    for passes in every:
        # a dataset that is not there, or cannot be split, is no backbone's failure
        rows, named = None, [one.entry for one, _ in passes if one.entry is not None]
        name = passes[0][1].dataset
        if of_images:
            images = requested_dataset(passes[0][1])
            require_labels(images.classes, images.name, "a bench")
            passes = [(one, replace(asked, images=images)) for one, asked in passes]  # noqa: PLW2901
            labels = {name: split.labels for name, split in images.splits.items()}
            related = related_images(images.splits, request.group)
            if named:
                rows = given.reference_of_images(images)
            name = images.name
        else:
            rows = given.reference_of_entry(join(store, store.choose(named[0])))
            require_labels(rows.classes, rows.name, "a bench")
            labels = {name: one.labels for name, one in rows.splits.items()}
            related = given.related_given(rows, request.group)
        check_protocol(request.protocol, labels, related)
        task = task_of_splits(labels.values())
        metrics[task.ranked_by(request.protocol.metric)] = name
        references.append(rows)
        read.append(passes)
    if len(metrics) > 1:
        tasks = {task_by_metric(metric): name for metric, name in metrics.items()}
        several, one = tasks[MULTI_LABEL], tasks[SINGLE_LABEL]
        raise UsageError(
            f"images of {several} may have several labels, those of {one} have one: they "
            "are ranked by other figures; give each kind a bench of its own"
        )
    protocol = replace(request.protocol, metric=next(iter(metrics)))
    return replace(request, protocol=protocol), read, references


def _told_apart(
    value: str | BackboneSpec | Sequence[str | BackboneSpec],
) -> tuple[list[BackboneSpec], tuple[str, ...]]:
    """Return the backbones that were given as objects, and the texts of the others."""
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not all(isinstance(one, str | BackboneSpec) for one in several):
        raise UsageError(f"backbones={value!r}: expected a text, a Backbone, or a list of such")
    objects = [one for one in several if isinstance(one, BackboneSpec)]
    return objects, words([one for one in several if isinstance(one, str)])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _assignment_texts(value: Assignments) -> list[str]:
    """Return the texts ``NAME=VALUE``; a mapping says the same."""
    if isinstance(value, Mapping):
        return [f"{name}={one}" for name, one in value.items()]
    return list(texts(value))


def _assigned(option: str, value: Assignments, named: Sequence[str]) -> dict[str, str]:
    return assignments(option, _assignment_texts(value), named)


def _metric(name: str) -> str:
    """Return what the figures call a metric."""
    if name not in CHOICE_METRICS:
        raise UsageError(f"--metric {name}: it is one of {', '.join(CHOICE_METRICS)}")
    return CHOICE_METRICS[name]


def _parts(text: str, store: Store) -> tuple[str, ...]:
    """Return the candidates of a concat; a layer may be named, one each, or an entry."""
    parts = [part.strip() for part in text.split("+") if part.strip()]
    found = [given.named_entry(part, store) for part in parts]
    return tuple(part if one is None else one.name for part, one in zip(parts, found, strict=True))


def _roots(datasets: Sequence[str], value: Assignments) -> dict[str, Path]:
    """Return the folder of each dataset that was given one."""
    named = [name for name in datasets if name in DATASETS]
    found: dict[str, Path] = {}
    for text in _assignment_texts(value):
        name, equals, place = text.partition("=")
        if equals and name in named:
            found[name] = Path(place)
        elif len(named) == 1:
            found[named[0]] = Path(text)
        else:
            raise UsageError(f"--dataset-root {text}: say whose, as cifar10={text}")
    return found
