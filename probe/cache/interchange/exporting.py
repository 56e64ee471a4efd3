"""Export an entry as .npz, Parquet or safetensors, after checking every row."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.key import canonical_json
from probe.core.columns import free_names, names_of
from probe.core.files import replacing
from probe.errors import DataError, UsageError
from probe.evaluation.task import task_of, task_of_splits

COLUMNS = "columns"  # in a Parquet file's metadata


def export_features(entry: FeatureSet, path: Path) -> None:
    """Write an entry in the format that the file's ending names.

        .npz          {split}_features, {split}_labels, {split}_ids, classes; key and provenance;
                      {split}_columns, where there is a table, the bytes of a JSON object of names
                      and lists of text
        .parquet      a row an image: split, id, label and class (multi-label: labels, a list of
                      names), features (a fixed-size list), and the columns of a table under their
                      names; the shape of a row, classes, key and provenance in the schema's
                      metadata, and which columns are a table's
        .safetensors  {split}.features, {split}.labels; the rest as JSON in the metadata

    Raises
    ------
    UsageError
        Another ending, or pyarrow is not installed.
    CorruptEntryError
        The entry is damaged.
    DataError
        The file cannot be written.
    """
    writer = FORMATS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: expected one of {', '.join(FORMATS)}")
    try:
        with replacing(path) as temporary:
            writer(entry, temporary)
    except OSError as error:
        if isinstance(error, DataError) or not error.errno:
            raise
        raise DataError(f"{path}: cannot be written ({error.strerror}); name another") from error


def _npz(entry: FeatureSet, path: Path) -> None:
    arrays: dict[str, Any] = {"classes": np.array(entry.classes)}
    for name, split in entry.splits.items():
        arrays[f"{name}_features"], arrays[f"{name}_labels"] = split.features, split.labels
        arrays[f"{name}_ids"] = np.array(split.ids)
        if split.columns:
            arrays[f"{name}_columns"] = np.frombuffer(_table(split).encode(), np.uint8)
    arrays["key"], arrays["provenance"] = (np.array(text) for text in _texts(entry))
    with zipfile.ZipFile(path, "w") as archive:  # np.savez leaves its file open on a full disk
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(  # type: ignore[no-untyped-call]
                    member, array, allow_pickle=False
                )


def _safetensors(entry: FeatureSet, path: Path) -> None:
    tensors = {}
    metadata = dict(zip(("key", "provenance"), _texts(entry), strict=True))
    metadata["classes"] = json.dumps(entry.classes)
    for name, split in entry.splits.items():
        tensors[f"{name}.features"] = np.ascontiguousarray(split.features)
        tensors[f"{name}.labels"] = np.ascontiguousarray(split.labels)
        metadata[f"{name}.ids"] = json.dumps(split.ids)
        if split.columns:
            metadata[f"{name}.columns"] = _table(split)
    save_file(tensors, path, metadata)


def _table(split: FeatureSplit) -> str:
    """Return the columns of a table as JSON: names, each with a list of text."""
    columns = {name: list(cells) for name, cells in split.columns.items()}
    return json.dumps(columns, ensure_ascii=False)


def _parquet(entry: FeatureSet, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            ".parquet needs pyarrow; install it with `pip install 'frozen-probe[parquet]'`"
        ) from None
    width = int(np.prod(entry.row_shape))
    kind = pa.from_numpy_dtype(np.dtype(entry.key.dtype))
    texts = dict(zip(("key", "provenance"), _texts(entry), strict=True))
    task = task_of_splits(split.labels for split in entry.splits.values())
    one_label = {"label": pa.int32(), "class": pa.string()}
    own = {
        "split": pa.string(),
        "id": pa.string(),
        **(one_label if task.exclusive else {"labels": pa.list_(pa.string())}),
        "features": pa.list_(kind, width),
    }
    named = free_names(names_of(split.columns for split in entry.splits.values()), own)
    schema = pa.schema(
        {**own, **dict.fromkeys(named.values(), pa.string())},
        metadata={
            **texts,
            **({COLUMNS: json.dumps(named)} if named else {}),
            "row_shape": json.dumps(entry.row_shape),
            "classes": json.dumps(entry.classes),
        },
    )
    with pq.ParquetWriter(path, schema) as writer:
        for name, split in entry.splits.items():
            start = 0
            for block in split.blocks():
                stop = start + len(block)
                labels = split.labels[start:stop]
                flat = pa.array(np.ascontiguousarray(block).reshape(-1), kind)
                columns = [
                    pa.array([name] * len(block)),
                    pa.array(split.ids[start:stop]),
                    *_label_columns(pa, entry.classes, labels),
                    pa.FixedSizeListArray.from_arrays(flat, width),
                    *(_texts_of(pa, split, one, start, stop) for one in named),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                start = stop


def _texts_of(pa: Any, split: FeatureSplit, name: str, start: int, stop: int) -> Any:
    """Return some rows of a table's column; of nothing where the split lacks it."""
    cells = split.columns.get(name)
    found = [None] * (stop - start) if cells is None else list(cells[start:stop])
    return pa.array(found, pa.string())


def _label_columns(pa: Any, classes: tuple[str, ...], labels: Any) -> list[Any]:
    """Return columns of label numbers and names; multi-label: one of lists of names."""
    if task_of(labels).exclusive:
        return [pa.array(labels), pa.array([classes[label] for label in labels.tolist()])]
    return [pa.array([[classes[i] for i in np.flatnonzero(row)] for row in labels])]


def _texts(entry: FeatureSet) -> tuple[str, str]:
    return canonical_json(entry.key.to_json()), canonical_json(dict(entry.provenance))


FORMATS: dict[str, Callable[[FeatureSet, Path], None]] = {
    ".npz": _npz,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}
