"""Digests of whole files, as publishers state them; remembered while the file is as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

from probe.memo import Memo, stamp_of


def file_digests(path: Path, memo: Memo) -> tuple[str, str]:
    """Return the SHA256 and MD5 of a whole file in hex, from the memo where it is as it was."""
    place, kind = str(path.resolve()), "sha256+md5"
    stamp = stamp_of(place)
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is None:
        known = " ".join(hash_file(path)).encode()
        memo.put_many(kind, [(place, stamp, known)])
    sha256, md5 = known.decode().split()
    return sha256, md5


def hash_file(path: Path) -> tuple[str, str]:
    """Return the SHA256 and MD5 of a whole file in hex; publishers state one or the other."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()
