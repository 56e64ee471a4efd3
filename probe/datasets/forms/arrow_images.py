"""Images in a column of Parquet or Arrow files, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe.core.records import in_one_line
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.packed_table import dataset_of_packed, images_in
from probe.datasets.forms.shards import bare_name, files_by_split, has_files, name_of
from probe.datasets.images.encoded import EncodedRows
from probe.datasets.images.packed import PackedFile
from probe.datasets.spec import Dataset
from probe.datasets.split_names import EXACT
from probe.datasets.tables.arrow_cells import arrow_cells, parquet_cells, readable_columns
from probe.datasets.tables.cells import IMAGE_COLUMNS, Cells, Lines, image_columns
from probe.datasets.tables.text_lists import check_file
from probe.errors import DataError, UsageError

PARQUET, ARROW = (".parquet", ".pq"), (".arrow",)
ENDINGS = (*PARQUET, *ARROW)
_INFO, _DICT = "dataset_info.json", "dataset_dict.json"  # of `Dataset.save_to_disk`
_ALSO = ("img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes")
_GROUPS = 2  # groups of rows in memory: reading on from one into the next needs both
_MOST_GROUP = 2**31  # bytes of images


def takes(place: Path) -> bool:
    """Whether a place has images in a column: a file, several, or a folder of such files."""
    try:
        files = next(iter(_files(place)), None)
        return files is not None and _has_images(_schema(files[1]))
    except (ImportError, DataError):
        return False  # a list of paths, or nothing that can be read: told by whoever reads it


def load_arrow(place: Path, loading: Loading) -> Dataset:
    """Read the columns beside the images; no image is read.

    Parameters
    ----------
    place : Path
        A Parquet or Arrow file; several as ``train-{00000..00004}-of-00005.parquet``; a folder of
        such files, which say by their names of which split they are, or with ``data`` in it; or
        what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Raises
    ------
    DataError
        A file cannot be read, or has an image that is a path instead of bytes.
    UsageError
        An option names a column that is not there.
    """
    found = list(_files(place))
    files = tuple(ArrowFile.of(path) for _, path in found)
    images = images_in(files, loading)
    parts = [_cells(file) for file in files]
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    rows: list[list[str]] = []
    for file, part in zip(files, parts, strict=True):
        if len(part.names) != len(names):
            lacking = next(name for name in names if name not in part.names)
            raise DataError(f"{file.path}: has no column {lacking!r}, which other files have")
        order = [list(part.names).index(name) for name in names]
        rows += [[row[n] for n in order] for row in part.rows]
    places = [(number, row) for number, part in enumerate(parts) for row in range(len(part))]
    lines = Lines(
        place=str(place),
        numbers=[row + 1 for _, row in places],
        unit="row",
        places=[str(files[number].path) for number, _ in places],
    )
    ids = _ids(files, places)
    if len(ids) != len(rows):
        raise DataError(f"{place}: its columns have different numbers of rows; it is damaged")
    return dataset_of_packed(
        Cells(names=names, rows=rows, lines=lines, header=f"{place}:"),
        ids,
        places,
        images,
        loading,
        name=name_of(place),
        root=place,
        splits=[found[number][0] for number, _ in places],
    )


@dataclass(frozen=True, kw_only=True)
class ArrowFile(PackedFile):
    """The images in a column of a Parquet or Arrow file.

    Parameters
    ----------
    column : str
        The column; its cells are bytes, or structures with ``bytes`` and ``path``.
    ends : sequence of int
        Numbers of rows up to the end of each group of rows.
    """

    column: str
    ends: Sequence[int] = field(compare=False, repr=False)

    @classmethod
    def of(cls, path: Path) -> ArrowFile:
        """Return the file at a path.

        Raises
        ------
        DataError
            It cannot be read, or no column has images.
        """
        schema = _schema(path)
        columns = _image_columns(schema)
        if not columns:
            raise DataError(f"{path}: has no column of images, which other files have")
        known = [name for name in columns if name.lower() in (*IMAGE_COLUMNS, *_ALSO)]
        if len(columns) > 1 and len(known) != 1:
            raise DataError(
                f"{path}: the columns {', '.join(columns)} may all be the images; call one `image`"
            )
        column = (known or columns)[0]
        sizes = _group_sizes(path)
        return cls(path=path, column=column, ends=np.cumsum(sizes, dtype=np.int64).tolist())

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def kind(self) -> str:
        return f"arrow-{self.column}"

    def open(self) -> EncodedRows:
        """Open the file."""
        groups = _Groups(self)

        def name(place: int) -> str:
            return f"{self.path}: row {place + 1}"

        def read(place: int) -> bytes:
            group = int(np.searchsorted(self.ends, place, side="right"))
            start = self.ends[group - 1] if group else 0
            try:
                value = groups.get(group)[place - start].as_py()
            except Exception as error:  # pyarrow raises its own, and those of Python
                raise DataError(f"{name(place)}: cannot be read ({in_one_line(error)})") from error
            data = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise DataError(
                    f"{name(place)}: has no bytes of an image in {self.column!r}{_elsewhere(value)}"
                )
            return data

        return EncodedRows(count=len(self), read=read, name=name)


class _Groups:
    """The most recently read groups of rows of a file."""

    def __init__(self, file: ArrowFile) -> None:
        self._file, self._lock = file, threading.Lock()
        self._read: OrderedDict[int, Any] = OrderedDict()
        self._opened: Any = None

    def get(self, group: int) -> Any:
        """Return the images of a group, an Arrow array."""
        with self._lock:
            if group not in self._read:
                while len(self._read) >= _GROUPS:
                    self._read.popitem(last=False)
                self._read[group] = self._load(group)
            self._read.move_to_end(group)
            return self._read[group]

    def _load(self, group: int) -> Any:
        path, column = self._file.path, self._file.column
        if _is_parquet(path):
            if self._opened is None:
                import pyarrow.parquet as pq

                self._opened = pq.ParquetFile(path)
            return self._opened.read_row_group(group, columns=[column]).column(0)
        if self._opened is None:
            self._opened = list(_batches(path))
        return self._opened[group].column(column)


def _files(place: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield split and path of each file."""
    if place.is_dir():
        if (place / _DICT).is_file():
            for split in sorted(one.name for one in place.iterdir() if (one / _INFO).is_file()):
                told = EXACT.get(split.lower(), split)
                yield from ((told, file) for _, file in _files(place / split))
            return
        if (place / _INFO).is_file() and (place / "state.json").is_file():
            yield from ((None, file) for file in sorted(place.glob("*.arrow")))
            return
        if not has_files(place, ENDINGS):
            if not has_files(place / "data", ENDINGS):
                return
            place /= "data"
    elif not place.name.lower().endswith(ENDINGS):
        return
    for part, files in files_by_split(place, ENDINGS).items():
        yield from ((part, file) for file in files)


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _schema(path: Path) -> Any:
    check_file(path, most=None)
    with _told(path):
        if _is_parquet(path):
            import pyarrow.parquet as pq

            schema = pq.read_schema(path)
        else:
            import pyarrow as pa

            with pa.memory_map(str(path)) as file:
                schema = _reader(file).schema
        _ = schema.names  # refuses those that are not UTF-8, which pyarrow decodes when asked
        return schema


def _reader(file: Any) -> Any:
    """Return the reader of an Arrow file, of a stream or of the form with an index."""
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return pa.RecordBatchReader.from_batches(
            reader.schema, (reader.get_batch(n) for n in range(reader.num_record_batches))
        )


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    for batch in _reader(pa.memory_map(str(path))):
        batch.validate(full=True)  # pyarrow trusts its offsets, and would read beyond the file
        yield batch


def _group_sizes(path: Path) -> list[int]:
    """Return how many rows each group has; refuse groups that memory cannot be expected to hold."""
    with _told(path):
        if not _is_parquet(path):
            return [batch.num_rows for batch in _batches(path)]
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            about = file.metadata
            sizes = []
            for number in range(about.num_row_groups):
                group = about.row_group(number)
                # not of its columns: pyarrow ends the process where a damaged file lies about them
                taken = group.total_byte_size
                if taken > _MOST_GROUP:
                    raise DataError(
                        f"{path}: has {taken / 2**30:,.1f} GiB in one group of rows, "
                        "which is read as a whole; write it with row_group_size=1000"
                    )
                sizes.append(group.num_rows)
            return sizes


def _cells(file: ArrowFile) -> Cells:
    path = file.path
    with _told(path):
        if _is_parquet(path):
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as opened:
                schema = opened.schema_arrow
                names = [name for name in readable_columns(schema) if name != file.column]
                cells = parquet_cells(str(path), opened, names)
        else:
            schema = _schema(path)
            names = [name for name in readable_columns(schema) if name != file.column]
            cells = arrow_cells(str(path), schema, _batches(path), names)
    if names:
        return cells
    return Cells(names=[], rows=[[]] * len(file), lines=cells.lines, header=cells.header)


def _has_images(schema: Any) -> bool:
    """Whether a table has images; one of paths may have a thumbnail or a digest beside them."""
    found = _image_columns(schema)
    called = any(name.lower() in {*IMAGE_COLUMNS, *_ALSO} for name in found)
    return bool(found) and (called or not image_columns(readable_columns(schema)))


def _image_columns(schema: Any) -> list[str]:
    """Return the columns of bytes, and of structures with bytes in them."""
    import pyarrow as pa

    found = []
    for one in schema:
        kind = one.type
        if pa.types.is_struct(kind):
            number = kind.get_field_index("bytes")
            if number < 0:
                continue
            kind = kind.field(number).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            found.append(one.name)
    return found


def _ids(files: Sequence[ArrowFile], places: Sequence[tuple[int, int]]) -> list[str]:
    """Return the images' ids: their recorded paths where all differ, or file and number."""
    paths: list[str | None] = [path for file in files for path in _paths(file)]
    if None not in paths and "" not in paths and len({*paths}) == len(paths):
        return [str(path) for path in paths]
    return [f"{bare_name(files[number].path.name)}/{row:05d}" for number, row in places]


def _paths(file: ArrowFile) -> list[str | None]:
    """Return the path that each image was read from when the file was written."""
    import pyarrow as pa

    with _told(file.path):
        kind = _schema(file.path).field(file.column).type
        if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return [None] * len(file)
        if _is_parquet(file.path):
            import pyarrow.parquet as pq

            with pq.ParquetFile(file.path) as opened:
                columns = opened.read(columns=[f"{file.column}.path"]).column(file.column).chunks
        else:
            columns = [batch.column(file.column) for batch in _batches(file.path)]
        return [path for one in columns for path in one.field("path").to_pylist()]


def _elsewhere(value: object) -> str:
    """Say so where only an image's path was written."""
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path:
        return ""
    return (
        f", only the path {path:.100}; write the images into the file (`embed_table_storage` of "
        "Hugging Face's datasets), or list paths and labels in a .csv"
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn whatever pyarrow raises about a file into one line."""
    try:
        yield
    except (DataError, UsageError, ImportError):
        raise
    except Exception as error:
        raise DataError(
            f"{path}: is no readable Parquet or Arrow file ({in_one_line(error)})"
        ) from error
