"""Bundles as Python has them: scored, explained and exported by functions that are also methods."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.bundle import Bundle as Finished
from probe.core.arguments import checked, current
from probe.core.machine import AnyPath, state_folder
from probe.core.options import default_workers, texts
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.datasets.images.image_inputs import Image
    from probe.datasets.in_memory import Data
    from probe.predict.evaluate import Evaluation
    from probe.predict.explanation import Explanation

MAP_BATCH = 8  # images at a time, where a patch is moved over an image
ENDINGS = {"onnx": ".onnx", "mxnet": "", "sklearn": ".joblib"}


@checked
def evaluate(
    bundle: Finished | AnyPath,
    dataset: Data,
    *,
    dataset_root: str | Path | None = None,
    split: str | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    group: str | Sequence[str] | None = None,
    tta: str = "none",
    combine: str = "probabilities",
    also: AnyPath | Sequence[AnyPath] | None = None,
    weighting: str = "val",
    batch_size: int | None = None,
    workers: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    positive: str | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Score a bundle on labelled images, as `probe evaluate` does; classes are matched by name.

    Features that the cache holds are not computed again. Each evaluation of test rows is counted.

    Parameters
    ----------
    bundle : Bundle or path
        It is loaded again from its files, for as many images at a time as suit a dataset.
    dataset, dataset_root, per_class, limit, skip_bad, reading
        As in `extract`.
    split : {"train", "val", "test"}, optional
        Default: test, or the first one.
    group : str or sequence of str, optional
        As in `fit`: intervals are over groups.
    tta : {"none", "flip", "crops5", "crops10", "scales"}, or a list as ``flip,scales``
        Views of each image (test-time augmentation).
    combine : {"probabilities", "logits", "vote"}
        How views and bundles are combined.
    also : path or sequence of path, optional
        Other bundles of the same classes: an ensemble.
    weighting : {"val", "equal"}
        What bundles of an ensemble count: their accuracy on validation rows, or the same.
    batch_size, workers, engine, device
        As in `extract`.
    positive : str, optional
        Of two classes: the one whose precision, recall and areas are told.
    cache_dir, quiet
        As in `fit`.

    Returns
    -------
    Evaluation
        ``figures["top1"]``, ``intervals["top1"]``, ``scored.probabilities``.

    Raises
    ------
    ProbeError
        The bundle lacks a class of the dataset, or an image cannot be read.
    """
    from probe.datasets import given_dataset, load_dataset
    from probe.datasets.load import chosen_images
    from probe.predict.predictor import check_words
    from probe.screen import console
    from probe.screen.evaluations import evaluate_shown

    check_words(tta, combine, weighting)
    folder, workers = state_folder(cache_dir), workers or default_workers()
    several = [also] if isinstance(also, str | os.PathLike) else list(also or ())
    with console.quiet(quiet):
        given = given_dataset(dataset, cache_dir=folder)
        if isinstance(given, str):
            found = load_dataset(
                given, root=_folder(dataset_root), cache_dir=folder, per_class=per_class,
                limit=limit, skip_bad=skip_bad, reading=reading,
                workers=workers, progress=console.download_bar,
            )  # fmt: skip
        else:
            found = chosen_images(given, per_class=per_class, limit=limit)
        sources = [_path_of(bundle), *map(Path, several)]
        loaded = [
            Finished.load(one, batch_size=batch_size, engine=engine, device=device)
            for one in sources
        ]
        return evaluate_shown(
            loaded, found, folder, split=split,
            group=texts(group), tta=tta, combine=combine,
            weighting=weighting, positive=positive, workers=workers, name=str(sources[0]),
            command=current.get().text,
        )  # fmt: skip


@checked
def explain(
    bundle: Finished | AnyPath,
    image: Image,
    *,
    label: str | None = None,
    heatmap: str = "auto",
    neighbours: int = 8,
    dataset: str | Path | None = None,
    dataset_root: str | Path | None = None,
    out: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    cache_dir: str | Path | None = None,
) -> Explanation:
    """Explain a prediction by the nearest training images, and by what in the image speaks for it.

    As `probe explain`. A notebook shows the explanation as a picture.

    Parameters
    ----------
    bundle : Bundle or path
    image : path, image of Pillow's or array
    label : str, optional
        The class to explain. Default: the most probable.
    heatmap : {"auto", "cam", "occlusion", "none"}
        ``cam`` is exact, for linear heads on one network's averaged maps.
    neighbours : int, default=8
    dataset : str or path, optional
        Find neighbours, with pictures, among its training images, whose features have to be in the
        cache. Default: those that the bundle remembers.
    dataset_root : path, optional
    out : path, optional
        PNG to write.
    engine, device : str
        As in `extract`; a Bundle that is given has its own.
    cache_dir : path, optional

    Returns
    -------
    Explanation
        ``heat``, ``neighbours``, ``prediction``.

    Raises
    ------
    ProbeError
        The class is unknown, there is no such map, or the image cannot be read.
    """
    from probe.cache.store import Store
    from probe.datasets import load_dataset
    from probe.datasets.images.image_inputs import image_input
    from probe.predict.explain import TrainingImages
    from probe.predict.explain import explain as explained

    if out is not None and Path(out).suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is PNG; give a name that ends in .png")
    loaded = (
        bundle
        if isinstance(bundle, Finished)
        else Finished.load(Path(bundle), batch_size=MAP_BATCH, engine=engine, device=device)
    )
    folder, training = state_folder(cache_dir), None
    if dataset is not None:
        images = load_dataset(str(dataset), root=_folder(dataset_root), cache_dir=folder)
        training = TrainingImages(loaded, images, Store(folder))
    given = image_input(image)
    found = explained(
        loaded, given.pixels(), name=os.path.basename(given.name), label=label, wanted=heatmap,
        k=neighbours, training=training,
    )  # fmt: skip
    if out is not None:
        found.save(Path(out))
    return found


@checked
def export(bundle: Finished | AnyPath, to: str, out: str | Path | None = None) -> list[Path]:
    """Write a bundle for other programs, checked against it first, as `probe export` does.

    Parameters
    ----------
    bundle : Bundle or path
    to : {"onnx", "mxnet", "sklearn"}
        ``mxnet``: symbol and params; ``sklearn``: the head alone, a joblib file.
    out : path, optional
        File to make; for mxnet what the files' names begin with. Default: the bundle's name.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ProbeError
        The bundle cannot be written in that format, or answers otherwise there.
    """
    from probe.export import FORMATS

    if to not in FORMATS:
        raise UsageError(f"--to {to}: expected {', '.join(FORMATS)}")
    if out is None:
        out = f"{_path_of(bundle).name.removesuffix('.probe')}{ENDINGS[to]}"
    loaded = bundle if isinstance(bundle, Finished) else Finished.load(Path(bundle))
    return list(FORMATS[to](loaded, Path(out)))


def _folder(place: str | Path | None) -> Path | None:
    return None if place is None else Path(place)


def _path_of(bundle: Finished | AnyPath) -> Path:
    if not isinstance(bundle, Finished):
        return Path(bundle)
    if bundle.files is None:
        raise UsageError("the bundle is in memory alone; load it from its file")
    return bundle.files.path


class Bundle(Finished):
    """A finished model: it predicts, is scored, explains and is exported; see `Bundle.load`."""

    evaluate = evaluate
    explain = explain
    export = export
