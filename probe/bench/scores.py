"""Compute the scores that rank features without training, on the training rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bench.record import Score
from probe.bench.sources import Source
from probe.bench.transferability import NEIGHBOURS, h_score, knn_score, leep, logme, nce
from probe.cache.key import canonical_json, digest_text
from probe.core.plain import from_plain, to_plain
from probe.core.records import read_record, write_record
from probe.errors import DataError, ProbeError
from probe.evaluation.logits import softmax
from probe.evaluation.parts import SplitPlan
from probe.evaluation.splitting import validation_split
from probe.evaluation.task import task_of
from probe.evaluation.units import Units, beyond_single
from probe.extraction.request import Prepared
from probe.runs.results import versions

MOST_ROWS, MOST_NEIGHBOURS = 10_000, 5_000  # beyond, figures hardly move and time grows
LEAST_ROWS = 2 * NEIGHBOURS
MOST_WIDTH = 8192  # features: beyond, their covariance does not fit anywhere

Scorer = Callable[[], float]


def score_features(
    source: Source,
    plan: SplitPlan,
    prepared: Prepared | None,
    *,
    seed: int,
    folder: Path,
) -> list[Score]:
    """Return the transferability scores of features.

    NCE and LEEP need the backbone's own classifier: they are there where the weights hold it and
    the features are its input. Where images may have several labels there is LogME alone, its
    indicators being the labels: the others are of one class an image.

    Parameters
    ----------
    plan : SplitPlan
        Says which rows heads are trained on; at most MOST_ROWS of them are looked at, stratified.
    prepared : Prepared, optional
        The request of this pass; None where the features have no network.
    folder : Path
        Where figures are kept between benches.
    """
    train, units = plan.train, plan.units.get(plan.train.split)
    rows = np.arange(len(source.splits[train.split])) if train.rows is None else train.rows
    if units is not None and not beyond_single(units[rows]):
        units = None
    identity = {
        "entries": [entry.key.digest for entry in source.entries],
        **({"beside": source.beside} if source.beside else {}),
        "labels": source.labels_digest,
        "rows": digest_text(rows.tobytes().hex()),
        **({} if units is None else {"units": digest_text(units[rows].tobytes().hex())}),
        "seed": seed,
        "probe": versions()["probe"],
    }
    path = folder / f"{digest_text(canonical_json(identity))}.json"
    found = _read(path)
    if found is None:
        found = _compute(source, train.split, rows, prepared, seed=seed, units=units)
        write_record(path, {"scores": [to_plain(one) for one in found]}, indent=None)
    return [replace(one, features=source.name) for one in found]  # another bench's name for them


def _read(path: Path) -> list[Score] | None:
    """Return what an earlier bench kept; None where it is not there, or not as it was written."""

    def scores(plain: Any) -> list[Score]:
        return [from_plain(Score, one) for one in plain["scores"]]

    try:
        return read_record(path, "scores", scores)
    except DataError:
        return None


def _compute(
    source: Source,
    split: str,
    rows: NDArray[np.intp],
    prepared: Prepared | None,
    *,
    seed: int,
    units: Units | None,
) -> list[Score]:
    whole = source.splits[split]
    rows = _some(rows, whole.labels, MOST_ROWS, seed)
    if len(rows) < LEAST_ROWS or source.width > MOST_WIDTH:
        return []
    views = len(whole.features.reshape(len(whole), -1, source.width)[0])
    plain = whole.features.reshape(len(whole), views, -1)[:, 0]  # the first view is the image
    X, y = plain[rows].astype(np.float32), whole.labels[rows]
    tasks: list[tuple[str, int, Scorer]] = [("logme", len(X), lambda: logme(X, y))]
    if task_of(y).exclusive:
        few = _some(np.arange(len(rows)), y, MOST_NEIGHBOURS, seed)
        own = None if units is None else units[rows[few]]
        tasks += _of_one_label(X, y, (few, own), _classifier(prepared, source))
    found = []
    for name, count, compute in tasks:
        started = time.perf_counter()
        value = compute()
        found.append(
            Score(
                name=name, features=source.name, value=value if np.isfinite(value) else None,
                seconds=time.perf_counter() - started, n_rows=count,
            )
        )  # fmt: skip
    return found


def _of_one_label(
    X: NDArray[np.float32],
    y: NDArray[Any],
    neighbours: tuple[NDArray[np.intp], Units | None],
    top: tuple[Any, Any] | None,
) -> list[tuple[str, int, Scorer]]:
    few, units = neighbours
    tasks: list[tuple[str, int, Scorer]] = [
        ("h_score", len(X), lambda: h_score(X, y)),
        ("h_score_shrunk", len(X), lambda: h_score(X, y, shrink=True)),
        ("knn", len(few), lambda: knn_score(X[few], y[few], units=units)),
    ]
    if top is None:
        return tasks
    p = softmax(X @ top[0].T + top[1])
    nce_of, leep_of = lambda: nce(p.argmax(axis=1), y), lambda: leep(p, y)
    return [*tasks, ("nce", len(X), nce_of), ("leep", len(X), leep_of)]


def _some(rows: NDArray[np.intp], labels: NDArray[Any], most: int, seed: int) -> NDArray[np.intp]:
    """Return at most so many of the rows, stratified."""
    if len(rows) <= most:
        return rows
    return rows[validation_split(labels[rows], most, seed)[1]]


def _classifier(prepared: Prepared | None, source: Source) -> tuple[Any, Any] | None:
    """Return weight, (1000, d), and bias of the backbone's own classifier on these features."""
    if prepared is None:
        return None
    key, backbone = source.entries[0].key, prepared.backbone
    if key.layer != backbone.layers[-1].name or backbone.layers[-1].kind == "map":
        return None
    try:
        if not prepared.weights.has_top(backbone):
            return None
        loaded = prepared.weights.load(backbone, backbone.logits).parameters
    except ProbeError:
        return None  # the file went away since; the features are here all the same
    weight, bias = loaded.get("output.weight"), loaded.get("output.bias")
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != source.width:
        return None  # a convolution, or something comes between
    return weight, bias
