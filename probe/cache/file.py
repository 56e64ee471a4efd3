"""The layout of an entry's HDF5 file, and opening it.

    /                 attributes: format, version, digest, block_rows; key and provenance as JSON
    /classes          fixed-length UTF-8 (n_classes,)
    /seal             float64 (2,): forward seconds, forwarded rows
    /seal_checksum    uint64 (2,): xxh3-128 of seal, digest and block_rows; absent in older files
    /checksum         uint64 (2,): xxh3-128 of all but features and seal, low word first
    /<split>/features float32 or float16, (n, ...), contiguous; in compressed chunks where packed
    /<split>/labels   int32 (n,), or uint8 (n, n_classes) of 0 and 1: multi-label
    /<split>/ids      fixed-length UTF-8 (n,)
    /<split>/content  uint8 (n, 16), hash of each image
    /<split>/blocks   uint64 (ceil(n / block_rows),): xxh3-64 of each block of feature rows
    /<split>/folds    uint32 (n, 4): XOR of a row's words in features, labels, ids, content
    /fold_checksum    uint64 (2,): xxh3-128 of all folds; absent, like folds, in older files
    /<split>/columns        uint32 (n_columns, n): which of its values each row has
    /<split>/column_values  uint8: names and values of the columns as JSON
    /column_checksum  uint64 (2,): xxh3-128 of all columns; absent, like columns, without a table

`FORMAT.md` describes it for readers in other languages.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import FOLDED, SplitTable, checksum_folds
from probe.cache.key import FORMAT, FeatureKey, canonical_json
from probe.core.hdf5 import Beginning, ForeignFile, check_heaps
from probe.core.records import loads_json
from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.errors import CacheError
from probe.evaluation.task import SINGLE_LABEL, TASKS

MAGIC = "probe-features"
MOST_BLOCK_ROWS = 1 << 20  # far more than is ever written
_PAIRS = {
    "checksum": "u8", "fold_checksum": "u8", "seal": "f8", "seal_checksum": "u8",
    "column_checksum": "u8",
}  # fmt: skip
HEAPS_END = 1 << 20  # heaps of strings lie before this offset


@dataclass(frozen=True, kw_only=True)
class Region:
    """The offset and shape of an array in the file; `offset` is None for chunked storage."""

    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def start(self) -> int:
        """The offset of a contiguous array."""
        if self.offset is None:
            raise ValueError("not stored in one piece")
        return self.offset


@dataclass(frozen=True, kw_only=True)
class Header:
    """The metadata of an entry, and where its arrays lie in the file.

    Parameters
    ----------
    texts : tuple of str
        Key, class names and provenance as stored, for the checksum.
    features, labels, ids, content, blocks : mapping of split to Region
    folds, fold_checksum, seal_checksum
        Empty or None in older files.
    columns, column_values, column_checksum
        Empty or None where no table says anything of the images, and in older files.
    """

    __repr__ = short_repr

    path: Path
    key: FeatureKey
    digest: str
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    texts: tuple[str, str, str]
    block_rows: int
    features: Mapping[str, Region]
    labels: Mapping[str, Region]
    ids: Mapping[str, Region]
    content: Mapping[str, Region]
    blocks: Mapping[str, Region]
    folds: Mapping[str, Region]
    checksum: Region
    fold_checksum: Region | None
    seal: Region
    seal_checksum: Region | None
    columns: Mapping[str, Region]
    column_values: Mapping[str, Region]
    column_checksum: Region | None

    @property
    def engine(self) -> str:
        """The engine that made the rows; see `engine_of`."""
        return engine_of(self.provenance)

    @property
    def packed(self) -> bool:
        """Whether the features are compressed."""
        return any(region.offset is None for region in self.features.values())

    def block_count(self, split: str) -> int:
        return self.blocks[split].shape[0]

    def block_slice(self, split: str, block: int) -> slice:
        start = block * self.block_rows
        return slice(start, min(start + self.block_rows, self.features[split].shape[0]))


def engine_of(provenance: Mapping[str, Any]) -> str:
    """Return the engine that made an entry's rows; before there were two, it was MXNet."""
    return str(provenance.get("engine", "mxnet"))


@dataclass(frozen=True)
class OpenFile:
    """An entry's header and a read-only memory map of the same open file.

    It stays valid when the entry is removed or replaced.
    """

    __repr__ = short_repr

    header: Header
    data: mmap.mmap
    hdf5: Any  # h5py.File, open only where features are packed; else None

    def array(self, region: Region) -> NDArray[Any]:
        """Return an array of the file without a copy, read-only."""
        count = int(np.prod(region.shape, dtype=np.int64))
        if count == 0:
            return np.empty(region.shape, region.dtype)
        return np.frombuffer(self.data, region.dtype, count, region.start).reshape(region.shape)

    def table(self, split: str) -> SplitTable:
        """Return all that is stored of a split's images beside features."""
        header = self.header
        names = ["labels", "ids", "content"]
        names += ["columns", "column_values"] if split in header.columns else []
        return SplitTable(**{name: self.array(getattr(header, name)[split]) for name in names})

    @cached_property
    def folds(self) -> Mapping[str, NDArray[np.uint32]] | None:
        """The folds of each split, (n, 4); None where they are absent or damaged."""
        if self.header.fold_checksum is None:
            return None
        found = {split: self.array(region) for split, region in self.header.folds.items()}
        good = tuple(self.array(self.header.fold_checksum).tolist()) == checksum_folds(found)
        return found if good else None

    @property
    def folds_damaged(self) -> bool:
        """Whether there are folds and they do not match their checksum."""
        return self.header.fold_checksum is not None and self.folds is None


def read_header(path: Path) -> Header:
    """Read an entry's metadata, and none of its arrays.

    Raises
    ------
    CacheError
        It is not an entry, or its structure is damaged.
    """
    file, header = _open(path)
    file.close()
    return header


def open_file(path: Path) -> OpenFile:
    """Open an entry for reading, without checking any checksum.

    Raises
    ------
    CacheError
        As `read_header`.
    """
    file, header = _open(path)
    # a map of the file that HDF5 has open, even if the path names another file by now
    data = mmap.mmap(file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ)
    if header.packed:
        return OpenFile(header, data, file)
    file.close()
    return OpenFile(header, data, None)


def _open(path: Path) -> tuple[Any, Header]:
    file = None
    try:
        # no lock: readers never wait, and the folder may be read-only
        opened = ForeignFile(path, locking=False)
        file = opened.file
        for _ in opened.datasets():  # refuses what lies in other files
            pass
        return file, _header(path, file, os.fstat(file.id.get_vfd_handle()).st_size)
    except FileNotFoundError:
        raise CacheError(f"{path}: no such entry; `probe cache list` shows what there is") from None
    except (
        OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError,
        MemoryError,
    ) as error:  # fmt: skip
        if file is not None:
            file.close()
        if isinstance(error, CacheError):
            raise
        reason = str(error).removeprefix(f"{path}: ")
        raise CacheError(
            f"{path}: not a readable feature file ({reason}); remove it and extract again"
        ) from error


def _header(path: Path, file: Any, size: int) -> Header:
    _check_old_text(path, file)
    if "format" not in file.attrs or _text(file, "format") != MAGIC:
        raise CacheError(f"{path}: not a feature file of this tool; `probe cache list` names those")
    if file.attrs["version"] != FORMAT:
        raise CacheError(
            f"{path}: format version {file.attrs['version']}, this probe reads {FORMAT}; "
            "extract again"
        )
    texts = {name: _text(file, name) for name in ("key", "provenance", "digest")}
    key = FeatureKey.from_json(loads_json(texts["key"]))
    splits = [name for name, _ in key.rows]
    provenance, block_rows = loads_json(texts["provenance"]), int(file.attrs["block_rows"])
    if not splits or not isinstance(provenance, dict) or not 0 < block_rows <= MOST_BLOCK_ROWS:
        raise ValueError("no splits, no provenance, or blocks of no size")
    classes = tuple(name.decode() for name in file["classes"][()])
    with_columns = [split for split in splits if "columns" in file[split]]
    header = Header(
        path=path,
        key=key,
        digest=texts["digest"],
        classes=classes,
        provenance=provenance,
        texts=(texts["key"], canonical_json(list(classes)), texts["provenance"]),
        block_rows=block_rows,
        features={split: _region(file[split]["features"], size) for split in splits},
        labels={split: _region(file[split]["labels"], size) for split in splits},
        ids={split: _region(file[split]["ids"], size) for split in splits},
        content={split: _region(file[split]["content"], size) for split in splits},
        blocks={split: _region(file[split]["blocks"], size) for split in splits},
        folds={s: _region(file[s]["folds"], size) for s in splits if "fold_checksum" in file},
        fold_checksum=_region(file["fold_checksum"], size) if "fold_checksum" in file else None,
        checksum=_region(file["checksum"], size),
        seal=_region(file["seal"], size),
        seal_checksum=_region(file["seal_checksum"], size) if "seal_checksum" in file else None,
        columns={s: _region(file[s]["columns"], size) for s in with_columns},
        column_values={s: _region(file[s]["column_values"], size) for s in with_columns},
        column_checksum=_region(file["column_checksum"], size) if with_columns else None,
    )
    for split in splits:
        _check_shapes(header, split)
    _check_in_one_piece(header)
    for name, dtype in _PAIRS.items():
        region: Region | None = getattr(header, name)
        if region is not None and (region.shape != (2,) or region.dtype != np.dtype(dtype)):
            raise ValueError(f"{name} is {region.dtype} {region.shape}")
    return header


def _text(file: Any, name: str) -> str:
    value = file.attrs[name]
    # strings of older files have no fixed length; h5py keeps invalid UTF-8 in them
    data: bytes = value if isinstance(value, bytes) else value.encode()
    return data.decode()


def _check_old_text(path: Path, file: Any) -> None:
    """Raise UnsafeFileError for a damaged heap, in which HDF5 might search for a string for ever.

    Strings without a fixed length, as in older files, lie in a heap at the file's start.
    """
    names = [name for name in ("format", "key", "provenance", "digest") if name in file.attrs]
    kinds = [h5py.check_string_dtype(file.attrs.get_id(name).dtype) for name in names]
    if any(kind is not None and kind.length is None for kind in kinds):
        with open_regular(path) as raw:
            check_heaps(path, Beginning(raw, HEAPS_END))


def _region(dataset: Any, size: int) -> Region:
    kind, shape = dataset.dtype, dataset.shape
    dtype = np.dtype((np.bytes_, kind.itemsize)) if kind.kind == "S" else kind
    if dataset.chunks is not None:
        return Region(offset=None, shape=shape, dtype=dtype)
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    offset = dataset.id.get_offset() if count else 0
    if offset is None or offset + count > size:
        raise ValueError(f"{dataset.name} is not in the file")
    return Region(offset=offset, shape=shape, dtype=dtype)


def _check_in_one_piece(header: Header) -> None:
    """Raise ValueError for chunks or filters anywhere but in features: they cannot be mapped."""
    for field in fields(header):
        found = getattr(header, field.name)
        regions = found if isinstance(found, Mapping) else {"": found}
        for split, one in regions.items():
            if isinstance(one, Region) and one.offset is None and field.name != "features":
                raise ValueError(f"{split}/{field.name} is stored in chunks")


def _check_shapes(header: Header, split: str) -> None:
    """Raise ValueError for arrays of unexpected shape or type; checksums cover bytes only."""
    count = header.features[split].shape[0]
    dtype = header.labels[split].dtype
    task = next((one for one in TASKS if one.dtype == dtype), SINGLE_LABEL)
    expected: dict[str, tuple[tuple[int, ...], Any]] = {
        "features": ((count, *header.features[split].shape[1:]), header.key.dtype),
        "labels": (task.shape(count, len(header.classes)), np.dtype(task.dtype).name),
        "ids": ((count,), header.ids[split].dtype if header.ids[split].dtype.kind == "S" else "S"),
        "content": ((count, 16), "uint8"),
        "blocks": ((-(-count // max(header.block_rows, 1)),), "uint64"),
    }
    if header.folds:
        expected["folds"] = ((count, len(FOLDED)), "uint32")
    if split in header.columns:
        expected["columns"] = ((header.columns[split].shape[0], count), "uint32")
        expected["column_values"] = ((header.column_values[split].shape[0],), "uint8")
    for name, (shape, dtype) in expected.items():
        region: Region = getattr(header, name)[split]
        if region.shape != shape or region.dtype != np.dtype(dtype):
            raise ValueError(f"{split}/{name} is {region.dtype} {region.shape}")
