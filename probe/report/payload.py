"""The data that the page's scripts draw, as one JSON object; arrays are packed in base64."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.outcome import Row
from probe.report.analysis import Reliability, SplitView
from probe.report.feature_map import FeatureMap
from probe.report.items import said_of
from probe.report.material import Material
from probe.report.pictures import SPLITS, Pictures, Views, base_entry
from probe.report.ranking import Run
from probe.report.thumbnails import COLUMNS, PER_SHEET

NONE = 0xFFFF  # no label, no prediction
NOBODY = 0xFFFFFFFF
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
    """Return everything that is drawn.

    Numbers that were not measured are null; the order of runs is that of the leaderboard.
    """
    runs = [
        _run(material, row, material.runs[row.id], views.get(row.id, {}), pictures)
        for row in material.rows
        if row.id in material.runs
    ]
    return {
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


def _items(pictures: Pictures) -> dict[str, Any]:
    items, sheets = pictures.items, pictures.sheets
    there = sheets.there if sheets else np.zeros(len(items), np.bool_)
    return {
        "ids": [name for _, name in items.keys],
        "split": packed(np.array([SPLITS.index(split) for split, _ in items.keys]), "u1"),
        "part": packed(np.array([SPLITS.index(part) for part in items.parts]), "u1"),
        "label": packed(np.where(pictures.labels < 0, NONE, pictures.labels), "<u2"),
        "there": packed(there, "u1"),
        "points": items.n_points,
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
    }


def _run(
    material: Material, row: Row, run: Run, by_split: Any, pictures: Pictures
) -> dict[str, Any]:
    base = base_entry(material)
    predicted, confidence = said_of(pictures.items, by_split, base.splits if base else ())
    return {
        "id": row.id,
        "label": material.labels[row.id],
        "splits": [
            _split(view, pictures.worst.get((row.id, split), []))
            for split, view in by_split.items()
        ],
        "history": [
            [one.epoch, one.train_loss, one.train_top1, one.val_loss, one.val_top1]
            for one in run.history
        ],
        "predicted": packed(np.where(predicted < 0, NONE, predicted), "<u2"),
        "confidence": packed(np.round(255 * np.clip(confidence, 0, 1)), "u1"),
    }


def _split(view: SplitView, worst: list[int]) -> dict[str, Any]:
    return {
        "name": view.split,
        "rows": len(view),
        "pairs": packed(view.pairs, "<u4"),
        "before": _reliability(view.before),
        "after": None if view.after is None else _reliability(view.after),
        "worst": worst,
    }


def _reliability(one: Reliability) -> dict[str, Any]:
    return {
        "confidence": one.confidence.round(5).tolist(),
        "accuracy": one.accuracy.round(5).tolist(),
        "count": one.count.tolist(),
        "error": one.error,
    }


def _costs(material: Material) -> list[dict[str, Any]]:
    """Return accuracy, its interval and the costs of each row that was ranked."""
    found = []
    tied = material.comparison.tied if material.comparison else ()
    for row in material.rows:
        split = material.choosing(row)
        if split is None or row.rank is None:
            continue
        low, high = row.intervals.get(split, {}).get("top1", (None, None))
        values = {name: getattr(row.cost, name, None) for name in COSTS}
        values["feature_dim"] = row.feature_dim
        found.append(
            {
                "label": material.labels[row.id],
                "split": split,
                "score": row.metrics[split]["top1"],
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
    return {
        "label": f"{names.get(one.entry, one.entry)} · {method}",
        "method": one.method,
        "width": one.width,
        "dimensions": one.coordinates.shape[1],
        "coordinates": packed(one.coordinates, "<f4"),
        "explained": list(one.explained),
        "neighbours": packed(np.where(one.neighbours < 0, NOBODY, one.neighbours), "<u4"),
        "similarity": packed(np.round(200 * np.clip(one.similarity, 0, 1)), "u1"),
        "k": one.neighbours.shape[1],
    }
