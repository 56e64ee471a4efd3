"""A run as a bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.bundle import About, Bundle, Neighbours, Rejection, write_bundle
from probe.bundle.about import REMEMBERED
from probe.bundle.neighbours import K
from probe.bundle.reject import LEAST_HELD_OUT, choose_confidence, choose_distance
from probe.bundling.forwarding import OnRows, forwarded_training
from probe.bundling.source import source_of
from probe.bundling.training import cached_training, remembered
from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import BundleError, UsageError
from probe.heads import load_head
from probe.predictions import Predictions, load_predictions
from probe.results import RunResult, read_run, require_one_label
from probe.runs import HEAD
from probe.statistics import apply_temperature, fit_temperature


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """What `probe bundle` was asked for.

    Parameters
    ----------
    weights : str, optional
        Where the weights are now, if not where the pass found them.
    folds : bool
        Take the heads of all folds instead of the final one.
    reject_rate : float
        The share of held-out images that each flag may hit; 0 for no flags.
    remember : str or None
        What to keep of training images beside features: one of `REMEMBERED`; None for nothing.
    """

    weights: str | None = None
    folds: bool = False
    reject_rate: float = 0.05
    remember: str | None = "labels"

    def __post_init__(self) -> None:
        if not 0 <= self.reject_rate < 0.5:
            raise UsageError(f"--reject-rate {self.reject_rate:g}: expected 0 to below 0.5")
        if self.remember not in (None, *REMEMBERED):
            names = ", ".join(("nothing", *REMEMBERED))
            raise UsageError(f"--remember {self.remember}: expected {names}")


def newest_run(runs: Path) -> Path:
    """Return the newest complete run's folder.

    Raises
    ------
    BundleError
        There is none.
    """
    complete = sorted(path.parent for path in runs.glob("*/result.json"))
    if not complete:
        raise BundleError(f"{runs}: no runs yet; `probe head` makes one")
    return complete[-1]


def bundle_run(
    run: Path,
    out: Path,
    *,
    cache_dir: Path,
    request: BundleRequest | None = None,
    on_rows: OnRows = lambda _done, _total: None,
) -> Bundle:
    """Make a bundle of a run: network, weights, head, classes and what the run measured.

    What it remembers of training images comes from the cache, or of a promoted run, whose features
    nobody extracted yet, from a forward pass over at most 4,000 of them.

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
    if out.exists():
        raise BundleError(f"{out}: is there already; name another place with --out")
    result, store = read_run(run), Store(cache_dir)
    _require_one_network(run, result)
    require_one_label(result, "probe bundle")
    joined = join(store, store.choose(result.entry))
    source = source_of(run, result, joined.entry, request.weights, cache_dir)
    names = _head_files(run, request.folds)
    heads = [load_head(run / name) for name in names]
    training = cached_training(source, joined, store)
    if training is None and request.remember is not None:
        training = forwarded_training(source, joined, cache_dir, on_rows)
    predictions = load_predictions(run)
    held_out = predictions.get("val") or predictions.get("oof")
    temperature = _temperature(result, held_out)
    neighbours, rest = remembered(training, predictions.get("val"), request.remember, cache_dir)
    about = About(
        backbone=source.key.backbone,
        layer=source.key.layer,
        pool=source.key.pool,
        preprocess=source.preprocess.to_json(),
        classes=joined.entry.classes,
        parameters=source.loaded.digest,
        weights=source.weights.name,
        licence=source.licence,
        dataset=result.dataset,
        head=result.head,
        run=run.name,
        heads=tuple(names),
        temperature=temperature,
        rejection=_rejection(request.reject_rate, held_out, temperature, neighbours, rest),
        remembers=request.remember if neighbours is not None else None,
        metrics=result.metrics,
        intervals=result.intervals or {},
        files={},
    )
    return write_bundle(out, about, source.loaded.parameters, heads, neighbours)


def _require_one_network(run: Path, result: RunResult) -> None:
    if "+" in result.backbone or re.search(r"-pca\d+$", result.entry):
        raise BundleError(
            f"{run}: fitted on {result.entry}; features of several backbones side by side, or "
            "after a PCA, can be compared, not bundled yet: name the run of a plain row"
        )


def _head_files(run: Path, folds: bool) -> list[str]:
    if not folds:
        if not (run / HEAD).is_file():
            raise BundleError(f"{run}: {HEAD} is missing; fit the head again with `probe head`")
        return [HEAD]
    found = sorted(path.name for path in run.glob("head-fold*.safetensors"))
    if not found:
        raise BundleError(
            f"{run}: keeps no heads of folds; `probe head --folds 5` with a grid makes them"
        )
    return found


def _temperature(result: RunResult, held_out: Predictions | None) -> float | None:
    """Return the run's temperature; of a run with folds that of the rows each fold held out."""
    if result.temperature is not None:
        return result.temperature
    if held_out is None or len(held_out) < LEAST_HELD_OUT:
        return None
    return fit_temperature(held_out.probabilities, held_out.labels)


def _rejection(
    rate: float,
    held_out: Predictions | None,
    temperature: float | None,
    neighbours: Neighbours | None,
    rest: NDArray[np.float32] | None,
) -> Rejection | None:
    if not rate:
        return None
    confidence = answered = caught = distance = None
    confidence_rows = distance_rows = 0
    if held_out is not None and len(held_out) >= LEAST_HELD_OUT:
        probabilities = apply_temperature(held_out.probabilities, temperature or 1.0)
        confidence, answered, caught = choose_confidence(probabilities, held_out.labels, rate)
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
