"""Read the columns of Parquet files and Arrow batches as the cells of a list of images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from probe.core.records import in_one_line
from probe.datasets.tables.cells import BAR, Cells, Lines, check_size
from probe.datasets.tables.text_lists import check_file
from probe.errors import DataError, UsageError

MOST_TEXT = 2**30  # bytes of the columns that are read
_BATCH = 512  # rows, of which a hostile file may have long ones
_INDEX = re.compile(r"__index_level_\d+__")  # of pandas' rows


def read_parquet_list(path: Path) -> Cells:
    """Read a Parquet table whose columns are paths, labels and whatever else.

    Columns of bytes, such as images, and nested ones are not read, but for lists of texts or
    numbers: those are one cell with bars between them, as in the column ``labels``. Numbers that
    Hugging Face's `datasets` gave names to are those names.

    Raises
    ------
    UsageError
        pyarrow is not installed.
    DataError
        It is no Parquet table, or larger than a list of images is; the message has the file.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            f"{path}: Parquet needs pyarrow; install it with `pip install 'frozen-probe[parquet]'`"
        ) from None
    check_file(path, most=None)
    try:
        with pq.ParquetFile(path) as file:
            return parquet_cells(str(path), file, readable_columns(file.schema_arrow))
    except DataError:
        raise
    except Exception as error:  # pyarrow raises its own, and those of Python
        raise DataError(f"{path}: is no readable Parquet file ({in_one_line(error)})") from error


def parquet_cells(place: str, file: Any, names: Sequence[str]) -> Cells:
    """Return columns of an opened Parquet file as cells; see `arrow_cells`.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile

    Raises
    ------
    DataError
        It has more rows or text than a list of images, or other rows than it says.
    """
    schema, metadata = file.schema_arrow, file.metadata
    check_size(place, len(names), metadata.num_rows)
    if len(names) == len(schema):
        groups = range(metadata.num_row_groups)
        # of columns, pyarrow ends the process where a damaged file lies about their sizes
        _check_text(place, sum(metadata.row_group(n).total_byte_size for n in groups))
    # on one thread: each has a page of its own in memory
    batches = file.iter_batches(batch_size=_BATCH, columns=names, use_threads=False)
    cells = arrow_cells(place, schema, batches, names)
    if names and len(cells) != metadata.num_rows:
        raise DataError(
            f"{place}: has {len(cells):,} rows and says {metadata.num_rows:,}; it is damaged"
        )
    return cells


def readable_columns(schema: Any) -> list[str]:
    """Return the columns of an Arrow schema that can be cells: texts, numbers, lists of these."""
    import pyarrow as pa

    found = []
    for field in schema:
        kind = field.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if _INDEX.fullmatch(field.name):
            continue
        if not (pa.types.is_nested(kind) or pa.types.is_union(kind) or _is_bytes(kind)):
            found.append(field.name)
    return found


def arrow_cells(place: str, schema: Any, batches: Iterable[Any], names: Sequence[str]) -> Cells:
    """Return columns of Arrow record batches as cells.

    Parameters
    ----------
    place : str
        For messages.
    schema : pyarrow.Schema
        Its metadata may have the class names of Hugging Face's `datasets`.
    batches : iterable of pyarrow.RecordBatch
    names : sequence of str
        The columns to take, of `readable_columns`.

    Raises
    ------
    DataError
        A number has no class name, or a text of a list has a bar in it; the message has the row.
    """
    classes = class_names(schema)
    rows: list[list[str]] = []
    total = 0
    for batch in batches:
        total += batch.nbytes
        _check_text(place, total)
        columns = [
            _texts(f"{place}: {name!r}", batch.column(name), classes.get(name)) for name in names
        ]
        rows += map(list, zip(*columns, strict=True)) if names else []
    return Cells(
        names=[name.strip() for name in names],
        rows=rows,
        lines=Lines(place=place, numbers=range(1, len(rows) + 1), unit="row"),
        header=f"{place}:",
    )


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes that Hugging Face's `datasets` records, by column."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {}).items()
    except (ValueError, AttributeError, RecursionError):
        return {}
    found = {}
    for column, given in features:
        feature = given
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]  # of a list
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[column] = names
    return found


def _texts(where: str, column: Any, classes: list[str] | None) -> list[str]:
    """Return the cells of an Arrow array."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        texts = _texts(where, column.dictionary, classes)
        return ["" if one is None else texts[one] for one in column.indices.to_pylist()]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts = _texts(where, column.values, classes)
        if odd := next((part for part in parts if BAR in part), None):
            raise DataError(f"{where}: has a list with {odd!r:.60}; rename what has {BAR} in it")
        ends = column.offsets.to_pylist()
        return [BAR.join(parts[one:end]) for one, end in pairwise(ends)]
    if classes is not None and pa.types.is_integer(kind):
        return [_named(where, one, classes) for one in column.to_pylist()]
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    texts = column.cast(pa.string()).to_pylist()
    nothing = (None, "nan") if pa.types.is_floating(kind) else (None,)
    return ["" if one in nothing else one for one in texts]


def _named(where: str, number: int | None, classes: list[str]) -> str:
    if number is None or number == -1:  # of images without labels
        return ""
    if not 0 <= number < len(classes):
        raise DataError(f"{where}: has {number}, and names for 0 to {len(classes) - 1}")
    return classes[number]


def _check_text(place: str, size: int) -> None:
    if size > MOST_TEXT:
        raise DataError(
            f"{place}: its texts and numbers have more than {MOST_TEXT // 2**20:,} MiB, which a "
            "list of images may have; divide it"
        )


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or str(kind) in {"binary_view"}
    )
