"""Make a bundle of a run: its networks, its head, their calibration and the training rows to keep.

Temperature and thresholds come from held-out rows. No cache has the training features of a
fine-tuned network, so those are computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.bundle import About, Bundle, Neighbours, Rejection, write_bundle
from probe.bundle.about import ENSEMBLE, REMEMBERED, SCHEMA
from probe.bundle.files import require_free
from probe.bundle.make.source import (
    PROMOTED,
    Source,
    members_of,
    share_parameters,
    source_of,
    weights_of,
)
from probe.bundle.make.training import (
    OnRows,
    Training,
    cached_training,
    forwarded_training,
    joined_training,
    remembered,
)
from probe.bundle.neighbours import K
from probe.bundle.reject import LEAST_HELD_OUT, choose_confidence, choose_distance
from probe.cache.joining import Joined, join, parse_features_name
from probe.cache.store import Store
from probe.core.short_repr import short_repr
from probe.engines import check_device_name, check_engine_name
from probe.errors import BundleError, UnknownNameError, UsageError
from probe.evaluation.predictions import Predictions, load_predictions
from probe.evaluation.scored import usable_temperature
from probe.evaluation.task import MULTI_LABEL
from probe.evaluation.two_classes import Threshold
from probe.heads import HEADS, load_head
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import Projection, load_projection
from probe.runs.fit import FOLD_HEAD, HEAD
from probe.runs.results import RunResult, read_run
from probe.runs.same_classes import require_same_classes

NOTHING = "nothing"  # as people say that a bundle keeps none


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """Options of `probe bundle`.

    Parameters
    ----------
    weights : tuple of str
        Paths of weights that were moved since extraction: ``FILE``, or with several backbones
        ``BACKBONE=FILE``.
    folds : bool
        Take the heads of all folds instead of the final head.
    reject_rate : float
        The share of held-out images that each flag may apply to; 0 for no flags.
    remember : str or None
        What to keep of training images besides features: one of `REMEMBERED`; None, or
        ``nothing``, for nothing.
    engine, device : str
        What runs the networks, on training and reference images; see `probe.engines.make_engine`.
    """

    weights: tuple[str, ...] = ()
    folds: bool = False
    reject_rate: float = 0.05
    remember: str | None = "labels"
    engine: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_engine_name(self.engine)
        check_device_name(self.device)
        if not 0 <= self.reject_rate < 0.5:
            raise UsageError(f"--reject-rate {self.reject_rate:g}: expected 0 to below 0.5")
        if self.remember == NOTHING:
            object.__setattr__(self, "remember", None)
        if self.remember not in (None, *REMEMBERED):
            names = ", ".join((NOTHING, *REMEMBERED))
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

    A run of `probe bench` on concatenated features has several networks, and maybe a PCA; one of
    `probe promote --folds` has a network and a head for each fold. Training
    features to keep come from the cache; for a promoted run whose features were not extracted they
    are computed for at most 4,000 images.

    Parameters
    ----------
    run : Path
        The folder of a head run or of a promoted one.
    out : Path
        A new folder, or with the ending ``.probe`` a new file.
    on_rows : callable, optional
        Called with (images done, images in all) while training features are computed.

    Raises
    ------
    BundleError
        The run's entry or weights are missing or have changed, or `out` cannot be written.
    """
    request = request or BundleRequest()
    require_free(out)  # before anything is read or forwarded
    result, store = read_run(run), Store(cache_dir)
    if request.folds and "threshold" in (result.two_classes or {}):
        raise UsageError(
            "the run's threshold is for its own head, and not for the mean of the heads of its "
            "folds: leave --fold-heads out, or fit with --ensemble average"
        )
    entries, pca = parse_features_name(result.entry)
    parts = [_part(run, store, name) for name in entries]
    for part in parts:
        require_same_classes(run, result, part.entry.classes)
    projection = _projection(run, parts, pca)
    if request.weights and result.head == PROMOTED:
        raise UsageError("--weights: a fine-tuned run has a network of its own; leave it out")
    members = members_of(run, result)
    if len(members) > 1:  # networks that were fine-tuned for folds, each with its head
        if request.folds:
            raise UsageError(
                f"--fold-heads: {run.name} has a network for each fold, and its bundle has all of "
                "them; leave it out"
            )
        names = [FOLD_HEAD.format(number) for number in range(1, len(members) + 1)]
        heads = [load_head(member / HEAD) for member in members]
        parts = parts * len(members)
        sources = [source_of(member, result, parts[0].entry, None, cache_dir) for member in members]
    else:
        sources = _sources(run, result, parts, request.weights, cache_dir)
        names = _head_files(run, result.head, request.folds)
        heads = [load_head(run / name) for name in names]
    predictions = load_predictions(run)
    calibration = (
        calibration_of_folds(predictions, result.temperature)
        if request.folds
        else calibration_of(result, predictions, parts[0].entry.classes, ensemble=len(members) > 1)
    )
    neighbours = rest = None
    if request.remember is not None:
        training = _training(
            sources, parts, projection, cache_dir, request=request, on_rows=on_rows
        )
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
        several=not result.task.exclusive,
        ensemble=len(members) > 1,
        schema=ENSEMBLE if len(members) > 1 else SCHEMA,
        thresholds=calibration.thresholds,
        threshold=calibration.threshold,
        rejection=_rejection(request.reject_rate, calibration, neighbours, rest),
        remembers=request.remember if neighbours is not None else None,
        metrics=result.metrics,
        intervals=result.intervals or {},
        files={},
    )
    return write_bundle(
        out, about, parameters, heads, neighbours=neighbours, projection=projection,
        engine=request.engine, device=request.device,
    )  # fmt: skip


def _part(run: Path, store: Store, name: str) -> Joined:
    """Return one of the entries that a run was fitted on, or raise BundleError."""
    try:
        return join(store, store.choose(name))
    except UnknownNameError:
        raise BundleError(
            f"{run}: fitted on {name}, which is not in {store.folder} any more; extract it again, "
            "or name the folder that has it with --cache-dir"
        ) from None


def _projection(run: Path, parts: Sequence[Joined], pca: int | None) -> Projection | None:
    """Return the run's PCA; None if it has none.

    Raises
    ------
    BundleError
        The run did not keep it, or keeps that of another run.
    HeadError
        The file is damaged.
    """
    if pca is None:
        return None
    advice = "run the same `probe bench` again, which fits the head anew, and name the new run"
    if not (run / PROJECTION).is_file():
        raise BundleError(f"{run}: an older probe fitted it and did not keep the PCA; {advice}")
    found = load_projection(run / PROJECTION)
    width = sum(one.entry.width for one in parts)
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
    *,
    request: BundleRequest,
    on_rows: OnRows,
) -> Training | None:
    """Return the training rows as the head takes them; None if a network's are not available."""
    store, known = Store(cache_dir), []
    for source, joined in zip(sources, parts, strict=True):
        found = cached_training(source, joined, store)
        if found is None:
            found = forwarded_training(
                source, joined, cache_dir, on_rows, engine=request.engine, device=request.device
            )
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
        if solver in HEADS and HEADS[solver].keeps_rows:
            raise BundleError(
                f"{run}: a run keeps no {solver} heads of folds, for each holds its training rows; "
                "leave out --fold-heads"
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
    exclusive = held_out is not None and held_out.task.exclusive
    if held_out is not None and exclusive and len(held_out) >= LEAST_HELD_OUT:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Temperature and thresholds, each None if there is none.

    Parameters
    ----------
    held_out : Predictions or None
        Uncalibrated predictions of held-out rows.
    thresholds : tuple of float, or None
        Multi-label: lowest calibrated probability at which each label is predicted, (n_classes,).
    threshold : Threshold or None
        Two classes: threshold on calibrated probabilities.
    """

    __repr__ = short_repr

    held_out: Predictions | None = None
    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None
    threshold: Threshold | None = None


def calibration_of(
    result: RunResult, predictions: Mapping[str, Predictions], classes: Sequence[str], *,
    ensemble: bool = False,
) -> Calibration:  # fmt: skip
    """Return the calibration of the run's final head, as the run recorded it.

    A vote has none: a temperature cannot calibrate shares of votes, and thresholds chosen on the
    members' probabilities do not hold for them. An ensemble of networks has no temperature, and no
    threshold of confidence from images in its folds: there one network answers, which is surer
    than the mean of all.
    """
    if result.params.get("ensemble") == "vote":
        return Calibration()
    held_out, temperature = predictions.get("val") or predictions.get("oof"), result.temperature
    if ensemble:
        held_out = predictions.get("val")  # of images outside the folds, if any
    elif temperature is None:
        temperature = _fitted(held_out)
    chosen = None
    if result.multilabel is not None and {"val", "oof"} & result.metrics.keys():
        chosen = [result.multilabel["classes"][name]["threshold"] for name in classes]
    two = (result.two_classes or {}).get("threshold")
    return Calibration(
        held_out=held_out, temperature=temperature, thresholds=_moved(chosen, temperature),
        threshold=Threshold(**two).cooled(temperature) if two is not None else None,
    )  # fmt: skip


def calibration_of_folds(
    predictions: Mapping[str, Predictions], fitted: float | None = None
) -> Calibration:
    """Return the calibration of the heads of all folds, on the rows that each fold held out.

    With many classes not all scores are kept; then the temperature that the run `fitted` is used,
    if that was on these rows.
    """
    held_out = predictions.get("oof")
    temperature, chosen = _fitted(held_out), None
    if held_out is not None and held_out.classes is not None and "val" not in predictions:
        temperature = fitted
    if held_out is not None:
        p = held_out.probabilities.astype(np.float64)
        chosen = held_out.task.thresholds(p, held_out.labels)
    return Calibration(
        held_out=held_out, temperature=temperature, thresholds=_moved(chosen, temperature)
    )


def _fitted(held_out: Predictions | None) -> float | None:
    if held_out is None or len(held_out) < LEAST_HELD_OUT:
        return None
    if held_out.classes is not None:  # not all scores are kept
        return None
    return usable_temperature(held_out.scores, held_out.labels)


def _moved(chosen: ArrayLike | None, temperature: float | None) -> tuple[float, ...] | None:
    """Return the calibrated probabilities that thresholds on uncalibrated ones become."""
    if chosen is None:
        return None
    logits = MULTI_LABEL.logits_of(np.asarray(chosen, np.float64)[None])
    moved = MULTI_LABEL.apply_temperature(logits, temperature or 1.0)[0]
    return tuple(float(one) for one in moved)
