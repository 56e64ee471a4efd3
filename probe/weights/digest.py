"""The digest of converted parameters: equal for the same numbers, whatever file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


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
        # lengths first, so that no two different sets of parameters give the same bytes
        head = f"{len(name)}:{name}:{','.join(map(str, array.shape))};"
        hasher.update(head.encode())
        hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()
