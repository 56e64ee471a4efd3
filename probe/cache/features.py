"""Reading an entry: arrays that were checked before anybody computes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.file import (
    Header,
    SplitTable,
    checksum_rows,
    checksum_tables,
    map_array,
    read_array,
    read_header,
    read_table,
)
from probe.cache.key import FeatureKey
from probe.errors import CacheMismatchError, CorruptEntryError, UnknownNameError


class FeatureSplit:
    """One split of an entry. Blocks of rows are checked the first time they are touched.

    Attributes
    ----------
    labels : int32, (n,)
    ids : list of str
    content : uint8, (n, 16)
    """

    def __init__(
        self, header: Header, name: str, table: SplitTable, sums: NDArray[np.uint64]
    ) -> None:
        self._header, self._name, self._sums = header, name, sums
        self._map = map_array(header.path, header.features[name])
        self._checked = np.zeros(len(sums), bool)
        self.labels = table.labels
        self.content = table.content
        self._ids = table.ids

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ids(self) -> list[str]:
        """The images' ids."""
        return [one.decode() for one in self._ids]

    @property
    def features(self) -> NDArray[Any]:
        """All rows, (n, ...), as a read-only map of the file; every block is checked first."""
        self.check(range(len(self._sums)))
        return self._map

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some rows, (len(index), ...); only their blocks are checked."""
        self.check(np.unique(np.asarray(index) // self._header.block_rows).tolist())
        return np.asarray(self._map[index])

    def check(self, blocks: Iterator[int] | range | list[int]) -> None:
        """Check blocks that were not checked yet.

        Raises
        ------
        CorruptEntryError
            Names the first row of the first bad block.
        """
        for block in blocks:
            if self._checked[block]:
                continue
            where = self._header.block_slice(self._name, block)
            if checksum_rows(self._map[where]) != self._sums[block]:
                raise CorruptEntryError(
                    self._header.path, f"{self._name} rows {where.start} to {where.stop - 1}"
                )
            self._checked[block] = True


@dataclass(frozen=True)
class FeatureSet:
    """A complete cache entry, opened for reading.

    Iterate or index it by split name: ``FeatureSet.open(path)["train"].features``.
    """

    header: Header
    splits: Mapping[str, FeatureSplit]

    @classmethod
    def open(cls, path: Path | str) -> FeatureSet:
        """Open an entry; its key, labels, ids and checksums are checked here, rows when read.

        Raises
        ------
        CacheError
            No such file, or not an entry.
        CacheMismatchError, CorruptEntryError
            It is not what was written.
        """
        header = read_header(Path(path))
        if header.key.digest != header.digest:
            raise CacheMismatchError(header.path, "digest", header.key.digest, header.digest)
        tables = {split: read_table(header.path, split) for split in header.features}
        sums = {split: read_array(header.path, header.blocks[split]) for split in header.features}
        if tuple(read_array(header.path, header.checksum).tolist()) != checksum_tables(
            header, tables, sums
        ):
            raise CorruptEntryError(
                header.path, "key, provenance, labels, ids or a block's checksum"
            )
        return cls(
            header,
            {split: FeatureSplit(header, split, tables[split], sums[split]) for split in tables},
        )

    def __getitem__(self, split: str) -> FeatureSplit:
        if split not in self.splits:
            raise UnknownNameError(
                f"{self.path.name} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[split]

    def __contains__(self, split: object) -> bool:
        return split in self.splits

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def name(self) -> str:
        """The file's name without its ending: what the command line calls the entry."""
        return self.path.stem

    @property
    def key(self) -> FeatureKey:
        return self.header.key

    @property
    def classes(self) -> tuple[str, ...]:
        return self.header.classes

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.header.provenance

    @property
    def dataset(self) -> str:
        return str(self.provenance.get("dataset", ""))

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one image's features."""
        return next(iter(self.header.features.values())).shape[1:]

    @property
    def seconds(self) -> float:
        """How long the forward pass took; what was copied from other entries took none."""
        return float(read_array(self.path, self.header.seal)[0])

    def verify(self) -> None:
        """Read and check every row.

        Raises
        ------
        CorruptEntryError
        """
        for split in self.splits.values():
            split.check(range(len(split._sums)))
