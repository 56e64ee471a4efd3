"""The functions and results that `import probe` offers.

Each function takes what its command takes, by the options' names and with their defaults, checks it
alike and raises the same errors; the files that it leaves behind are the same. Progress is shown on
a terminal and in a notebook, unless ``quiet=True``. A KeyboardInterrupt passes through: what was
finished is kept, and the same call goes on from there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from probe.core.arguments import as_in, checked, current, nearest
from probe.core.html import Html
from probe.core.machine import AnyPath, state_folder
from probe.core.options import default_workers, texts
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.text import counted
from probe.errors import UnknownNameError, UsageError
from probe.heads.catalog import HEADS

if TYPE_CHECKING:
    from probe.api.bundles import Bundle
    from probe.audit.record import Audit as AuditRecord
    from probe.audit.record import LabelError
    from probe.backbones.spec import BackboneSpec
    from probe.bench.record import Bench as Record
    from probe.bench.record import Row
    from probe.cache.features import FeatureSet
    from probe.datasets.copies import Copies
    from probe.datasets.in_memory import Data
    from probe.evaluation.learning_curve import LearningCurve
    from probe.evaluation.predictions import Predictions
    from probe.finetune.folds import Folds
    from probe.finetune.forecast import Forecast
    from probe.finetune.options import Options
    from probe.finetune.request import PromoteRequest
    from probe.finetune.source import Source
    from probe.preprocess.spec import PreprocessSpec
    from probe.runs.duplicates import NearDuplicate
    from probe.runs.listeners import Log
    from probe.runs.results import RunResult

SHOWN_BYTES = 300_000  # of a picture that is shown inline
SHOWN_ROWS = 30  # of a leaderboard


@checked
def extract(
    dataset: Data,
    backbone: str | BackboneSpec,
    *,
    name: str | None = None,
    dataset_root: str | Path | None = None,
    weights: AnyPath = "auto",
    preprocess: AnyPath | None = None,
    mean: str | Path | None = None,
    layer: str | None = None,
    pool: str | None = None,
    size: int | None = None,
    resize: str | int | None = None,
    split: str | Sequence[str] | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    coarse: bool = False,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    seed: int = 42,
    batch_size: int | None = None,
    workers: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    scheduler: str | None = None,
    dtype: str = "float32",
    views: str = "none",
    strict: bool = False,
    overwrite: bool = False,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> FeatureSet:
    """Run a frozen backbone over a dataset once and keep its features, as `probe extract` does.

    The same call again finds them; whatever moves the numbers makes another entry.

    Parameters
    ----------
    dataset : str, path, (images, labels), mapping, DataFrame or Dataset
        A name, or a path or URL: a folder of class folders, a list (.csv, .tsv), an archive or any
        other form of docs/datasets.md. Of a pair, images are a sequence of paths or URLs, images of
        Pillow's or arrays, or one uint8 array (n, height, width, 3), RGB, or (n, height, width),
        grey; labels are (n,), whole numbers or names, or (n, n_classes) of 0 and 1 where an image
        may have several. A mapping has such a pair for ``train``, ``val`` and ``test``. A frame of
        pandas has the columns of a list: ``path``, ``label``, ``split``.
    backbone : str or Backbone
        A name in `probe.BACKBONES`, an ONNX file, a folder with one, or what
        `probe.Backbone.from_callable` returned.
    name : str, optional
        What images in memory are called. Default: ``images``, with a digest of them.
    dataset_root : path, optional
        Where a named dataset's files lie. Default: ``CACHE/datasets/NAME``. Of a list, the folder
        or URL that its paths are relative to. Default: its own.
    weights : str or path, default="auto"
        A file, a name in `probe.WEIGHTS`, ``auto`` (what is at hand) or ``random:SEED``.
    preprocess : str or path, optional
        What the weights were trained on: a name of probe's or torchvision's, a JSON file of
        probe's, transformers' or timm's, or a folder with one. Known weights bring it.
    mean : path, optional
        A mean image of Caffe's, whose channels' means replace those of the preprocessing.
    layer : str, optional
        Where to cut. Default: the last layer before the classifier. `extract_layers` gives several
        from one pass.
    pool : {"avg", "max", "flatten", "none"}, optional
        How a map is reduced; default avg.
    size : int, optional
        Side of the network's input in pixels. Default: the weights' own.
    resize : {"crop", "squash", "pad"} or int, optional
        How an image becomes square; a number is the shorter side in pixels, of which the middle
        `size` are cut out. Default: as the weights were trained.
    split : str or sequence of str, optional
        Only these of ``train``, ``val`` and ``test``.
    per_class, limit : int, optional
        At most so many images of each class and split; of each split.
    coarse : bool, default=False
        cifar100: the 20 superclasses.
    skip_bad : bool, default=False
        Leave out images that cannot be read, and empty classes.
    reading : ReadOptions, optional
        What the columns of a list mean, and which images are taken.
    seed : int, default=42
        Of `per_class` and `limit`.
    batch_size : int, optional
        Images a forward pass; it moves no number. Default: by input size, and four times as many
        on a GPU.
    workers : int, optional
        Threads that decode. Default: one a core, at most 8.
    engine : {"auto", "onnx", "openvino", "mxnet"}, default="auto"
        What runs the network; see `probe.engines.default_engine`.
    device : str, default="auto"
        ``auto``, ``cpu``, ``gpu``, ``gpu:1``, or ``gpu:0,1`` for batches that go to two in turn;
        with ONNX Runtime also ``cuda`` in the place of ``gpu``, ``dml`` and ``coreml``.
    scheduler : str, optional
        Who decodes and forwards: ``loky:4`` (processes of this machine), ``dask://HOST:PORT`` or
        ``ray://HOST:PORT`` (a cluster, whose workers find the images at the same paths). Default:
        this process.
    dtype : {"float32", "float16"}, default="float32"
        What is stored.
    views : {"none", "flip", "crops5"}, default="none"
        Augmented copies of each image beside the plain one.
    strict : bool, default=False
        Hash all images again, whatever their sizes and times say of them.
    overwrite : bool, default=False
        Forward all images, whatever is at hand.
    cache_dir : path, optional
        State folder. Default: see `probe.core.machine.state_folder`.
    quiet : bool, default=False
        Show no progress.

    Returns
    -------
    FeatureSet
        ``features["train"].as_xy()`` is X, float32 (n, d), and y.

    Raises
    ------
    ProbeError
        A name is unknown, files are missing, weights do not fit, an image cannot be read.
    """
    if layer is not None and "," in layer:
        raise UsageError(f"layer={layer!r}: expected one name; `extract_layers` takes several")
    (made,) = _entries(
        dataset, [] if layer is None else [layer], backbone=backbone, name=name,
        dataset_root=dataset_root, weights=weights, preprocess=preprocess, mean=mean, pool=pool,
        size=size, resize=resize, split=split,
        per_class=per_class, limit=limit, coarse=coarse,
        skip_bad=skip_bad, reading=reading, seed=seed, batch_size=batch_size,
        workers=workers, engine=engine,
        device=device, scheduler=scheduler, dtype=dtype, views=views, strict=strict,
        overwrite=overwrite,
        cache_dir=cache_dir, quiet=quiet,
    )  # fmt: skip
    return made


class Backbone:
    """Backbones that are neither in the catalog nor in a file."""

    @staticmethod
    def from_callable(
        function: Callable[[NDArray[Any]], Any], *, name: str, version: str,
        size: int | None = None, preprocess: PreprocessSpec | str | None = None,
    ) -> BackboneSpec:  # fmt: skip
        """Return a function of yours as a backbone, for `extract`, `bench` and `FrozenBackbone`.

        It is called on two photographs at once, to see that rows depend on their image alone.

        Parameters
        ----------
        function : callable
            From a batch of images to rows (N, D): an array, or a tensor of torch's on any device.
            With `size` it is given uint8 (N, size, size, 3), RGB; with `preprocess` float32
            (N, 3, S, S), normalised.
        name : str
            What it is called in caches and tables.
        version : str
            Stands for its weights and code, which nobody can look into: features of another
            version are others. Change it whenever the function can return other rows.
        size : int, optional
            Side in pixels; the shorter side of an image is brought to it, and the middle cut out.
        preprocess : PreprocessSpec or str, optional
            How images are resized and normalised; a name or a file of `--preprocess`.

        Raises
        ------
        UsageError
            Neither or both of `size` and `preprocess` are given.
        WeightsError
            It gives other rows for the same image, again or among other images.
        EngineError
            It fails, or does not return one row of numbers an image.
        """
        from probe.preprocess.load import load_preprocess
        from probe.weights import backbone_of_function

        spec = load_preprocess(preprocess) if isinstance(preprocess, str) else preprocess
        return backbone_of_function(
            function, name=name, version=version, size=size, preprocess=spec
        )


@checked
def extract_layers(
    dataset: Data, backbone: str | BackboneSpec, layers: Sequence[str], **options: Any
) -> list[FeatureSet]:
    """Keep the features of several layers from one pass, an entry each; see `extract`.

    Parameters
    ----------
    dataset, backbone : as in `extract`
    layers : sequence of str
    **options
        Those of `extract`.
    """
    if isinstance(layers, str) or not layers:
        raise UsageError(f"layers={layers!r}: give a list of names; `extract` takes one")
    return _entries(dataset, layers, backbone=backbone, **options)


def _entries(
    dataset: Data,
    layers: Sequence[str],
    *,
    backbone: str | BackboneSpec,
    name: str | None = None,
    weights: AnyPath = "auto",
    preprocess: AnyPath | None = None,
    overwrite: bool = False,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
    **same: Any,
) -> list[FeatureSet]:
    from probe.cache.store import Store
    from probe.datasets import given_dataset
    from probe.extraction.request import Request, prepare
    from probe.screen import console
    from probe.screen.passes import run_pass

    folder = state_folder(cache_dir)
    with console.quiet(quiet):
        given = given_dataset(dataset, cache_dir=folder, name=name)
        request = Request.of(
            dataset=given if isinstance(given, str) else given.name,
            images=None if isinstance(given, str) else given,
            backbone=backbone if isinstance(backbone, str) else backbone.name,
            network=None if isinstance(backbone, str) else backbone,
            layer=layers, weights=str(weights),
            preprocess=None if preprocess is None else str(preprocess), cache_dir=folder,
            command=current.get().text, **same,
        )  # fmt: skip
        prepared = prepare(request, progress=console.download_bar, keep=True)
        reuse: Literal["entry", "nothing"] = "nothing" if overwrite else "entry"
        return list(run_pass(prepared, Store(folder), reuse=reuse).entries)


@checked
def fit(
    features: FeatureSet | str | None = None,
    head: str | None = None,
    *,
    val_size: float | None = None,
    folds: int = 0,
    repeats: int = 1,
    group: str | Sequence[str] | None = None,
    metric: str = "top1",
    sample_weight: str | None = None,
    seeds: int | None = None,
    refit: bool | None = None,
    ensemble: str | None = None,
    positive: str | None = None,
    recall: float | None = None,
    cost: str | None = None,
    learning_curve: str | int | Sequence[int] | None = None,
    draws: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    max_memory: str | int | None = None,
    seed: int = 42,
    out: str | Path | None = None,
    log: Log = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Fit a head on features and keep the run, as `probe head` does: no image is read.

    Validation is the dataset's own, or else a stratified part of the training rows. The test split,
    where there is one, is scored once, at the end; each time is counted.

    Parameters
    ----------
    features : FeatureSet or str, optional
        Or an entry's name, or its beginning. Default: the newest entry, controls with
        random weights left out.
    head : str, optional
        A name in the catalog of heads: dense, path, logistic, ridge, prototype or knn. Default:
        path with its grid of C, or the head that an option such as ``epochs`` belongs to.
    val_size : float, optional
        Part of the training rows held out, a fraction or a number. Default: 0.3; 0 with folds.
    folds : int, default=0
        Choose, or only measure, by so many stratified folds instead of validation rows.
    repeats : int, default=1
        Draw the folds so many times.
    group : str or sequence of str, optional
        What belongs together and stays on one side: a column of the table (a patient), a CSV of
        ``id,group``, or ``duplicates``.
    metric : str, default="top1"
        What a choice goes by: top1, balanced_accuracy, macro_f1, auc or log_loss.
    sample_weight : str, optional
        A column of the table with what each image counts in the fit. Choices, temperature and
        figures count every image once.
    seeds : int, optional
        Fit each candidate with so many seeds, from `seed` on, and choose by the mean.
    refit : bool, optional
        Fit again on train and val at the end. Default: where something was chosen, from 20 images
        a class on.
    ensemble : {"average", "vote"}, optional
        The final head is the heads of all folds together.
    positive : str, optional
        Of two classes: the one whose precision, recall and areas are told; default the second.
    recall : float, optional
        Of two classes: choose the highest threshold that finds this share of the positive class.
    cost : str, optional
        Of two classes, ``FP:FN``, as ``1:5``: choose the threshold whose answers cost least.
    learning_curve : int or sequence of int, optional
        Also make a learning curve over so many images a class.
    draws : int, optional
        Of each size of the learning curve; default 5.
    jobs : int, optional
        Fits at a time, for heads that fit candidates one by one. Default: all cores.
    scheduler : str, optional
        Whose workers do these fits, see `extract`. Default: this machine.
    max_memory : str or int, optional
        What the process may take, as ``"1GB"`` or in bytes; features that do not fit are read from
        their file as needed.
    seed : int, default=42
        Of the split, and of the head where there is chance in it.
    out : path, optional
        Folder of the run. Default: ``CACHE/runs/ID``.
    log : str, Listener, or sequence of such, optional
        Who hears of the run while it goes on: ``tensorboard``, ``mlflow``, or objects of yours,
        see `Listener`.
    cache_dir : path, optional
        State folder. Default: that of the features.
    quiet : bool, default=False
    **options
        Those of the head, as ``C``, ``alpha``, ``lr`` or ``epochs``; ``C="grid"`` or ``C=[0.1, 1]``
        chooses one.

    Returns
    -------
    Run

    Raises
    ------
    ProbeError
        An option belongs to another head or makes no sense, or the head cannot be fitted on these
        rows.
    TypeError
        No head has an option of that name.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.runs.head_request import HeadRequest
    from probe.runs.listeners import listeners_of
    from probe.screen import console
    from probe.screen.heads import fit_named

    known = {one.name for spec in HEADS.values() for one in spec.options}
    for each in options:
        if each not in known:
            names = [*inspect.signature(fit).parameters, *known]
            raise TypeError(f"fit() has no argument {each!r}; {nearest(each, names)}")
    listeners = listeners_of(log)
    folder, entry = _of_features(features, cache_dir)
    store = Store(folder)
    request = HeadRequest.of(
        head=head, options=options, val_size=val_size, folds=folds, repeats=repeats, metric=metric,
        sample_weight=sample_weight, seeds=seeds, refit=refit, ensemble=ensemble,
        positive=positive, recall=recall, cost=cost, learning_curve=learning_curve,
        draws=draws, jobs=jobs,
        max_memory=max_memory, seed=seed, command=current.get().text,
    )  # fmt: skip
    with console.quiet(quiet):
        joined = join(store, store.choose(entry))
        run, path = fit_named(
            joined, request, group=group, jobs=jobs, scheduler=scheduler, cache_dir=folder,
            folder=None if out is None else Path(out), listeners=listeners,
        )  # fmt: skip
    return Run(folder=path, result=run.result, cache_dir=folder)


@checked
def audit(
    features: FeatureSet | str | None = None,
    *,
    threshold: float = 0.95,
    folds: int = 5,
    C: float = 0.01,
    run: Run | AnyPath | None = None,
    group: str | Sequence[str] | None = None,
    max_memory: str | int | None = None,
    seed: int = 42,
    out: str | Path | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Audit:
    """Look for test images that are in train, and for labels worth a second look.

    As `probe audit`: both come from the cached features, and nothing is changed. Of images without
    labels, duplicates are listed within and across splits.

    Parameters
    ----------
    features : FeatureSet or str, optional
        As in `fit`.
    threshold : float, default=0.95
        Cosine of standardised features from which two images are near-duplicates.
    folds : int, default=5
        Of the cross-validation that doubts labels.
    C : float, default=0.01
        Inverse of the penalty of its logistic regression.
    run : Run, str or path, optional
        A run whose test accuracy is told with and without leaked images. Default: the newest of
        the entry.
    group : str or sequence of str, optional
        As in `fit`.
    max_memory, seed, out, cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Audit
        ``near_duplicates``, ``label_errors``, ``copies`` and ``scores``.

    Raises
    ------
    ProbeError
        There are labels and no training rows.
    """
    from probe.screen import console
    from probe.screen.audits import audit_shown

    folder, entry = _of_features(features, cache_dir)
    with console.quiet(quiet):
        place, found = audit_shown(
            entry, folder, threshold=threshold, folds=folds, C=C,
            run=None if run is None else _place(run, folder),
            group=texts(group), max_memory=max_memory,
            seed=seed, out=None if out is None else Path(out), command=current.get().text,
        )  # fmt: skip
    return Audit(folder=place, record=found)


@checked
def report(
    features: FeatureSet | str | None = None,
    *,
    out: str | Path = "report.html",
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Path:
    """Write one HTML page about features: all runs on them, or where there are none, their images.

    As `probe report ENTRY`; `Run.report` and `Bench.report` write those about one run or a bench.

    Parameters
    ----------
    features : FeatureSet or str, optional
        As in `fit`.
    out : path, default="report.html"
    cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ProbeError
        There are no such features, or `out` does not end with .html.
    """
    from probe.cache.store import Store
    from probe.report.material import of_entry

    folder, name = _of_features(features, cache_dir)
    entry = Store(folder).choose(name)
    return _report(of_entry(folder, entry, f"the entry {entry.name}"), out, folder, quiet)


@checked
def bench(
    dataset: Data,
    backbones: str | BackboneSpec | Sequence[str | BackboneSpec],
    *,
    dataset_root: str | Sequence[str] | Mapping[str, AnyPath] | None = None,
    heads: str | Sequence[str] = "path",
    layer: str | Sequence[str] | None = None,
    pool: str | None = None,
    size: str | int | Sequence[int] | None = None,
    resize: str | int | None = None,
    weights: str | Sequence[str] | Mapping[str, AnyPath] | None = None,
    preprocess: str | Sequence[str] | Mapping[str, AnyPath] | None = None,
    mean: str | Sequence[str] | Mapping[str, AnyPath] | None = None,
    concat: str | Sequence[str] | None = None,
    pca: str | int | Sequence[int] | None = None,
    val_size: float = 0.3,
    folds: int = 0,
    repeats: int = 1,
    group: str | Sequence[str] | None = None,
    metric: str = "top1",
    sample_weight: str | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    coarse: bool = False,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    seed: int = 42,
    batch_size: int | None = None,
    workers: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    scheduler: str | None = None,
    dtype: str = "float32",
    race: bool = False,
    risk: float | None = None,
    budget: str | float | None = None,
    log: Log = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Bench:
    """Compare backbones on your images, under one protocol and on the same rows.

    As `probe bench`: missing features are extracted, heads are fitted, and paired tests say which
    differences are real. The winner comes from validation or out-of-fold rows; test figures choose
    nothing. The same call again does only what is missing.

    Parameters
    ----------
    dataset : as in `extract`, or a list of such
        Several are compared in one matrix. None where all of `backbones` are entries' names: they
        are compared on the first one's rows.
    backbones : str, Backbone, or sequence of such
        ``NAME[/LAYER[+LAYER][:POOL]][@SIZE][=WEIGHTS]``, as ``vgg16@64``; an ONNX file; an entry's
        name; or what `probe.Backbone.from_callable` returned.
    dataset_root, weights, preprocess, mean : mapping, or sequence of ``NAME=VALUE``, optional
        By dataset or by backbone; see `extract`.
    heads : str or sequence of str, default="path"
        Heads to fit; grids are searched.
    layer : str or sequence of str, optional
        Each backbone takes those of its own, from one pass.
    pool, resize : optional
    size : int or sequence of int, optional
        Side of the input for all, or several.
    concat : str or sequence of str, optional
        A row of features side by side: ``vgg16@64+efficientnet_lite0``, or ``all``.
    pca : int or sequence of int, optional
        Another row after a PCA to each of these widths.
    val_size : float, default=0.3
        Part of the training rows held out, a fraction or a number.
    folds, repeats : int
        Compare out-of-fold predictions of so many folds instead, drawn so many times.
    group, metric, sample_weight
        As in `fit`; rows are ranked and tested by the metric, too.
    race : bool
        Compare on samples first, and run on all images only what can still win: `record.races`.
    risk : float, default=0.05
        How likely the race may drop the best by chance, over all its samples.
    budget : str or float, optional
        Race, and be done in this time, ``"2h"`` or seconds; what does not fit is left out.
    log
        As in `fit`; the bench is a run, and the run of each row is within it.
    per_class, limit, coarse, skip_bad, reading, seed
        As in `extract`.
    batch_size, workers, engine, device, scheduler, dtype, cache_dir, quiet
        As in `extract`.

    Returns
    -------
    Bench
        With a row for what failed, too, and why.

    Raises
    ------
    ProbeError
        What was asked for cannot be; what fails for one backbone alone becomes its row's reason.
    """
    from probe.bench.options import BenchOptions
    from probe.datasets import given_dataset
    from probe.preprocess.spec import resize_text
    from probe.runs.listeners import listeners_of
    from probe.screen import console
    from probe.screen.benches import plan_shown, run_shown

    folder, listeners = state_folder(cache_dir), listeners_of(log)
    several = dataset if isinstance(dataset, list) else [] if dataset is None else [dataset]
    options = BenchOptions(
        backbones=backbones, dataset=[given_dataset(one, cache_dir=folder) for one in several],
        dataset_root=dataset_root, heads=heads, layer=layer, pool=pool, size=size,
        resize=resize_text(resize), weights=weights,
        preprocess=preprocess, mean=mean, concat=concat, pca=pca,
        val_size=val_size, folds=folds, repeats=repeats, group=group, metric=metric,
        sample_weight=sample_weight, per_class=per_class, limit=limit, coarse=coarse,
        skip_bad=skip_bad, reading=reading, seed=seed, batch_size=batch_size,
        workers=workers,
        engine=engine, device=device, scheduler=scheduler, dtype=dtype, race=race, risk=risk,
        budget=budget,
    )  # fmt: skip
    with console.quiet(quiet):
        request, plan = plan_shown(options, folder, current.get().text)
        place, made = run_shown(request, plan, listeners)
    return Bench(folder=place, record=made, cache_dir=folder)


@checked
def promote(
    run: Run | str | Path | None,
    *,
    start: str = "probe",
    weights: AnyPath | None = None,
    dataset_root: str | Path | None = None,
    group: str | Sequence[str] | None = None,
    freeze: str = "none",
    unfreeze: str | Mapping[int, str] = "",
    backbone_lr_mult: float = 1.0,
    head_lr_mult: float = 1.0,
    layer_decay: float = 1.0,
    lr_mult: str | Sequence[str] | Mapping[str, float] | None = None,
    bn: str | None = None,
    epochs: int = 8,
    steps: int | None = None,
    batch_size: int = 32,
    accumulate: int = 1,
    optimizer: str = "adamw",
    lr: float | str | Sequence[float] | None = None,
    momentum: float = 0.9,
    wd: float = 1e-4,
    schedule: str = "cosine",
    warmup: float = 1.0,
    clip: float = 5.0,
    ema: float = 0.0,
    label_smoothing: float = 0.0,
    augment: str = "auto",
    mixup: float = 0.0,
    train_sizes: str | int | Sequence[int] | None = None,
    sampling: str = "shuffle",
    sampling_weights: str | Path | None = None,
    ohem: float = 1.0,
    workers: int | None = None,
    max_memory: str | int | None = None,
    patience: int = 0,
    compare: str | Sequence[str] = "",
    folds: int | None = None,
    log: Log = None,
    resume: bool = False,
    out: str | Path | None = None,
    seed: int = 42,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Fine-tune the network behind a run, from where its probe ended, as `probe promote` does.

    Images that the run held out are watched after each epoch and choose the best one; the test
    images are scored once, at the end. What was interrupted goes on with ``resume=True``, and with
    `epochs` beside it goes on longer, as a finished run does, too.

    Parameters
    ----------
    run : Run, str, path or None
        Or a run's name, its beginning, or its folder. None for the newest run, or the winner of a
        bench made after it; with `resume`, for the newest that was interrupted.
    start : {"probe", "zeros", "fresh", "scratch"}
        From the fitted head; from one of zeros, or of random weights, on the same backbone; from
        random weights everywhere.
    weights, dataset_root : path, optional
        Where the weights and the images are now. Default: where they were found before.
    group : str or sequence of str, optional
        As in `fit`; default what the run had.
    freeze : str, default="none"
        ``none``, ``backbone``, or a layer: it and all below stay as they are.
    unfreeze : str or mapping of epoch to layer
        ``3:pool4,6:none``: from that epoch on, another `freeze`.
    backbone_lr_mult, head_lr_mult, layer_decay : float
        Factors on the learning rate, the last for each layer further from the head.
    lr_mult : mapping of pattern to factor, or sequence of ``PATTERN=FACTOR``, optional
        Further factors for the parameters or layers whose name matches.
    bn : {"frozen", "moving"}, optional
        Whether BatchNorm uses its stored statistics or the batch's. Default: the stored ones,
        unless the network starts from random weights.
    epochs, batch_size, accumulate : int
        Passes over the images; images a batch, of which what is left over after the whole ones
        differs in each epoch; batches a step.
    steps : int, optional
        Steps in all, in place of `epochs`; the warmup has an eighth of them at most.
    optimizer : {"adamw", "adam", "sgd"}
        sgd follows MXNet's momentum rule, ``m = momentum * m - lr * g; w = w + m``: a past gradient
        keeps the learning rate of its step, where torch multiplies the whole momentum by the
        current one. The two differ only while a schedule or warmup changes the learning rate.
    lr : float or sequence of float, optional
        Highest learning rate. Default: 0.001 for sgd, 0.0001 for the others. Of several each is
        trained, and validation images choose.
    momentum, wd : float
        SGD momentum; weight decay, never on biases and norms.
    warmup : float
        Epochs over which the learning rate rises from 0.
    clip : float
        Largest norm of the gradient; 0 for no clipping.
    ema : float
        Decay per step of an exponential moving average of the weights, which is then evaluated
        and kept; 0 for no average.
    schedule : {"cosine", "step", "constant"}
    label_smoothing : float
        Share of each target that is spread over all classes.
    mixup : float
        Alpha of the Beta distribution of the mixing weight; 0 for no mixup.
    augment : str, default="auto"
        See `probe promote --help`.
    train_sizes : int or sequence of int, optional
        Sides that training images are drawn from.
    sampling : {"shuffle", "balanced", "weighted"}
    sampling_weights : path, optional
        CSV of ``id,weight`` for weighted sampling.
    ohem : float, default=1.0
        Part of a batch, the images of highest loss, that is learnt from.
    workers : int, optional
        Threads for images. Default: one a core, at most 8.
    max_memory : str or int, optional
        What the process may take, as ``"1GB"``.
    patience : int, default=0
        Stop after so many epochs without a better one; 0 never does.
    compare : str or sequence of {"zeros", "fresh", "scratch", "last-layer"}
        Train these controls too.
    folds : int, optional
        Fine-tune so many networks, each watched on a fold of the training images that the others
        learn from; the images that the run held out are among them. The run's figures on ``oof``
        are of each image by the network that did not see it, those on other images are of the mean
        of all networks' probabilities, which is what a bundle of the run answers.
    log
        As in `fit`.
    resume : bool, default=False
        Go on with an interrupted run; its own options hold. With `epochs`, or `steps` where it
        was given at the start, go on to that length: an interrupted run in its folder, a finished
        one as a new run, with a schedule that is planned anew over the whole length. `log` may
        name other listeners; an object has to be given again.
    out, seed, cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Run
        `Run.parent` is the run that it started from.

    Raises
    ------
    ProbeError
        The run cannot be fine-tuned, images or weights are gone, or options do not go together.
    KeyboardInterrupt
        Its argument is the folder in which ``resume=True`` goes on.
    """
    from probe.finetune.options import Options
    from probe.runs.listeners import listeners_of, names_of
    from probe.screen import console
    from probe.screen.training import go_on, train_new

    folder = _folder_of(run, cache_dir)
    call = current.get()
    _check_length(call.given, steps)
    with console.quiet(quiet):
        if resume:
            same = {"run", "resume", "cache_dir", "workers", "log", "quiet", "epochs", "steps"}
            others = {*call.given} - same
            if others:
                raise UsageError(
                    f"{min(others)}=: a run that is resumed keeps its options, so that it ends as "
                    "if it had never stopped; leave it out"
                )
            done = go_on(
                None if run is None else _place(run, folder), folder,
                workers=workers or default_workers(), log=log, steps=steps,
                epochs=epochs if "epochs" in call.given else None, command=call.text,
            ).done  # fmt: skip
            return Run(folder=done.folder, result=done.result, cache_dir=folder)
        listeners = listeners_of(log)
        options = Options.of(
            start=start, freeze=freeze, unfreeze=unfreeze,
            backbone_lr_mult=backbone_lr_mult, head_lr_mult=head_lr_mult, layer_decay=layer_decay,
            lr_mult=lr_mult, bn=bn, epochs=epochs, steps=steps, batch_size=batch_size,
            accumulate=accumulate, optimizer=optimizer, lr=lr, momentum=momentum, wd=wd,
            schedule=schedule, warmup=warmup, clip=clip, ema=ema,
            label_smoothing=label_smoothing, augment=augment, mixup=mixup,
            train_sizes=train_sizes, sampling=sampling, ohem=ohem, patience=patience, seed=seed,
        )  # fmt: skip
        source, asked = _to_promote(
            run, folder, options, dataset_root=dataset_root, weights=weights,
            sampling_weights=sampling_weights, compare=compare, lr=lr, log=names_of(log),
            group=group, max_memory=max_memory, folds=folds, command=call.text,
        )  # fmt: skip
        made = train_new(
            source,
            asked,
            folder,
            None if out is None else Path(out),
            workers=workers or default_workers(),
            listeners=listeners,
        )
    return Run(folder=made.done.folder, result=made.done.result, cache_dir=folder)


def _to_promote(
    run: Run | str | Path | None, folder: Path, options: Options, *, weights: AnyPath | None,
    **same: Any,
) -> tuple[Source | Folds, PromoteRequest]:  # fmt: skip
    """Return the run to fine-tune, opened, and what is asked of it; see `PromoteRequest.of`."""
    from probe.bench.find import default_run
    from probe.finetune.request import PromoteRequest
    from probe.finetune.source import PROMOTED
    from probe.screen import console
    from probe.screen.training import open_asked

    chosen = (
        console.chosen(default_run(folder, but=(PROMOTED,))) if run is None else _place(run, folder)
    )
    asked = PromoteRequest.of(
        chosen, options, weights=None if weights is None else str(weights), **same
    )
    return open_asked(asked, folder), asked


def _check_length(given: Iterable[str], steps: int | None) -> None:
    if steps is not None and "epochs" in given:
        raise UsageError("epochs=, steps=: the length is given twice; leave out one of them")


@checked
def forecast(
    run: Run | str | Path | None,
    *,
    weights: AnyPath | None = None,
    dataset_root: str | Path | None = None,
    group: str | Sequence[str] | None = None,
    sampling_weights: str | Path | None = None,
    workers: int | None = None,
    max_memory: str | int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
    **recipe: Any,
) -> Forecast:
    """Say what `promote` will probably gain and cost, from trying it on a small draw of the images.

    As `probe promote --forecast`; test images are not looked at, and nothing is kept.

    Parameters
    ----------
    run : Run, str, path or None
        As in `promote`.
    weights, dataset_root, group, sampling_weights, workers, max_memory
        As in `promote`.
    **recipe
        How would be trained: `epochs` or `steps`, `lr`, `freeze` and the like, as in `promote`.
    cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Forecast
        ``expected`` has the gain with its interval, ``cost`` the time and the memory, ``tried``
        what was seen.

    Raises
    ------
    ProbeError
        The run cannot be fine-tuned, or has too few images to draw from.
    """
    from probe.finetune.options import Options
    from probe.screen import console
    from probe.screen.training import foretell_shown

    folder = _folder_of(run, cache_dir)
    known = {one.name for one in fields(Options)} - {"sizes"} | {"train_sizes"}
    _check_length(recipe, recipe.get("steps"))
    options = Options.of(**as_in(promote, recipe, sorted(known)))
    with console.quiet(quiet):
        source, asked = _to_promote(
            run, folder, options, dataset_root=dataset_root, weights=weights,
            sampling_weights=sampling_weights, group=group, max_memory=max_memory,
            lr=recipe.get("lr"),
        )  # fmt: skip
        return foretell_shown(source, asked, workers=workers or default_workers())


@checked
def make_bundle(
    run: Run | str | Path | None,
    out: str | Path | None = None,
    *,
    weights: str | Sequence[str] | Mapping[str, AnyPath] | None = None,
    folds: bool = False,
    reject_rate: float = 0.05,
    remember: str = "labels",
    engine: str = "auto",
    device: str = "auto",
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Bundle:
    """Make a bundle of a run: a folder or a file that predicts without cache and dataset.

    As `probe bundle`.

    Parameters
    ----------
    run : Run, str, path or None
        As in `promote`.
    out : path, optional
        A folder to make, or a file ``NAME.probe``. Default: ``RUN/bundle``.
    weights : path, or mapping of backbone to path, optional
        Where the weights are now.
    folds : bool, default=False
        The heads of all folds, averaged, not the final one.
    reject_rate : float, default=0.05
        Share of held-out images that each flag may mark; 0 for no flags.
    remember : {"nothing", "labels", "ids", "pictures"}
        What to keep of some training images beside their features.
    engine, device : str
        What runs the network, as in `extract`.
    cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Bundle
        ``bundle.predict([path, image, array])``.

    Raises
    ------
    ProbeError
        The run's entry or weights are gone or other than they were, or `out` cannot be written.
    """
    from probe.bench.find import default_run
    from probe.bundle.make import BundleRequest
    from probe.screen import console
    from probe.screen.bundles import bundle_shown

    folder = _folder_of(run, cache_dir)
    with console.quiet(quiet):
        source = console.chosen(default_run(folder)) if run is None else _place(run, folder)
        named = (
            [f"{name}={one}" for name, one in weights.items()]
            if isinstance(weights, Mapping)
            else [weights]
            if isinstance(weights, str)
            else list(weights or ())
        )
        request = BundleRequest(
            weights=tuple(named), folds=folds, reject_rate=reject_rate,
            remember=None if remember == "nothing" else remember, engine=engine, device=device,
        )  # fmt: skip
        target = source / "bundle" if out is None else Path(out)
        bundle_shown(source, target, folder, request)
    return open_bundle(target, engine=engine, device=device)


@checked
def import_features(
    files: AnyPath | Sequence[AnyPath],
    *,
    features: str | None = None,
    labels: str | None = None,
    ids: str | None = None,
    split: Literal["train", "val", "test"] | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    classes: str | Sequence[str] | None = None,
    cache_dir: AnyPath | None = None,
    quiet: bool = False,
) -> FeatureSet:
    """Make an entry of features that another program made, as `probe cache import` does.

    No code in a pickle is run. How the features were made is unknown, and the entry says so.

    Parameters
    ----------
    files : path or sequence of paths
        Pickles, ``.npy``, ``.npz``, HDF5, ``.mat``, ``.parquet`` or ``.safetensors`` files of one
        dataset, with features (n, d), labels (n,) and perhaps ids, splits and class names.
    features, labels, ids : str, optional
        Names of the arrays in the files; `labels` may also be a ``.npy`` file. Default: the usual
        ones, as ``features`` or ``X``, ``labels`` or ``y``, ``ids``.
    split : {"train", "val", "test"}, optional
        Split that the rows are of. Default: by the names of files and arrays, else train.
    dataset, backbone : str, optional
        What they are called. Default: as the files say; else the first file's name, and unknown.
    classes : sequence of str, optional
        Names of the classes, in the order of their numbers.
    cache_dir, quiet
        As in `extract`.

    Returns
    -------
    FeatureSet

    Raises
    ------
    ProbeError
        An array is missing, not finite or of an impossible shape, or a pickle contains code.
    """
    from probe.cache import interchange
    from probe.cache.store import Store
    from probe.core.options import words
    from probe.screen import console

    with console.quiet(quiet):
        return interchange.import_features(
            [Path(one) for one in ([files] if isinstance(files, str | PathLike) else files)],
            Store(state_folder(cache_dir)),
            names=interchange.Names(features=features, labels=labels, ids=ids),
            split=split, dataset=dataset, backbone=backbone, classes=words(classes) or None,
        )  # fmt: skip


@checked
def open_features(name: str | None = None, *, cache_dir: AnyPath | None = None) -> FeatureSet:
    """Return the features of an entry.

    Parameters
    ----------
    name : str, optional
        The entry's name or its beginning, its digest, or its dataset, of which the newest entry is
        taken. Default: the newest of all, controls with random weights left out.
    cache_dir : path, optional
        State folder. Default: see `probe.core.machine.state_folder`.

    Raises
    ------
    UnknownNameError
        None is called so, or more than one.
    CacheError
        There is no entry at all, or it is damaged.
    """
    from probe.cache.features import FeatureSet
    from probe.cache.store import Store

    store = Store(state_folder(cache_dir))
    of_dataset = [one for one in store.entries() if one.dataset == name]
    entry = store.choose(of_dataset[0].name if of_dataset else name)
    store.note_use(entry.path)
    return FeatureSet.open(entry.path)


@checked
def open_run(name: AnyPath | None = None, *, cache_dir: AnyPath | None = None) -> Run:
    """Return a finished run.

    Parameters
    ----------
    name : str or path, optional
        Its name, the beginning of it, or its folder. Default: the newest run, or the winner of a
        bench made after it.
    cache_dir : path, optional

    Raises
    ------
    UnknownNameError
        None is called so, or more than one.
    DataError
        It did not finish, or is damaged.
    """
    from probe.bench.find import default_run, find_run
    from probe.runs.results import read_run

    folder = state_folder(cache_dir)
    place = default_run(folder)[0] if name is None else find_run(folder / "runs", Path(name))
    return Run(folder=place, result=read_run(place), cache_dir=folder)


@checked
def open_bench(name: AnyPath | None = None, *, cache_dir: AnyPath | None = None) -> Bench:
    """Return a bench.

    Parameters
    ----------
    name : str or path, optional
        Its name, the beginning of it, or its folder. Default: the newest.
    cache_dir : path, optional

    Raises
    ------
    UnknownNameError
        None is called so, or more than one.
    DataError
        It did not finish, or is damaged.
    """
    from probe.bench.find import find_bench
    from probe.bench.record import load_bench

    folder = state_folder(cache_dir)
    place = find_bench(folder / "benches", None if name is None else Path(name))
    return Bench(folder=place, record=load_bench(place), cache_dir=folder)


@checked
def open_bundle(
    path: AnyPath, *, batch_size: int | None = 1, engine: str = "auto", device: str = "auto"
) -> Bundle:
    """Return a bundle, checked; see `Bundle.load`.

    Raises
    ------
    BundleError
        It is none, it is damaged, or this machine computes other numbers.
    """
    from probe.api.bundles import Bundle

    return Bundle.load(Path(path), batch_size=batch_size, engine=engine, device=device)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Run:
    """A fitted head, or a fine-tuned network, and its figures.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    result : RunResult
        All that `result.json` holds.
    cache_dir : Path
        State folder.
    """

    folder: Path
    result: RunResult
    cache_dir: Path

    promote = promote
    forecast = forecast
    bundle = make_bundle

    @property
    def name(self) -> str:
        """Its name, by which the commands know it."""
        return self.folder.name

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Figures by split and name, ``metrics["val"]["top1"]``: fractions from 0 to 1."""
        return self.result.metrics

    @property
    def intervals(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """95 % intervals, (low, high), by split and name."""
        return self.result.intervals or {}

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """What was predicted of rows that were not trained on, by split: val, test or oof."""
        from probe.evaluation.predictions import load_predictions

        return load_predictions(self.folder)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the columns of `predictions`."""
        from probe.runs.answers import classes_of_run

        return classes_of_run(self.result, self.cache_dir)

    @cached_property
    def learning_curve(self) -> LearningCurve | None:
        """Figures by images a class, where `fit` was asked for them; its `bands` has the means."""
        from probe.evaluation.learning_curve import load_learning_curve

        return load_learning_curve(self.folder)

    def to_csv(self, path: AnyPath) -> None:
        """Write a row for each prediction, as `probe runs show --csv` does.

        Its columns are ``image``, ``split``, ``label``, ``answer``, ``probability`` (at the run's
        temperature, as a bundle answers) and ``right``, and those of the table that the images are
        from.
        """
        from probe.runs.answers import write_run_answers

        write_run_answers(self.folder, self.result, self.cache_dir, Path(path))

    @property
    def parent(self) -> str | None:
        """Of a fine-tuned network: the name of the run that it started from."""
        from probe.core.records import read_record
        from probe.finetune.request import FILE_NAME

        path = self.folder / FILE_NAME
        if not path.is_file():
            return None
        return read_record(path, "a fine-tuning", lambda data: Path(data["run"]).name)

    def confusion(self, split: str | None = None) -> ConfusionTable:
        """Return what was taken for what.

        Parameters
        ----------
        split : {"val", "test", "oof"}, optional
            Default: the one of the run's picture.

        Raises
        ------
        UsageError
            Images may have several labels, or the run kept no predictions of that split.
        """
        from probe.evaluation.metrics import confused_pairs

        if self.result.multilabel is not None:
            raise UsageError(
                f"{self.name}: images may have several labels, so none is taken for another; "
                "run.result.multilabel has the figures of each"
            )
        wanted = split or self.result.per_class.split
        if wanted not in self.predictions:
            there = ", ".join(self.predictions) or "none"
            raise UsageError(f"{self.name}: no predictions of {wanted!r}; there is {there}")
        one = self.predictions[wanted]
        pairs = confused_pairs(one.answers, one.labels, len(self.classes))
        return ConfusionTable(pairs=pairs, classes=self.classes, split=wanted)

    def report(self, out: AnyPath = "report.html", *, quiet: bool = False) -> Path:
        """Write one HTML page about the run, as `probe report` does, and return its path."""
        from probe.report.material import of_runs
        from probe.report.ranking import Run as Shown

        shown = Shown(folder=self.folder, result=self.result)
        return _report(of_runs(self.cache_dir, [shown], "this run"), out, self.cache_dir, quiet)

    def __repr__(self) -> str:
        from probe.runs.results import METRIC_WORDS, figure_text

        one, split = self.result, self.result.per_class.split
        value = one.metrics.get(split, {}).get(one.metric)
        figure = f", {split} {METRIC_WORDS[one.metric]} {figure_text(one.metric, value)}"
        return f"<Run {self.name}: {one.head} on {one.dataset}, {one.backbone} {one.layer}{figure}>"

    def _repr_html_(self) -> str:
        from probe.figures.classes import CONFUSION, LABEL_BARS

        page = Html().title(repr(self)[1:-1])
        names = list(dict.fromkeys(name for one in self.metrics.values() for name in one))
        rows = [
            [split, *(_figure(name, figures.get(name)) for name in names)]
            for split, figures in self.metrics.items()
        ]
        page.table(["", *names], rows)
        for picture in (CONFUSION, LABEL_BARS):
            page.picture(self.folder / picture, SHOWN_BYTES)
        return page.text()


def _figure(name: str, value: float | None) -> str:
    from probe.runs.results import figure_text

    return figure_text(name, value)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConfusionTable:
    """What was taken for what, as counts of rows.

    Parameters
    ----------
    pairs : Confusion
        Cells that are not 0.
    classes : tuple of str
    split : str
    """

    pairs: Any
    classes: tuple[str, ...]
    split: str

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Counts, (n_classes, n_classes): rows are true classes, columns predicted ones."""
        return cast("NDArray[np.int64]", self.pairs.dense())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.matrix if dtype is None else self.matrix.astype(dtype)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: true classes down, predicted ones across."""
        return _pandas().DataFrame(self.matrix, index=self.classes, columns=self.classes)

    def __repr__(self) -> str:
        right, rows = int(self.pairs.hits.sum()), int(self.pairs.count.sum())
        return (
            f"<confusion on {self.split}: {right:,} of {rows:,} right, "
            f"{counted(len(self.classes), 'class', 'classes')}>"
        )

    def _repr_html_(self) -> str:
        page = Html().title(repr(self)[1:-1])
        if len(self.classes) <= SHOWN_ROWS:
            rows = [
                [name, *(f"{count:,}" if count else "" for count in line)]
                for name, line in zip(self.classes, self.matrix.tolist(), strict=True)
            ]
            page.table(["true / predicted", *self.classes], rows)
        return page.text()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Bench:
    """A comparison of backbones.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    record : probe.bench.record.Bench
        All that `bench.json` holds.
    cache_dir : Path
        State folder.
    """

    folder: Path
    record: Record
    cache_dir: Path

    @property
    def name(self) -> str:
        """Its name, by which the commands know it."""
        return self.folder.name

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all datasets, failed ones included."""
        return self.record.rows

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows that could not be made; `Row.reason` says why."""
        return self.record.failed

    @property
    def verdict(self) -> str:
        """The answer in words, a line a dataset."""
        several = len(self.record.comparisons) > 1
        return "\n".join(
            f"{one.dataset}: {one.verdict}" if several else one.verdict
            for one in self.record.comparisons
        )

    @property
    def winners(self) -> dict[str, Run]:
        """The best run of each dataset that has one."""
        from probe.runs.results import read_run

        found = {}
        for one in self.record.comparisons:
            row = None if one.winner is None else self.record.row(one.winner)
            if row is not None and row.run is not None:
                place = self.cache_dir / "runs" / row.run
                found[one.dataset] = Run(
                    folder=place, result=read_run(place), cache_dir=self.cache_dir
                )
        return found

    @property
    def winner(self) -> Run:
        """The best run.

        Raises
        ------
        UsageError
            There are several datasets, each with its own, or no row was finished.
        """
        found = self.winners
        if len(found) != 1:
            raise UsageError(
                f"{self.name}: {len(found)} datasets have a winner; bench.winners has them by name"
                if found
                else f"{self.name}: no row was finished; bench.failed says why"
            )
        return next(iter(found.values()))

    def run(self, row: Row | str) -> Run:
        """Return the run of a row, or of a row's id.

        Raises
        ------
        UnknownNameError
            There is no such row, or it has no run.
        """
        from probe.runs.results import read_run

        known = {one.id: one for one in self.rows}
        name = row if isinstance(row, str) else row.id
        if name not in known or known[name].run is None:
            with_runs = [one.id for one in self.rows if one.run is not None]
            raise UnknownNameError(f"no row {name!r} has a run; {nearest(name, with_runs)}")
        place = self.cache_dir / "runs" / str(known[name].run)
        return Run(folder=place, result=read_run(place), cache_dir=self.cache_dir)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, a line a row, the best of each dataset first.

        Figures are called ``val_top1``, ``test_top1`` ...; intervals ``val_top1_low`` and
        ``val_top1_high``; costs ``images_per_second`` ...
        """
        return _pandas().DataFrame(self._table())

    def report(
        self, out: AnyPath = "report.html", *, dataset: str | None = None, quiet: bool = False
    ) -> Path:
        """Write one HTML page about the bench, as `probe report` does, and return its path.

        Parameters
        ----------
        dataset : str, optional
            Which of several; default the first.
        """
        from probe.report.material import of_bench

        material = of_bench(self.cache_dir, self.record, dataset, f"bench {self.name}")
        return _report(material, out, self.cache_dir, quiet)

    def _table(self) -> list[dict[str, Any]]:
        order = {
            name: place for one in self.record.comparisons for place, name in enumerate(one.rows)
        }
        datasets = [one.dataset for one in self.record.comparisons]
        lines = []
        for row in sorted(
            self.rows, key=lambda one: (datasets.index(one.dataset), order.get(one.id, 10**6))
        ):
            line: dict[str, Any] = {"rank": row.rank}
            plain = ("id", "dataset", "name", "head", "kind", "status", "reason", "letters",
                     "backbone", "weights", "layer", "pool", "size", "pca", "feature_dim", "best",
                     "n_train", "n_val", "n_test", "run")  # fmt: skip
            line |= {name: getattr(row, name) for name in plain}
            for split, figures in row.metrics.items():
                for name, value in figures.items():
                    line[f"{split}_{name}"] = value
                    if name in row.intervals.get(split, {}):
                        low, high = row.intervals[split][name]
                        line |= {f"{split}_{name}_low": low, f"{split}_{name}_high": high}
            lines.append(line | vars(row.cost))
        return lines

    def __repr__(self) -> str:
        told = []
        for one in self.record.comparisons:
            best = None if one.winner is None else self.record.row(one.winner)
            told.append(
                one.dataset + ("" if best is None else f", best {best.name} with {best.head}")
            )
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"<Bench {self.name}: {counted(len(self.rows), 'row')}{failed}; {'; '.join(told)}>"

    def _repr_html_(self) -> str:
        metric, split = self.record.protocol.metric, self.record.protocol.split
        page = Html().title(repr(self)[1:-1])
        columns = ["rank", "dataset", "name", "head", f"{split} {metric}", f"test {metric}", "ties"]
        rows = [
            [
                str(line["rank"] or ""), line["dataset"], line["name"], line["head"],
                line["reason"] or _figure(metric, line.get(f"{split}_{metric}")),
                _figure(metric, line.get(f"test_{metric}")), line["letters"],
            ]
            for line in self._table()[:SHOWN_ROWS]
        ]  # fmt: skip
        page.table(columns, rows).note(self.verdict)
        if len(self.rows) > SHOWN_ROWS:
            page.note(f"{len(self.rows) - SHOWN_ROWS:,} more rows: bench.to_frame()")
        return page.text()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Audit:
    """What an audit found.

    Parameters
    ----------
    folder : Path
        Where it is kept, with sheets of the images.
    record : probe.audit.record.Audit
        All that `audit.json` holds.
    """

    folder: Path
    record: AuditRecord

    @property
    def near_duplicates(self) -> tuple[NearDuplicate, ...]:
        """Test images that are in train, and contradictions within train, most alike first.

        Of images without labels: all pairs within and across splits.
        """
        return self.record.near_duplicates

    @property
    def label_errors(self) -> tuple[LabelError, ...]:
        """Training images whose labels are worth a second look, the surest first."""
        return self.record.label_errors

    @property
    def copies(self) -> tuple[Copies, ...]:
        """Images that are there more than once."""
        return self.record.copies

    @property
    def scores(self) -> Mapping[str, float]:
        """Figures by name: accuracy with and without leaked test images."""
        return self.record.scores

    def __repr__(self) -> str:
        one = self.record
        return (
            f"<Audit of {one.entry}: {len(one.near_duplicates):,} near-duplicates, "
            f"{counted(len(one.label_errors), 'doubtful label')}"
            + (" (none looked for)" if one.undoubted is not None else "")
            + f", {counted(len(one.copies), 'copy', 'copies')}>"
        )

    def _repr_html_(self) -> str:
        from probe.audit.record import THUMBNAILS
        from probe.audit.words import audit_facts, audit_tables

        page = Html().title(repr(self)[1:-1])
        for word, text in audit_facts(self.record).items():
            page.note(f"{word}: {text}")
        for one in audit_tables(self.record):
            page.table(one.columns, one.rows)
        for name in THUMBNAILS.values():
            page.picture(self.folder / name, SHOWN_BYTES)
        return page.text()


def _report(material: Any, out: AnyPath, cache_dir: Path, quiet: bool) -> Path:
    from probe.report.pictures import Options
    from probe.screen import console
    from probe.screen.reports import write_report

    with console.quiet(quiet):
        page, *_ = write_report(
            material, Path(out), Options(), cache_dir=cache_dir, command="probe.report"
        )
    return page.path


def _folder_of(run: Run | AnyPath | None, cache_dir: AnyPath | None) -> Path:
    if cache_dir is None and isinstance(run, Run):
        return run.cache_dir
    return state_folder(cache_dir)


def _place(run: Run | AnyPath, folder: Path) -> Path:
    """Return the folder of the run that is meant."""
    from probe.bench.find import find_run

    if isinstance(run, Run):
        return run.folder
    if not isinstance(run, str | PathLike):
        raise UsageError(f"run is a {type(run).__name__}; give a Run, a name or a folder")
    return find_run(folder / "runs", Path(run))


def _of_features(
    features: FeatureSet | str | None, cache_dir: AnyPath | None
) -> tuple[Path, str | None]:
    """Return the state folder and the entry's name."""
    if features is None or isinstance(features, str):
        return state_folder(cache_dir), features
    if not hasattr(features, "key"):
        many = isinstance(features, list | tuple)
        raise UsageError(
            f"features are a {type(features).__name__}; give "
            + ("one of them" if many else "what `extract` or `open_features` returns, or a name")
        )
    folder = features.path.parent.parent
    if cache_dir is not None and Path(cache_dir).resolve() != folder.resolve():
        raise UsageError(
            f"cache_dir={str(cache_dir)!r}: the features lie in {folder}; leave it out"
        )
    return folder, features.name


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise UsageError(
            "to_frame needs pandas, which is not installed: pip install pandas"
        ) from None
    return pandas


def _signature_of_extract_layers() -> inspect.Signature:
    """Return the signature of `extract` with several layers, for checks, help and completion."""
    own = inspect.signature(extract_layers.__wrapped__)  # type: ignore[attr-defined]
    *first, _ = own.parameters.values()
    options = inspect.signature(extract).parameters
    named = [one for name, one in options.items() if name not in {"layer", *own.parameters}]
    return own.replace(parameters=[*first, *named])


def _signature_of_fit() -> inspect.Signature:
    """Return the signature of `fit` with the options of all heads, for help and completion."""
    own = inspect.signature(fit.__wrapped__)  # type: ignore[attr-defined]
    *before, rest = own.parameters.values()
    named = {one.name: one for spec in HEADS.values() for one in spec.options}
    heads = [
        inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=_annotation(one.kind.__name__, several=one.grid is not None),
        )
        for key, one in named.items()
    ]  # fmt: skip
    return own.replace(parameters=[*before, *heads, rest])


def _annotation(kind: str, *, several: bool) -> str:
    return f"{kind} | str | Sequence[{kind}] | None" if several else f"{kind} | None"


fit.__signature__ = _signature_of_fit()  # type: ignore[attr-defined]
extract_layers.__signature__ = _signature_of_extract_layers()  # type: ignore[attr-defined]
