"""Find everything that a run is fine-tuned from: its images, its weights and its head.

The validation images are those of the run's predictions; they are not drawn again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import ForeignBackbone
from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.cache.features import FeatureSplit
from probe.cache.joining import Joined, join, parse_features_name
from probe.cache.store import Entry, Store
from probe.core.indexing import rows_of_ids
from probe.core.run_folders import FOLDS, fold_folder
from probe.core.short_repr import short_repr
from probe.datasets import Dataset, Split
from probe.errors import CacheError, DataError, UnknownNameError, UsageError
from probe.evaluation.predictions import Predictions, load_predictions
from probe.evaluation.units import beyond_single
from probe.extraction.request import Prepared, images_of_entry, prepare, repeat
from probe.heads import load_head
from probe.preprocess.spec import PreprocessSpec
from probe.runs.fit import HEAD, TRAIN_HEAD, related_rows
from probe.runs.grouping import groups_of_entry
from probe.runs.memory import Fitting
from probe.runs.results import METRIC_WORDS, RunResult, finished_runs, read_run
from probe.runs.same_classes import require_same_classes

if TYPE_CHECKING:
    from probe.heads.base import LinearHead

log = logging.getLogger(__name__)

PROMOTED = "promoted"
PROMOTABLE = "linear and MLP heads (dense, path, logistic, ridge) can be fine-tuned"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A run that can be fine-tuned, with its images, weights and head.

    Parameters
    ----------
    head : LinearHead
        The head that was fitted on training images only.
    predictions : mapping of split to Predictions
        The probe's predictions of ``val`` and, if there is one, ``test``.
    backbone, layer, pool, preprocess
    parameters : mapping of canonical name to float32 array
        Parameters of the backbone up to `layer`.
    test_content : uint8, (n_test, 16), or None
    dtype : str
        Type of the stored features.
    """

    __repr__ = short_repr

    folder: Path
    result: RunResult
    head: LinearHead
    predictions: Mapping[str, Predictions]
    backbone: BackboneSpec
    layer: Layer
    pool: Pool
    preprocess: PreprocessSpec
    parameters: Mapping[str, NDArray[np.float32]]
    train: Split
    val: Split
    test: Split | None
    test_content: NDArray[np.uint8] | None
    classes: tuple[str, ...]
    dtype: str

    @property
    def name(self) -> str:
        """The run's id."""
        return self.folder.name


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the cache, the images and the weights are.

    Parameters
    ----------
    dataset_root, weights : optional
        Paths of the images or the weights, if they were moved since the run recorded them.
    group : tuple of str
        Columns or files that name groups of images, see `probe.runs.grouping`; by default the
        run's own.
    """

    cache_dir: Path
    dataset_root: Path | None = None
    weights: str | None = None
    group: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A run with its head, and its entry with images and weights, before images are divided.

    Parameters
    ----------
    result : RunResult
    head : LinearHead
    predictions : mapping of split to Predictions
    joined : Joined
        The entry's features.
    splits : mapping of name to Split
        Its images, in the order of the features.
    main : Prepared
        What the entry's network is made of.
    """

    __repr__ = short_repr

    folder: Path
    result: RunResult
    head: LinearHead
    predictions: Mapping[str, Predictions]
    joined: Joined
    splits: Mapping[str, Split]
    main: Prepared

    @cached_property
    def parameters(self) -> Mapping[str, NDArray[np.float32]]:
        """Parameters of the backbone up to the run's layer."""
        cut = self.main.job.cuts[0]
        return self.main.load([(cut.layer, cut.pool)]).parameters

    def source(self, *, train: Split, val: Split, test: Split | None, **own: Any) -> Source:
        """Return the run with these images to learn from, to watch and to score at the end.

        Parameters
        ----------
        **own
            Fields of the source that are not the run's: `result`, `head`, `predictions`.
        """
        cut, entry = self.main.job.cuts[0], self.joined.entry
        content = self.joined.splits["test"].content if test is not None else None
        named: dict[str, Any] = {
            "result": self.result, "head": self.head, "predictions": self.predictions, **own
        }  # fmt: skip
        return Source(
            folder=self.folder, backbone=self.main.backbone, layer=cut.layer, pool=cut.pool,
            preprocess=self.main.preprocess, parameters=self.parameters, train=train, val=val,
            test=test, test_content=content, classes=tuple(entry.classes), dtype=entry.key.dtype,
            **named,
        )  # fmt: skip


def open_run(folder: Path, places: Places, *, held_out: bool = True) -> Opened:
    """Read a run and find its images and weights again.

    Parameters
    ----------
    held_out : bool
        It has to have held images out, to be watched.

    Raises
    ------
    UsageError
        The run cannot be fine-tuned; says why and names the best one that can.
    DataError
        An image is missing or has changed since the run.
    ProbeError
        Weights or images cannot be found.
    """
    result = read_run(folder)
    predictions = load_predictions(folder)
    try:
        head = _head(folder, result, predictions if held_out else None)
    except UsageError as error:
        raise UsageError(f"{error}{_offer(places.cache_dir, result.dataset)}") from error
    joined, prepared = _inputs(result, places)
    require_same_classes(folder, result, joined.entry.classes)
    main = prepared[joined.entry.name]
    if isinstance(main.backbone, ForeignBackbone):
        raise UsageError(
            f"{result.entry}: only backbones of `probe backbones list` can be fine-tuned; "
            f"{main.backbone.name} is from outside, and `probe bundle` makes a model of it as it is"
            f"{_offer(places.cache_dir, result.dataset)}"
        )
    splits = {
        name: prepared[source].dataset.splits[name] for name, source in joined.sources.items()
    }
    return Opened(
        folder=folder, result=result, head=head, predictions=predictions, joined=joined,
        splits=splits, main=main,
    )  # fmt: skip


def open_source(folder: Path, places: Places) -> Source:
    """Return a run that can be fine-tuned, with the images that it held out; see `open_run`."""
    opened = open_run(folder, places)
    result = opened.result
    train, val = _divide(folder, result, opened.splits, opened.predictions["val"])
    related, by = _related(folder, opened.joined, opened.predictions, places.group)
    if by:
        result = replace(result, groups={**(result.groups or {}), "by": by})
    test = opened.splits.get("test") if "test" in opened.predictions else None
    return opened.source(result=result, predictions=related, train=train, val=val, test=test)


def _head(
    folder: Path, result: RunResult, predictions: Mapping[str, Predictions] | None
) -> LinearHead:
    """Return the head to start from; raises UsageError if there is none.

    Where the run's `predictions` are given, it has to have held images out.
    """
    from probe.heads.base import LinearHead

    if result.head == PROMOTED:
        network = fold_folder(folder, 1) if result.params.get(FOLDS) else folder
        raise UsageError(
            f"{folder}: this run is fine-tuned already; to go on from it, run `probe extract "
            f"--weights {network / 'backbone.safetensors'}` and fit a head"
        )
    if predictions is not None and "val" not in predictions:
        raise UsageError(
            f"{folder}: the run held nothing out, so there is nothing to watch and to choose the "
            "best epoch on; fine-tune a network for each of five folds with --folds 5, or fit the "
            "head again with --val-size 0.3 and without --folds"
        )
    path = folder / TRAIN_HEAD
    head = load_head(path if path.exists() else folder / HEAD)
    if not isinstance(head, LinearHead):
        raise UsageError(f"{folder}: a {result.head} head is no layer of a network; {PROMOTABLE}")
    return head


def _offer(cache_dir: Path, dataset: str) -> str:
    """Return a sentence that names the dataset's best run that can be fine-tuned, for an error."""
    store = Store(cache_dir)
    best: tuple[float, str, str] | None = None
    for folder, result in finished_runs(cache_dir / "runs"):
        if result.dataset != dataset:
            continue
        try:
            _head(folder, result, load_predictions(folder))
            key = store.choose(result.entry).key
            if key.views != "none" or key.backbone not in BACKBONES:
                continue
        except (UsageError, UnknownNameError, CacheError, DataError, ValueError):
            continue
        score = result.metrics.get("val", {}).get(result.metric, 0.0)
        if best is None or score > best[0]:
            best = score, folder.name, METRIC_WORDS[result.metric]
    if best is None:
        return ""
    value, name, word = best
    return f". The best run that can be: `probe promote {name}` (val {word} {100 * value:.2f} %)"


def _inputs(result: RunResult, places: Places) -> tuple[Joined, dict[str, Prepared]]:
    store = Store(places.cache_dir)
    entry = _entry(store, result)
    if entry.key.views != "none":
        raise UsageError(
            f"{entry.name}: features of several views ({entry.key.views}) are averaged over them, "
            f"which a network does not do; extract without --views"
            f"{_offer(places.cache_dir, result.dataset)}"
        )
    joined = join(store, entry)
    prepared = {}
    for name in dict.fromkeys([entry.name, *joined.sources.values()]):
        other = store.choose(name)
        asked = repeat(
            other.key, other.provenance, cache_dir=places.cache_dir,
            dataset_root=places.dataset_root, weights=places.weights,
        )  # fmt: skip
        whole = images_of_entry(asked)
        own = {
            split: _checked(whole, split, joined.splits[split])
            for split, source in joined.sources.items()
            if source == name
        }
        prepared[name] = prepare(
            replace(asked, images=replace(whole, splits=own), splits=(), per_class=None, limit=None)
        )
    key = prepared[entry.name].job.cuts[0].key
    if key.parameters != entry.key.parameters:
        raise DataError(
            f"{entry.name}: the weights found now are not those it was extracted with; name the "
            "file with --weights"
        )
    return joined, prepared


def _entry(store: Store, result: RunResult) -> Entry:
    offer = partial(_offer, store.folder.parent, result.dataset)
    entries, pca = parse_features_name(result.entry)
    if len(entries) > 1 or pca:
        raise UsageError(
            f"{result.entry}: features of several backbones, or after a PCA, cannot be fine-tuned; "
            f"`probe bundle` makes a model of them as they are{offer()}"
        )
    try:
        return store.choose(result.entry)
    except (UnknownNameError, CacheError):
        raise UsageError(
            f"{result.entry}: this run's entry is not in {store.folder}; without it, or with "
            f"imported features, there is no network to fine-tune{offer()}"
        ) from None


def _checked(dataset: Dataset, name: str, wanted: FeatureSplit) -> Split:
    """Return the images of a split in the order of their features, checked by content."""
    there = dataset.images_of(name)
    if there is None:
        raise DataError(f"{dataset.name}: has no {name} images any more")
    split = there.same_images(wanted.ids, wanted.content, f"{dataset.name}: {name}")
    return replace(split, labels=wanted.labels)


def _divide(
    folder: Path, result: RunResult, splits: Mapping[str, Split], val: Predictions
) -> tuple[Split, Split]:
    """Return the training images and those that the run held out."""
    own = "val" in splits
    held = splits["val"] if own else splits["train"]
    rows, missing = rows_of_ids(val.ids.tolist(), held.ids)
    if missing:
        raise DataError(
            f"{folder}: its validation image {missing[0]} is not in the entry any more; fit again"
        )
    train = splits["train"]
    if not own:
        train = train.take(np.setdiff1d(np.arange(len(train)), rows))
    if len(train) != result.n_train:
        raise DataError(
            f"{folder}: fitted on {result.n_train} images, the entry now has {len(train)} to train "
            "on; fit the head again"
        )
    return train, held.take(rows)


def _related(
    folder: Path, joined: Joined, predictions: Mapping[str, Predictions], group: Sequence[str]
) -> tuple[Mapping[str, Predictions], str]:
    """Return the predictions with the units of their images, and the name of the groups.

    The run's split is kept, so groups that it divides are refused.
    """
    groups = groups_of_entry(group, joined, fitting=Fitting(solver="path"))
    related = related_rows(joined.splits, groups)
    held = "val" if "val" in joined.splits else "train"
    places = {"val": held, "test": "test"}
    rows = {
        split: rows_of_ids(predictions[split].ids.tolist(), joined.splits[where].ids)[0]
        for split, where in places.items()
        if split in predictions
    }
    units = related.units[held][rows["val"]]
    every = related.units["train"]
    learnt = every if held == "val" else np.delete(every, rows["val"])
    if count := int(np.isin(units, learnt).sum()):
        what = f"of groups ({related.by}) that are trained on, too" if group else (
            "copies of training images"
        )  # fmt: skip
        text = (
            f"{folder}: {count:,} of {len(units):,} validation images are {what}, so the best "
            "epoch would be chosen on images that the network was trained on"
        )
        again = f"fit the head again{f' with --group {group[0]}' if group else ''}"
        if held == "train" and group:
            raise UsageError(f"{text}; {again}")
        log.warning("%s%s", text, f"; {again}" if held == "train" else "")
    found = dict(predictions)
    for split, place in rows.items():
        if group or predictions[split].units is None:
            own = related.units[places[split]][place]
            kept = own if beyond_single(own) else None
            found[split] = replace(predictions[split], units=kept)
    return found, related.by


def describe(source: Source) -> dict[str, Any]:
    """Return what `promotion.json` records of the run that was fine-tuned."""
    return {
        "run": source.name,
        "folder": str(source.folder),
        "head": source.result.head,
        "metrics": {k: dict(v) for k, v in source.result.metrics.items()},
        "seconds": source.result.seconds,
    }
