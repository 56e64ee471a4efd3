"""What the file of an entry is called, and whether a file has another one's name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from probe.cache.file import Header, OpenFile, open_file
from probe.cache.key import FeatureKey
from probe.errors import CacheError, CacheMismatchError

ENDING = ".h5"
DIGEST_CHARACTERS = 12
_NAMED = re.compile(rf"-([0-9a-f]{{{DIGEST_CHARACTERS}}})$")


def entry_name(key: FeatureKey, dataset: str) -> str:
    """Return the name of a dataset's entry: words for people, and the beginning of its digest."""
    words = [
        re.sub(r"[^A-Za-z0-9_.]+", "_", word)[:40]
        for word in (dataset, key.backbone, key.layer, key.pool)
    ]
    if words[-1] == "none":
        words.pop()
    return "-".join([*words, key.digest[:DIGEST_CHARACTERS]])


def check_name(opened: OpenFile) -> None:
    """Refuse a file that has another entry's name, as after two were swapped.

    A name without a digest says nothing of the key, and is anybody's choice. An entry whose folder
    was renamed keeps its name, so another dataset's name alone is no mistake; it is one where the
    file of that name is there too and is not that dataset's either, or is the same file again.

    Raises
    ------
    CacheMismatchError
        Names both.
    """
    header = opened.header
    path, own = header.path, _own_name(header)
    found = _NAMED.search(path.stem)
    if found is None or path.stem == own:
        return
    other = path.with_name(own + ENDING)
    if found[1] != header.key.digest[:DIGEST_CHARACTERS] or _stands_for(other, opened):
        raise CacheMismatchError(path, "name", own, path.stem)


def _stands_for(other: Path, opened: OpenFile) -> bool:
    """Whether the file with the name that an entry should have shows that names went astray."""
    if not other.exists():
        return False
    try:
        there = open_file(other)
    except CacheError:
        return False
    if _own_name(there.header) != other.stem:
        return True
    mine, its = (one.array(one.header.checksum) for one in (opened, there))
    return np.array_equal(mine, its)


def _own_name(header: Header) -> str:
    return entry_name(header.key, str(header.provenance.get("dataset", "")))
