"""Find cached features by the content of images.

Any entry of a recipe will do: content hashes tell which row is which image's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.key import FeatureKey
from probe.cache.store import Store
from probe.datasets.spec import CONTENT_BYTES
from probe.errors import CacheError, CorruptEntryError

log = logging.getLogger(__name__)

Place = tuple[int, int]  # number of a split, and a row or a block in it


class CachedRows:
    """The rows of all entries of one recipe, by content hash.

    A damaged row is as one that is not there: it costs time, not the answer.

    Parameters
    ----------
    key : FeatureKey
        Its recipe counts; its rows do not.
    """

    def __init__(self, stores: Sequence[Store], key: FeatureKey) -> None:
        self._splits: list[FeatureSplit] = []
        self._block_rows: list[int] = []
        self._places: dict[bytes, Place] = {}
        self._copies: dict[bytes, list[Place]] = {}  # of the same image, beside the first
        self._sound: dict[Place, bool] = {}  # by the number of the block
        for entry in [one for store in stores for one in _entries(store, key)]:
            for split in entry.splits.values():
                self._add(split, entry.header.block_rows)

    def _add(self, split: FeatureSplit, block_rows: int) -> None:
        number = len(self._splits)
        self._splits.append(split)
        self._block_rows.append(block_rows)
        table = split.content.tobytes()
        for row in range(len(split)):
            one = table[CONTENT_BYTES * row : CONTENT_BYTES * (row + 1)]
            if self._places.setdefault(one, (number, row)) != (number, row):
                self._copies.setdefault(one, []).append((number, row))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, content: bytes) -> bool:
        return content in self._places and self._is_sound(self._place(content))

    def rows(self, content: list[bytes]) -> NDArray[np.float32]:
        """Return the features of images that are all cached, (n, ...).

        Raises
        ------
        CorruptEntryError
            A row, and each copy of it, does not match its checksum.
        KeyError
            An image is not here.
        """
        places = np.array([self._place(one) for one in content], np.intp).reshape(-1, 2)
        found: NDArray[Any] | None = None
        for number in np.unique(places[:, 0]).tolist():
            here = places[:, 0] == number
            rows = self._splits[number].rows(places[here, 1])
            if found is None:
                found = np.empty((len(places), *rows.shape[1:]), np.float32)
            found[here] = rows
        return found if found is not None else np.empty((0,), np.float32)

    def _place(self, content: bytes) -> Place:
        """Return where an image's features are that match their checksum, if any do."""
        first = self._places[content]
        if self._is_sound(first):
            return first
        return next(filter(self._is_sound, self._copies.get(content, ())), first)

    def _is_sound(self, place: Place) -> bool:
        """Whether the block that a row is in is what was written."""
        number, row = place
        block = number, row // self._block_rows[number]
        if block not in self._sound:
            try:
                self._splits[number].rows([row])
                self._sound[block] = True
            except CorruptEntryError as error:
                log.warning("rows of the cache not used: %s", error)
                self._sound[block] = False
        return self._sound[block]


def _entries(store: Store, key: FeatureKey) -> list[FeatureSet]:
    if not store.folder.is_dir():
        return []
    try:
        return store.donors(replace(key, rows=()))
    except CacheError as error:  # a cache that cannot be read costs time, not the answer
        log.warning("cache not used: %s", error)
        return []
