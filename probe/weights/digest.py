"""Digests of converted parameters and of whole files.

The digest of parameters is the same for the same numbers, whatever the file format. The digests of
files are those that publishers state; the memo keeps them until the file changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.core.memo import Memo, stamp_of
from probe.core.regular import open_regular


def parameter_digest(parameters: Mapping[str, NDArray[np.float32]]) -> str:
    """Return 32 hex digits over sorted (name, shape, little-endian float32 bytes).

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        In any order.

    References
    ----------
    Aumasson et al., BLAKE2, RFC 7693; 16 bytes of it.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name], dtype="<f4")
        # the length goes first, so that different sets of parameters never give the same bytes
        head = f"{len(name)}:{name}:{','.join(map(str, array.shape))};"
        hasher.update(head.encode())
        hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


class Digests(NamedTuple):
    """The digests of a whole file in hex; a publisher states one of them."""

    sha256: str
    md5: str
    sha1: str


def file_digests(path: Path, memo: Memo) -> Digests:
    """Return a file's digests, from the memo if the file has not changed."""
    place, kind = str(path.resolve()), "sha256+md5+sha1"
    stamp = stamp_of(place)
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is None:
        known = " ".join(hash_file(path)).encode()
        memo.put_many(kind, [(place, stamp, known)])
    return Digests(*known.decode().split())


def hash_file(path: Path) -> Digests:
    """Compute a file's digests in one pass over it."""
    hashers = (
        hashlib.sha256(),
        hashlib.md5(usedforsecurity=False),
        hashlib.sha1(usedforsecurity=False),
    )
    with open_regular(path) as file, ThreadPoolExecutor(len(hashers)) as pool:
        while block := file.read(1 << 22):  # large enough that handing it over takes no time
            list(pool.map(lambda hasher, data=block: hasher.update(data), hashers))
    return Digests(*(hasher.hexdigest() for hasher in hashers))


def remembered(path: Path, kind: str, memo: Memo, compute: Callable[[], str]) -> str:
    """Return a text that `compute` makes of a file, from the memo if the file has not changed.

    Parameters
    ----------
    kind : str
        What the text is, with the version of the code that makes it.
    """
    place = str(path.resolve())
    try:
        stamp = stamp_of(place)
    except OSError:
        return compute()  # it raises the error that describes what is wrong with the path
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is not None:
        return known.decode()
    value = compute()
    memo.put_many(kind, [(place, stamp, value.encode())])
    return value
