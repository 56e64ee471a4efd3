"""A run as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.bundle import About, Bundle, Neighbours, Rejection, write_bundle
from probe.bundle.about import REMEMBERED
from probe.bundle.files import require_free
from probe.bundle.make.calibration import Calibration, calibration_of, calibration_of_folds
from probe.bundle.make.forwarding import OnRows, forwarded_training
from probe.bundle.make.source import Source, share_parameters, source_of, weights_of
from probe.bundle.make.training import Training, cached_training, joined_training, remembered
from probe.bundle.neighbours import K
from probe.bundle.reject import LEAST_HELD_OUT, choose_confidence, choose_distance
from probe.cache.beside import parse_features_name
from probe.cache.joining import Joined, join
from probe.cache.store import Store
from probe.errors import BundleError, UnknownNameError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.heads import HEADS, load_head
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import Projection, load_projection
from probe.runs.fit import HEAD
from probe.runs.results import RunResult, read_run


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """What `probe bundle` was asked for.

    Parameters
    ----------
    weights : tuple of str
        Where weights are now, if not where the pass found them: ``FILE``, or of several backbones
        ``BACKBONE=FILE``.
    folds : bool
        Take the heads of all folds instead of the final one.
    reject_rate : float
        The share of held-out images that each flag may hit; 0 for no flags.
    remember : str or None
        What to keep of training images beside features: one of `REMEMBERED`; None for nothing.
    """

    weights: tuple[str, ...] = ()
    folds: bool = False
    reject_rate: float = 0.05
    remember: str | None = "labels"

    def __post_init__(self) -> None:
        if not 0 <= self.reject_rate < 0.5:
            raise UsageError(f"--reject-rate {self.reject_rate:g}: expected 0 to below 0.5")
        if self.remember not in (None, *REMEMBERED):
            names = ", ".join(("nothing", *REMEMBERED))
            raise UsageError(f"--remember {self.remember}: expected {names}")


def bundle_run(
    run: Path,
    out: Path,
    *,
    cache_dir: Path,
    request: BundleRequest | None = None,
    on_rows: OnRows = lambda _done, _total: None,
) -> Bundle:
    """Make a bundle of a run: networks, weights, head, classes and what the run measured.

    A run of `probe bench` on features side by side has several networks, one on features after a
    PCA has that, too. What it remembers of training images comes from the cache, or of a promoted
    run, whose features nobody extracted yet, from a forward pass over at most 4,000 of them.

    Parameters
    ----------
    run : Path
        The folder of a head run or of a promoted one.
    out : Path
        A folder that is not there yet, or with the ending ``.probe`` a file.
    on_rows : callable, optional
        Told (done, of how many) while training images are forwarded.

    Raises
    ------
    BundleError
        The run's entry or weights are gone or other than they were, or `out` cannot be written.
    """
    request = request or BundleRequest()
    require_free(out)  # before anything is read or forwarded
    result, store = read_run(run), Store(cache_dir)
    if request.folds and "threshold" in (result.two_classes or {}):
        raise UsageError(
            "the run's threshold is for its own head, and not for the mean of the heads of its "
            "folds: leave --folds out, or fit with --ensemble average"
        )
    entries, pca = parse_features_name(result.entry)
    parts = [_part(run, store, name) for name in entries]
    projection = _projection(run, parts, pca)
    sources = _sources(run, result, parts, request.weights, cache_dir)
    names = _head_files(run, result.head, request.folds)
    heads = [load_head(run / name) for name in names]
    predictions = load_predictions(run)
    calibration = (
        calibration_of_folds(predictions, result.temperature)
        if request.folds
        else calibration_of(result, predictions, parts[0].entry.classes)
    )
    neighbours = rest = None
    if request.remember is not None:
        training = _training(sources, parts, projection, cache_dir, on_rows)
        neighbours, rest = remembered(training, predictions, request.remember, cache_dir)
    files, parameters = share_parameters(sources)
    about = About(
        networks=tuple(one.about(file) for one, file in zip(sources, files, strict=True)),
        pca=pca,
        classes=parts[0].entry.classes,
        dataset=result.dataset,
        head=result.head,
        run=run.name,
        heads=tuple(names),
        temperature=calibration.temperature,
        several=result.multilabel is not None,
        thresholds=calibration.thresholds,
        threshold=calibration.threshold,
        rejection=_rejection(request.reject_rate, calibration, neighbours, rest),
        remembers=request.remember if neighbours is not None else None,
        metrics=result.metrics,
        intervals=result.intervals or {},
        files={},
    )
    return write_bundle(out, about, parameters, heads, neighbours=neighbours, projection=projection)


def _part(run: Path, store: Store, name: str) -> Joined:
    """Return one of the entries that a run was fitted on."""
    try:
        return join(store, store.choose(name))
    except UnknownNameError:
        raise BundleError(
            f"{run}: fitted on {name}, which is not in {store.folder} any more; extract it again, "
            "or name the folder that has it with --cache-dir"
        ) from None


def _projection(run: Path, parts: Sequence[Joined], pca: int | None) -> Projection | None:
    """Return what the run's PCA learnt.

    Raises
    ------
    BundleError
        The run did not keep it.
    HeadError
        The file is damaged.
    """
    if pca is None:
        return None
    advice = "run the same `probe bench` again, which fits the head anew, and name the new run"
    if not (run / PROJECTION).is_file():
        raise BundleError(f"{run}: an older probe fitted it and did not keep the PCA; {advice}")
    found = load_projection(run / PROJECTION)
    width = sum(int(np.prod(one.entry.row_shape)) for one in parts)
    if (found.n_features, found.width) != (width, pca):
        raise BundleError(
            f"{run}: {PROJECTION} is another run's, from {found.n_features} features to "
            f"{found.width} and not from {width} to {pca}; {advice}"
        )
    return found


def _sources(
    run: Path, result: RunResult, parts: Sequence[Joined], weights: Sequence[str], cache_dir: Path
) -> list[Source]:
    """Return the networks that the run's entries were made with, in the order of its features."""
    places = weights_of(weights, [one.entry.key.backbone for one in parts])
    return [
        source_of(run, result, joined.entry, place, cache_dir)
        for joined, place in zip(parts, places, strict=True)
    ]


def _training(
    sources: Sequence[Source],
    parts: Sequence[Joined],
    projection: Projection | None,
    cache_dir: Path,
    on_rows: OnRows,
) -> Training | None:
    """Return the training rows as the head takes them; None where they cannot be had."""
    store, known = Store(cache_dir), []
    for source, joined in zip(sources, parts, strict=True):
        found = cached_training(source, joined, store)
        if found is None:
            found = forwarded_training(source, joined, cache_dir, on_rows)
        if found is None:
            return None
        known.append(found)
    return joined_training(known, projection)


def _head_files(run: Path, solver: str, folds: bool) -> list[str]:
    if not folds:
        if not (run / HEAD).is_file():
            raise BundleError(f"{run}: {HEAD} is missing; fit the head again with `probe head`")
        return [HEAD]
    found = sorted(path.name for path in run.glob("head-fold*.safetensors"))
    if not found:
        if solver in HEADS and HEADS[solver].load().keeps_rows:
            raise BundleError(
                f"{run}: a run keeps no {solver} heads of folds, for each holds its training rows; "
                "leave out --folds"
            )
        raise BundleError(f"{run}: keeps no heads of folds; `probe head --folds 5` makes them")
    return found


def _rejection(
    rate: float,
    calibration: Calibration,
    neighbours: Neighbours | None,
    rest: NDArray[np.float32] | None,
) -> Rejection | None:
    if not rate:
        return None
    confidence = answered = caught = distance = None
    confidence_rows = distance_rows = 0
    held_out = calibration.held_out
    one_label = held_out is not None and held_out.labels.ndim == 1
    if held_out is not None and one_label and len(held_out) >= LEAST_HELD_OUT:
        sure, right = held_out.confidence_at(calibration.temperature or 1.0), held_out.right
        confidence, answered, caught = choose_confidence(sure, right, rate)
        confidence_rows = len(held_out)
    if neighbours is not None and rest is not None and len(rest) >= LEAST_HELD_OUT:
        distance, distance_rows = choose_distance(neighbours, rest, rate, K), len(rest)
    if confidence is None and distance is None:
        return None
    return Rejection(
        rate=rate,
        confidence=confidence,
        distance=distance,
        k=K,
        confidence_rows=confidence_rows,
        distance_rows=distance_rows,
        top1_answered=answered,
        errors_caught=caught,
    )
