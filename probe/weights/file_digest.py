"""Digests of whole files, as publishers state them; remembered while the file is as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from probe.core.memo import Memo, stamp_of


class Digests(NamedTuple):
    """Of a whole file, in hex; a publisher states one of them."""

    sha256: str
    md5: str
    sha1: str


def file_digests(path: Path, memo: Memo) -> Digests:
    """Return a file's digests, from the memo where it is as it was."""
    place, kind = str(path.resolve()), "sha256+md5+sha1"
    stamp = stamp_of(place)
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is None:
        known = " ".join(hash_file(path)).encode()
        memo.put_many(kind, [(place, stamp, known)])
    return Digests(*known.decode().split())


def hash_file(path: Path) -> Digests:
    """Return a file's digests, in one pass over it."""
    hashers = (
        hashlib.sha256(),
        hashlib.md5(usedforsecurity=False),
        hashlib.sha1(usedforsecurity=False),
    )
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for hasher in hashers:
                hasher.update(block)
    return Digests(*(hasher.hexdigest() for hasher in hashers))
