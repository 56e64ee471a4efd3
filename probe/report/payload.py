"""The data that the page's scripts draw, as one JSON object with arrays in base64."""

from __future__ import annotations

import base64
import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bench.record import Row
from probe.datasets.classes import has_labels
from probe.evaluation.ranking_curves import TwoCurves
from probe.evaluation.task import task_of
from probe.report.analysis import AnyView
from probe.report.feature_map import FeatureMap
from probe.report.items import given_to, said_of
from probe.report.label_views import LabelView
from probe.report.material import Material
from probe.report.pictures import SPLITS, Pictures, Views, base_entry
from probe.report.ranking import Run
from probe.report.reliability import Reliability
from probe.report.thumbnails import COLUMNS, PER_SHEET
from probe.runs.results import LOSSES

NONE = 0xFFFF  # no label, no prediction
NOBODY = 0xFFFFFFFF
LABEL_FIGURES = ("average_precision", "precision", "recall", "f1", "auc")  # as labels.js reads them
MOST_POINTS, MOST_CURVES = 400, 10  # of two classes: points of a curve, and repeats
COSTS = {
    "multiply_adds": "multiply-adds an image",
    "total_seconds": "seconds to extract the dataset and fit",
    "extract_seconds": "seconds to extract the dataset",
    "images_per_second": "images per second",
    "parameters": "parameters",
    "head_seconds": "seconds to fit the head",
    "disk": "bytes on disk",
    "feature_dim": "features an image",
    "imagenet_top1": "ImageNet top-1, as published",
}


def payload(material: Material, views: Views, pictures: Pictures) -> dict[str, Any]:
    """Return all data of the page's scripts.

    Numbers that were not measured are null. Runs are in the order of the leaderboard.
    """
    runs = [
        _run(material, row, material.runs[row.id], views.get(row.id, {}), pictures)
        for row in material.rows
        if row.id in material.runs
    ]
    return {
        "several": not material.task.exclusive,
        "labelled": has_labels(pictures.classes),
        "metric": material.word,
        "loss": material.metric in LOSSES,
        "classes": list(pictures.classes),
        "splits": list(SPLITS),
        "items": _items(pictures),
        "runs": [run for run in runs if run["splits"] or run["history"]],
        "costs": _costs(material),
        "curves": _curves(material),
        "maps": [_map(material, one) for one in pictures.maps],
    }


def packed(values: NDArray[Any], dtype: str) -> str:
    """Return an array's bytes, little-endian, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype)).tobytes()).decode()


def packed_bits(values: NDArray[np.bool_]) -> str:
    """Return rows of booleans in base64, a row in whole bytes, highest bit first."""
    return packed(np.packbits(values, axis=1), "u1")


def _items(pictures: Pictures) -> dict[str, Any]:
    items, sheets = pictures.items, pictures.sheets
    there = sheets.there if sheets else np.zeros(len(items), np.bool_)
    return _labels(pictures.labels) | {
        "ids": [name for _, name in items.keys],
        "split": packed(np.array([SPLITS.index(split) for split, _ in items.keys]), "u1"),
        "part": packed(np.array([SPLITS.index(part) for part in items.parts]), "u1"),
        "there": packed(there, "u1"),
        "points": items.n_points,
        "about": [
            {"name": name, "values": list(one.values[:-1]), "codes": packed(one.codes, "u1")}
            for name, one in pictures.columns.items()
        ],
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
    }


def _labels(labels: NDArray[np.int64]) -> dict[str, str]:
    if task_of(labels).exclusive:
        return {"label": packed(np.where(labels < 0, NONE, labels), "<u2")}
    known = (labels >= 0).all(axis=1)
    return {"labels": packed_bits(labels == 1), "known": packed(known, "u1")}


def _run(
    material: Material, row: Row, run: Run, by_split: Any, pictures: Pictures
) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": material.labels[row.id],
        "splits": [
            _split(view, pictures.worst.get((row.id, split), []))
            for split, view in by_split.items()
        ],
        "history": [
            [one.epoch, one.train_loss, one.train_top1, one.val_loss, one.val_top1, one.val_map]
            for one in run.history
        ],
        **_predicted(material, by_split, pictures),
    }


def _predicted(material: Material, by_split: Any, pictures: Pictures) -> dict[str, str]:
    """Return a run's predictions for the page's images."""
    base = base_entry(material)
    splits = base.splits if base else ()
    if not material.task.exclusive:
        given, known = given_to(pictures.items, by_split, splits, len(pictures.classes))
        return {"given": packed_bits(given), "known": packed(known, "u1")}
    predicted, confidence = said_of(pictures.items, by_split, splits)
    return {
        "predicted": packed(np.where(predicted < 0, NONE, predicted), "<u2"),
        "confidence": packed(np.round(255 * np.clip(confidence, 0, 1)), "u1"),
    }


def _split(view: AnyView, worst: list[int]) -> dict[str, Any]:
    after = None if view.after is None else _reliability(view.after)
    about = {"name": view.split, "rows": len(view), "before": _reliability(view.before)}
    if isinstance(view, LabelView):
        return {**about, "after": after, **_labels_of(view, worst)}
    two = None if view.two is None else _two(view.two)
    return {
        **about, "after": after, "pairs": packed(view.pairs, "<u4"), "worst": worst, "two": two
    }  # fmt: skip


def _two(two: TwoCurves) -> dict[str, Any]:
    """Return the curves of two classes and the points of the chosen thresholds, in percent."""

    def percents(values: NDArray[np.float64]) -> list[float]:
        return [round(100 * one, 2) for one in values.tolist()]

    curves = [curve.thinned(MOST_POINTS) for curve in two.curves[:MOST_CURVES]]
    steps = [curve.steps() for curve in curves]
    return {
        "positive": two.positive,
        "auc": two.auc,
        "average": two.average_precision,
        "roc": [[percents(one.false_positives), percents(one.recall)] for one in curves],
        "pr": [[percents(recall), percents(precision)] for recall, precision in steps],
        "share": round(100 * float(two.curves[0].precision[-1]), 2),
        "points": [
            [words, *(None if one is None else round(100 * one, 2) for one in asdict(at).values())]
            for words, at in two.points.items()
        ],
    }


def _labels_of(view: LabelView, worst: list[int]) -> dict[str, Any]:
    """Return the figures of each label, and the wrong decisions with the highest confidence."""
    figures = [view.figures.positives, view.thresholds]
    figures += [getattr(view.figures, name) for name in LABEL_FIGURES]
    decisions = [
        [item, label, round(p, 4)]
        for item, label, p in zip(
            worst, view.worst_labels.tolist(), view.worst_probabilities.tolist(), strict=True
        )
    ]
    return {
        "labels": [[_or_none(value) for value in row] for row in zip(*figures, strict=True)],
        "false": decisions[: view.n_false],
        "missed": decisions[view.n_false :],
    }


def _or_none(value: Any) -> float | None:
    return None if math.isnan(value) else round(float(value), 5)


def _reliability(one: Reliability) -> dict[str, Any]:
    return {
        "confidence": one.confidence.round(5).tolist(),
        "accuracy": one.accuracy.round(5).tolist(),
        "count": one.count.tolist(),
        "error": one.error,
    }


def _costs(material: Material) -> list[dict[str, Any]]:
    """Return the metric, its interval and the costs of each ranked row."""
    found = []
    tied = material.comparison.tied if material.comparison else ()
    for row in material.rows:
        split = material.choosing(row)
        if split is None or row.rank is None:
            continue
        low, high = row.intervals.get(split, {}).get(material.metric, (None, None))
        values = {name: getattr(row.cost, name, None) for name in COSTS}
        values["feature_dim"] = row.feature_dim
        found.append(
            {
                "label": material.labels[row.id],
                "split": split,
                "score": row.metrics[split][material.metric],
                "low": low,
                "high": high,
                "group": row.name.split("/")[0],
                "tied": row.id in tied,
                "values": values,
            }
        )
    return found


def _curves(material: Material) -> list[dict[str, Any]]:
    found, names = [], {row.entries[0]: row.name for row in material.rows if row.entries}
    for curve in material.curves:
        bands = curve.bands()
        found.append(
            {
                "label": f"{names.get(curve.entry, curve.entry)} {curve.head}",
                "split": curve.split,
                "rows": curve.n_split,
                "perClass": list(bands),
                "mean": [band.mean for band in bands.values()],
                "deviation": [
                    None if math.isnan(band.deviation) else band.deviation
                    for band in bands.values()
                ],
                "draws": [band.count for band in bands.values()],
            }
        )
    return found


def _map(material: Material, one: FeatureMap) -> dict[str, Any]:
    names = {row.entries[0]: row.name for row in material.rows if len(row.entries) == 1}
    method = "t-SNE" if one.method == "tsne" else "PCA"
    name = names.get(one.entry, one.entry)
    if not material.rows:
        key = material.entries[one.entry].entry.key
        name = f"{key.backbone}/{key.layer}"
    return {
        "label": f"{name} · {method}",
        "method": one.method,
        "width": one.width,
        "dimensions": one.coordinates.shape[1],
        "coordinates": packed(one.coordinates, "<f4"),
        "explained": list(one.explained),
        "neighbours": packed(np.where(one.neighbours < 0, NOBODY, one.neighbours), "<u4"),
        "similarity": packed(np.round(200 * np.clip(one.similarity, 0, 1)), "u1"),
        "k": one.neighbours.shape[1],
    }
