"""Open the arrays of feature files by name, each read when it is used.

Pickles, .npy, .npz, HDF5, MATLAB's .mat of both kinds, .safetensors, and the Parquet files that
`probe cache export` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from probe.core.hdf5 import ForeignFile, Part, check_heaps
from probe.core.records import NpzFile, check_regular, in_one_line, loads_json, read_npy, shown
from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.datasets.named.pickles import load_pickle, loads_pickle, text_keys
from probe.errors import DataError, ProbeError, UnsafeFileError, UsageError

MATLAB = b"MATLAB"  # beginning of the block before its HDF5
MATLAB_OWN = ("#refs#", "#subsystem#")
# of text of variable length: HDF5 File Format Specification 3.0, VIII, Appendix
REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
MOST_TEXT = 4096  # bytes of an id or a class name: the longest path
MOST_UNFOLDED = 1100  # times: the largest ratio of deflate
SMALL = 1 << 26  # bytes that are read whatever the stored size


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array of a file.

    Parameters
    ----------
    read : callable
        Returns it: numbers (n, ...) as an array, text as a list.
    names : mapping of number to str, optional
        Names of its numbers (HDF5's enumerations).
    """

    read: Callable[[], Any]
    names: Mapping[int, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """The arrays of a file.

    Parameters
    ----------
    named : mapping of name to Array
    exported : bool
        `probe cache export` wrote it: two-dimensional labels are multi-label.
    matlab : bool
        MATLAB wrote it: vectors may be rows, and columns may be images.
    """

    __repr__ = short_repr

    named: Mapping[str, Array]
    exported: bool = False
    matlab: bool = False


def open_arrays(path: Path) -> Arrays:
    """Return the arrays of a file.

    Raises
    ------
    UsageError
        Its ending is not supported.
    DataError
        It is missing, not a regular file, or damaged.
    UnsafeFileError
        It contains code, keeps its data in other files, or claims more than it holds.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{shown(path)}: expected one of {', '.join(READERS)}")
    check_regular(path)
    return reader(path)


def read_array(path: Path, array: Array, name: str) -> Any:
    """Read one array; any error of the library becomes one line.

    Raises
    ------
    DataError, UnsafeFileError
    """
    try:
        return array.read()
    except ProbeError:
        raise
    except Exception as error:  # libraries meet damage in a hundred ways
        raise DataError(
            f"{path}: {shown(name)} cannot be read ({in_one_line(error)}); get the file again"
        ) from error


def text_of(value: Any, where: str) -> str:
    """Return an id or a class name as text.

    Raises
    ------
    DataError
        It is not UTF-8, too long, or has a zero byte; `where` names it in the message.
    """
    try:
        data = value if isinstance(value, bytes) else str(value).encode()
        text = data.decode("utf-8")
    except UnicodeError:
        raise DataError(
            f"{where} is {value!r:.60}, which is not UTF-8 text; write it as UTF-8 "
            "(Latin-1 letters, if it is that: value.decode('latin-1').encode())"
        ) from None
    if len(data) > MOST_TEXT or "\0" in text:
        raise DataError(f"{where} has {len(data):,} bytes or a zero byte; a name is expected")
    return text


def _npz(path: Path) -> Arrays:
    file = NpzFile(path, objects=partial(loads_pickle, name=str(path)))  # names, as objects
    found = {name: Array(read=partial(file.read, name)) for name in file.names}
    return Arrays(named=found, exported={"key", "provenance", "classes"} <= found.keys())


def _npy(path: Path) -> Arrays:
    found = read_npy(path)
    return Arrays(named={"features": Array(read=lambda: found)})


def _safetensors(path: Path) -> Arrays:
    found: dict[str, Array] = {}
    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                found[name] = Array(read=partial(_safetensor, path, name))
            texts = file.metadata() or {}
        for name, text in texts.items():  # as `probe cache export` writes them
            if name == "classes" or name.endswith((".ids", ".columns")):
                values = loads_json(text)
                found[name] = Array(read=partial(_as_is, values))
            elif name in ("key", "provenance"):
                found[name] = Array(read=partial(_as_is, text))
    except Exception as error:
        raise DataError(
            f"{path}: not a readable .safetensors file ({in_one_line(error)})"
        ) from error
    return Arrays(named=found, exported={"key", "provenance", "classes"} <= texts.keys())


def _safetensor(path: Path, name: str) -> NDArray[Any]:
    with safe_open(path, "np") as file:
        found: NDArray[Any] = file.get_tensor(name)
        return found


def _as_is(value: Any) -> Any:
    return value


def _pickle(path: Path) -> Arrays:
    value = load_pickle(path)
    if not isinstance(value, Mapping):
        raise DataError(
            f"{path}: holds a {type(value).__name__}, expected a dictionary of features and labels"
        )
    try:
        named = _flattened(value)
    except ValueError as error:
        raise DataError(f"{path}: a name in it is not text ({in_one_line(error)})") from None
    return Arrays(named={name: Array(read=partial(_as_is, one)) for name, one in named.items()})


def _flattened(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a dictionary with nested ones flattened: ``train/features``."""
    found: dict[str, Any] = {}
    for name, one in text_keys(value).items():
        if isinstance(one, Mapping) and all(isinstance(key, str | bytes) for key in one):
            found |= {f"{name}/{below}": each for below, each in text_keys(one).items()}
        else:
            found[name] = one
    return found


def _parquet(path: Path) -> Arrays:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            ".parquet needs pyarrow; install it with `pip install 'frozen-probe[parquet]'`"
        ) from None
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        about = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
        have = set(schema.names)
        if not {"key", "provenance"} <= about.keys() or "features" not in have:
            return Arrays(named=_columns(path, schema))
        splits = np.array(file.read(columns=["split"])["split"].to_pylist(), np.str_)
        row_shape = tuple(loads_json(about["row_shape"])) if "row_shape" in about else ()
        classes = loads_json(about["classes"]) if "classes" in about else _seen_classes(file, have)
        columns = loads_json(about["columns"]) if "columns" in about else {}
        if not all(type(side) is int and side > 0 for side in row_shape):
            raise ValueError(f"rows of the shape {row_shape}")
        if not isinstance(classes, list) or not isinstance(columns, dict):
            raise ValueError("no list of classes, or no names of columns")
        if not all(isinstance(one, str) for one in (*classes, *columns.values())):
            raise ValueError("a name that is no text")
    except Exception as error:
        raise DataError(
            f"{path}: not a readable Parquet file ({in_one_line(error)}); save features and labels "
            "as .npz"
        ) from error
    named = {"classes": Array(read=partial(_as_is, classes))}
    for name in ("key", "provenance"):
        named[name] = Array(read=partial(_as_is, about.get(name, "")))
    for split in dict.fromkeys(splits.tolist()):
        rows = np.flatnonzero(splits == split)
        for role in ("features", "labels", "ids"):
            read = partial(_parquet_rows, path, role, rows, row_shape, classes)
            named[f"{split}/{role}"] = Array(read=read)
        if columns:
            read = partial(_parquet_columns, path, rows, columns)
            named[f"{split}/columns"] = Array(read=read)
    return Arrays(named=named, exported=True)


def _columns(path: Path, schema: Any) -> dict[str, Array]:
    """Return the columns of a table; lists of numbers become the rows of an array."""
    import pyarrow as pa

    def read(name: str, width: bool) -> Any:
        import pyarrow.parquet as pq

        kind = schema.field(name).type
        if pa.types.is_nested(kind) and not width:
            raise ValueError(f"{kind} is neither numbers nor text")
        column = pq.ParquetFile(path).read(columns=[name])[name].combine_chunks()
        if column.null_count:
            raise ValueError(f"{column.null_count} rows are empty")
        if not width:
            values = column.to_pylist()
            return values if values and isinstance(values[0], str) else np.asarray(values)
        flat = column.flatten()
        if flat.null_count or len(flat) % len(column):
            raise ValueError("its rows have different lengths, or lack numbers")
        rows = flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
        if pa.types.is_list(column.type) and len(set(np.diff(column.offsets.to_numpy()))) > 1:
            raise ValueError("its rows have different lengths")
        return rows

    found = {}
    for field in schema:
        kind = field.type
        listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        found[field.name] = Array(read=partial(read, field.name, listed))
    return found


def _seen_classes(file: Any, have: set[str]) -> list[str]:
    """Return the class names in the rows, ordered by their numbers where there are any."""
    if "labels" in have:
        rows = file.read(columns=["labels"])["labels"].to_pylist()
        return sorted({name for row in rows for name in row})
    table = file.read(columns=["label", "class"])
    pairs = set(zip(table["label"].to_pylist(), table["class"].to_pylist(), strict=True))
    names = dict(sorted(pairs))
    if sorted(names) != list(range(len(names))):  # a class without rows: its name is not there
        names = {k: names.get(k, str(k)) for k in range(min(max(names), len(pairs) * 1000) + 1)}
    return list(names.values())


def _parquet_rows(
    path: Path, role: str, rows: NDArray[Any], row_shape: tuple[int, ...], classes: list[str]
) -> Any:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if role == "ids":
        return file.read(columns=["id"])["id"].take(rows).to_pylist()
    if role == "features":
        column = file.read(columns=["features"])["features"].take(rows).combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(rows), *(row_shape or (-1,)))
    if "label" in file.schema_arrow.names:
        return file.read(columns=["label"])["label"].take(rows).to_numpy()
    place = {name: number for number, name in enumerate(classes)}
    labels = np.zeros((len(rows), len(classes)), np.uint8)
    for row, names in enumerate(file.read(columns=["labels"])["labels"].take(rows).to_pylist()):
        labels[row, [place[name] for name in names]] = 1
    return labels


def _parquet_columns(path: Path, rows: NDArray[Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of a table, but for those without a cell in these rows."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read(columns=list(named.values())).take(rows)
    found = {name: table[column].to_pylist() for name, column in named.items()}
    return {name: cells for name, cells in found.items() if cells.count(None) < len(cells)}


def _mat(path: Path) -> Arrays:
    """Return the variables of a MATLAB file; since 7.3 it is HDF5."""
    if h5py.is_hdf5(path):
        return _hdf5(path)
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        listed = whosmat(path, appendmat=False)
    except (Exception, MatReadError) as error:
        raise DataError(f"{path}: not a readable .mat file ({in_one_line(error)})") from error

    structs = [name for name, _, kind in listed if kind == "struct"]
    if structs and len(structs) == len(listed):
        raise DataError(
            f"{path}: {shown(structs[0])} is a struct; save its fields as variables, in MATLAB "
            f"save('features.mat', '-struct', '{structs[0]}')"
        )

    def read(name: str) -> Any:
        if name in structs:
            raise ValueError("a struct, whose fields are no variables")
        value = loadmat(path, variable_names=[name], appendmat=False)[name]
        return _matlab_text(value) if value.dtype.kind in "OU" else value

    return Arrays(
        named={n: Array(read=partial(read, n)) for n, _, _ in listed},
        matlab=True,
    )


def _matlab_text(value: NDArray[Any]) -> list[str]:
    """Return the texts of a char matrix, or of a cell array of texts."""
    if value.dtype.kind == "U":
        return [str(one).rstrip() for one in value.ravel()]  # rows are filled up with spaces
    texts = [np.asarray(one) for one in value.ravel()]
    if any(one.dtype.kind != "U" or one.size != 1 for one in texts):
        raise ValueError("a cell array of something else than text")
    return [str(one.item()) for one in texts]


def _hdf5(path: Path) -> Arrays:
    size = path.stat().st_size
    named: dict[str, Array] = {}
    try:
        with open_regular(path) as raw:
            matlab = raw.read(len(MATLAB)) == MATLAB  # others have blocks of their own there, too
            with ForeignFile(path, Part(raw, 0, size)) as file:
                for parts, dataset in file.datasets(MATLAB_OWN):
                    name = "/".join(parts)
                    named[name] = _described(path, name, dataset, matlab=matlab)
    except ProbeError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not a readable HDF5 file ({in_one_line(error)})") from error
    return Arrays(named=named, matlab=matlab)


def _described(path: Path, name: str, dataset: Any, *, matlab: bool) -> Array:
    enum = h5py.check_enum_dtype(dataset.dtype)
    where = f"{path}: a class of {shown(name)}"
    names = {int(number): text_of(word, where) for word, number in enum.items()} if enum else None
    return Array(read=partial(_dataset, path, name, matlab=matlab), names=names)


def _dataset(path: Path, name: str, *, matlab: bool) -> Any:
    with open_regular(path) as raw:
        size = path.stat().st_size
        with ForeignFile(path, Part(raw, 0, size)) as file:
            dataset = file.dataset(name)
            text = h5py.check_string_dtype(dataset.dtype)
            reference = h5py.check_ref_dtype(dataset.dtype)
            if dataset.dtype.hasobject and not (matlab and reference) and text is None:
                raise ValueError(f"{dataset.dtype} is neither numbers nor text")
            claimed = math.prod(dataset.shape or (1,)) * max(dataset.dtype.itemsize, 1)
            stored = min(dataset.id.get_storage_size(), size)  # that, too, is a claim
            if claimed > max(SMALL, MOST_UNFOLDED * stored):
                raise UnsafeFileError(
                    f"{path}: {name!r} claims {claimed:,} bytes and {stored:,} are stored; most of "
                    "it was never written"
                )
            if matlab and reference:
                return [_matlab_chars(file, one) for one in dataset[()].T.ravel()]
            if text is None:
                found = dataset[()]
                return found.T if matlab else found
            if text.length is not None:
                return dataset[()].tolist()
        return _variable_texts(path, name, raw, size)


def _matlab_chars(file: ForeignFile, reference: Any) -> str:
    codes = file.dataset(reference)
    if codes.size > MOST_TEXT or codes.dtype != np.uint16:
        raise ValueError("a cell array of something else than text")
    return codes[()].T.tobytes().decode("utf-16-le") if codes.ndim else ""


def _variable_texts(path: Path, name: str, raw: Any, size: int) -> list[bytes]:
    """Return text of variable length, which lies in heaps, up to the size of the file."""
    part = Part(raw, 0, size)
    with ForeignFile(path, part) as file:  # numbers are hidden: they take long to search
        for _, one in file.datasets(MATLAB_OWN):
            if not one.dtype.hasobject:
                part.hide(one.id.get_offset(), one.id.get_storage_size())
    largest = check_heaps(path, part)
    found: list[bytes] = []
    left = size
    with ForeignFile(path, part) as file:
        dataset = file.dataset(name)
        step = max(1, min(1 << 14, SMALL // max(1, largest)))
        if dataset.ndim != 1:
            raise ValueError("text that is no list")
        place = dataset.id.get_offset()
        if place is not None and not file.file.userblock_size:
            raw.seek(place)  # HDF5 reserves what each row claims before it reads it
            claims = np.frombuffer(raw.read(len(dataset) * REFERENCE.itemsize), REFERENCE)
            if int(claims["length"].sum(dtype=np.int64)) > size:
                raise UnsafeFileError(f"{path}: {name!r} claims more text than the file holds")
        for start in range(0, len(dataset), step):
            block = dataset[start : start + step].tolist()
            left -= sum(map(len, block))
            if left < 0:  # rows that all refer to one long text
                raise UnsafeFileError(f"{path}: {name!r} claims more text than the file holds")
            found += block
    return found


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npz": _npz, ".npy": _npy, ".h5": _hdf5, ".hdf5": _hdf5, ".mat": _mat,
    ".safetensors": _safetensors, ".parquet": _parquet,
    ".p": _pickle, ".pkl": _pickle, ".pickle": _pickle,
}  # fmt: skip
