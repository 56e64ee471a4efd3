"""A bundle's features that the cache has already, whichever entries they lie in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle, Network
from probe.cache.key import FeatureKey, preprocess_identity, view_count
from probe.cache.store import Store
from probe.extraction.recall import Recall


class Recalled:
    """Features by content hash; an image is at hand if it is for each of the bundle's networks.

    Parameters
    ----------
    views : str
        A name in `probe.cache.key.VIEWS`.
    """

    def __init__(self, bundle: Bundle, store: Store, views: str = "none") -> None:
        self._bundle, self._views = bundle, view_count(views)
        self._recalls = [Recall([store], recipe_of(one, views)) for one in bundle.networks]

    def __len__(self) -> int:
        return min(map(len, self._recalls))

    def __contains__(self, content: bytes) -> bool:
        return all(content in recall for recall in self._recalls)

    def rows(self, contents: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features of images that are all here, (n, views, n_features).

        Raises
        ------
        CorruptEntryError
            A row does not match its checksum.
        """
        each = [recall.rows(list(contents)) for recall in self._recalls]
        flat = [rows.reshape(len(contents) * self._views, -1) for rows in each]
        return self._bundle.joined(flat).reshape(len(contents), self._views, -1)


def recipe_of(network: Network, views: str) -> FeatureKey:
    """Return the key, without rows, of entries that hold a network's features."""
    about = network.about
    return FeatureKey(
        backbone=about.backbone,
        layer=about.layer,
        pool=about.pool,
        parameters=about.parameters,
        preprocess=preprocess_identity(network.preprocess),
        rows=(),
        views=views,
    )
