"""The identity of an entry: everything that determines its features, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.records import loads_json
from probe.preprocess.known_pixels import foreign_pixels
from probe.preprocess.spec import PreprocessSpec

FORMAT = 1
SPLIT_ORDER = ("train", "val", "test")


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_text(text: str) -> str:
    """Return the BLAKE2b-128 of a text, in hex."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_rows(content: NDArray[np.uint8]) -> str:
    """Return one digest for ordered content hashes, (n_images, 16) uint8."""
    return hashlib.blake2b(np.ascontiguousarray(content).tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """The identity of a cache entry.

    All fields but `rows` are the recipe: equal images have equal features under equal recipes, in
    whichever entry. Labels, ids, device, batch size, threads, paths and times are no part of it,
    since features do not depend on them.

    Parameters
    ----------
    parameters : str
        Digest of the converted parameters that the network uses up to the layer.
    preprocess : str
        Canonical JSON of `PreprocessSpec.identity` and of `foreign_pixels`.
    rows : tuple of (split, digest)
        Digest of each split's ordered content hashes, in the order train, val, test.
    dtype : str
        Stored type: ``float32`` or ``float16``.
    compute : str
        Precision of the forward pass.
    views : str
        A name in `probe.preprocess.views.VIEWS`; unless it is ``none``, the views of an image are
        the first axis of its row.
    format : int
        Version of these fields.
    """

    backbone: str
    layer: str
    pool: str
    parameters: str
    preprocess: str
    rows: tuple[tuple[str, str], ...]
    dtype: str = "float32"
    compute: str = "float32"
    views: str = "none"
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """BLAKE2b-128 of the canonical JSON, in hex."""
        return digest_text(canonical_json(self.to_json()))

    @property
    def recipe(self) -> str:
        """The digest of the key without its rows: how features are made, of whatever images."""
        return digest_text(canonical_json({k: v for k, v in self.to_json().items() if k != "rows"}))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with `preprocess` as an object."""
        return {**asdict(self), "rows": dict(self.rows), "preprocess": loads_json(self.preprocess)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FeatureKey:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            Fields are missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping):
            raise ValueError("the key is no JSON object")
        if set(data) != names:
            raise ValueError(f"key fields are {sorted(data)}, expected {sorted(names)}")
        rows = tuple(
            (split, str(data["rows"][split])) for split in SPLIT_ORDER if split in data["rows"]
        )
        return cls(**{**data, "rows": rows, "preprocess": canonical_json(data["preprocess"])})


def preprocess_identity(spec: PreprocessSpec) -> str:
    """Return the key's text for a preprocessing; it tells unusual pixels of this machine, too."""
    return canonical_json({**spec.identity(), **foreign_pixels(spec)})
