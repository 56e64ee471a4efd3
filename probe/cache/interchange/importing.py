"""Make an entry of imported features and labels."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import SplitTable, encode_strings
from probe.cache.features import FeatureSet
from probe.cache.interchange.labels import Made, Part, class_numbers
from probe.cache.interchange.read import read_parts
from probe.cache.interchange.roles import Names
from probe.cache.key import SPLIT_ORDER, FeatureKey, canonical_json, digest_rows
from probe.cache.pending import Draft, PendingEntry
from probe.cache.store import Store
from probe.core.columns import encode_columns
from probe.errors import DataError, UsageError
from probe.preprocess.views import VIEWS

log = logging.getLogger(__name__)

BOTTLENECK = re.compile(
    r"(?P<network>.+)_(?P<dataset>[^_]*[^_\d][^_]*)(?P<small>_100)?_bottleneck_features_"
    r"(?P<split>train|validation|test)"
)
UNKNOWN = "unknown"
USUAL = Names()


def import_features(
    paths: Sequence[Path],
    store: Store,
    *,
    names: Names = USUAL,
    split: str | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    classes: Sequence[str] | None = None,
) -> FeatureSet:
    """Make one entry of pickles, .npy, .npz or HDF5 files with features and labels.

    Pickles are read without running code. How the features were made is unknown, which the entry's
    key and provenance record.

    Parameters
    ----------
    paths : sequence of Path
        Files of one dataset; their names or those of their arrays give the split.
    split : str, optional
        The split of files whose names do not give it.
    dataset, backbone : str, optional
        Default: as recorded by `export_features`, or from
        ``{network}_{dataset}[_100]_bottleneck_features_{train,validation}.p``.
    classes : sequence of str, optional
        Default: the file's array `classes`, those of a named dataset, or the labels themselves.

    Raises
    ------
    DataError
        An array is missing, not finite, or of an impossible shape.
    UnsafeFileError
        A pickle contains code. None was run.
    """
    if names.labels is not None and names.labels.endswith(".npy") and len(paths) > 1:
        raise UsageError(
            f"--labels {names.labels}: one file of labels for {len(paths)} of features; import "
            "them apart, each with its own, and --split"
        )
    parts: dict[str, Part] = {}
    for path in paths:
        for name, part in read_parts(path, names, split).items():
            if name in parts:
                raise UsageError(f"{path}: {parts[name].source} is {name} too; import them apart")
            parts[name] = part
    found = BOTTLENECK.search(paths[0].stem)
    if found:
        backbone = backbone or found["network"]
        dataset = dataset or found["dataset"] + (found["small"] or "")
    made = _made(parts)
    dataset = dataset or (made.dataset if made is not None else paths[0].stem)
    parts = {name: parts[name] for name in SPLIT_ORDER if name in parts}
    classes = classes or _agreed(parts)
    labels, known = class_numbers(parts, classes, dataset)
    recipe = {
        "backbone": backbone or (made.backbone if made is not None else UNKNOWN),
        "layer": made.layer if made is not None else UNKNOWN,
        "pool": made.pool if made is not None else "none",
        "views": made.views if made is not None else "none",
    }
    entry = _write(store, parts, labels, known, dataset=dataset, recipe=recipe)
    _tell_apart(store, entry)
    return entry


def _tell_apart(store: Store, entry: FeatureSet) -> None:
    """Warn where separately imported splits of a dataset will not be joined."""
    for other in store.entries():
        same = other.dataset == entry.dataset and other.key.recipe == entry.key.recipe
        if same and not set(other.counts) & set(entry.splits):
            classes = FeatureSet.open(other.path).classes
            if classes != entry.classes:
                log.warning(
                    "%s has other classes (%d, here %d), so its splits stay apart; import all "
                    "files at once, or say --classes",
                    other.name, len(classes), len(entry.classes),
                )  # fmt: skip


def _made(parts: Mapping[str, Part]) -> Made | None:
    """Return the origin of exported features.

    Raises
    ------
    DataError
        They are features of different layers.
    """
    said = {replace(one.made, dataset=""): one for one in parts.values() if one.made}
    if len(said) > 1:
        (first, a), (second, b), *_ = said.items()
        raise DataError(
            f"{a.source} has features of {first.backbone} {first.layer} and {b.source} of "
            f"{second.backbone} {second.layer}; import them apart"
        )
    return next((one.made for one in said.values()), None)


def _agreed(parts: Mapping[str, Part]) -> tuple[str, ...] | None:
    """Return the class names in the files, or None."""
    said = {one.classes: one.source for one in parts.values() if one.classes}
    if len(said) > 1:
        first, second, *_ = said.values()
        raise DataError(f"{first} and {second} name other classes; give them (--classes a,b,c)")
    return next(iter(said), None)


def _write(
    store: Store,
    parts: Mapping[str, Part],
    labels: Mapping[str, NDArray[np.int32] | NDArray[np.uint8]],
    classes: tuple[str, ...],
    *,
    dataset: str,
    recipe: Mapping[str, str],
) -> FeatureSet:
    shapes = {part.features.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{dataset}: splits have features of different shapes ({shapes})")
    half = all(part.features.dtype == np.float16 for part in parts.values())
    rows = {
        name: _finite(part, np.dtype(np.float16 if half else np.float32))
        for name, part in parts.items()
    }
    draft = _draft(parts, rows, labels, classes, dataset=dataset, recipe=recipe)
    with store.lock(draft.key):
        pending = PendingEntry(store, draft, fresh=True)
        try:
            for name, features in rows.items():
                pending.writer.write(name, np.arange(len(features)), features)
                for block in range(pending.writer.header.block_count(name)):
                    pending.writer.finish_block(name, block)
            return pending.publish(seconds=0.0, forwarded=0)
        finally:
            pending.close()


def _draft(
    parts: Mapping[str, Part],
    rows: Mapping[str, NDArray[Any]],
    labels: Mapping[str, NDArray[np.int32] | NDArray[np.uint8]],
    classes: tuple[str, ...],
    *,
    dataset: str,
    recipe: Mapping[str, str],
) -> Draft:
    tables = {}
    for name, part in parts.items():
        columns, values = encode_columns(part.columns, len(rows[name]))
        tables[name] = SplitTable(
            labels=labels[name],
            ids=encode_strings(part.ids or [f"{name}/{row:05d}" for row in range(len(rows[name]))]),
            content=_row_hashes(rows[name]),
            columns=columns,
            column_values=values,
        )
    row_shape = next(iter(rows.values())).shape[1:]
    views = recipe["views"] if row_shape[:1] == (VIEWS[recipe["views"]],) else "none"
    key = FeatureKey(
        backbone=recipe["backbone"],
        layer=recipe["layer"],
        pool=recipe["pool"],
        views=views,
        parameters=UNKNOWN,
        preprocess=canonical_json({UNKNOWN: True}),
        rows=tuple((name, digest_rows(table.content)) for name, table in tables.items()),
        dtype=next(iter(rows.values())).dtype.name,
        compute=UNKNOWN,
    )
    provenance = {
        "dataset": dataset,
        "provenance": "unknown: imported, and content is the hash of each row, not of an image",
        "imported": sorted({str(part.source.absolute()) for part in parts.values()}),
    }
    return Draft(
        key=key,
        dataset=dataset,
        tables=tables,
        row_shape=row_shape,
        classes=classes,
        provenance=provenance,
    )


def _finite(part: Part, dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(part.features, dtype)
    bad = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"{part.source}: row {int(bad.argmax())} has a feature that is not finite as {dtype}"
        )
    return rows


def _row_hashes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    hashes = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
