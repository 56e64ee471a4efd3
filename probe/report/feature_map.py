"""Project features to two or three dimensions, and find each image's nearest neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.cache.joining import Joined
from probe.core.nearest import leave_out_itself, nearest
from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.preprocess.views import view_count

Method = Literal["pca", "tsne"]
NEIGHBOURS = 8
COMPONENTS = 50  # of PCA before t-SNE, as its author advises
WIDEST = 4096  # features; wider rows are hashed to this many, which bounds the memory
CHUNK = 512  # rows read or compared at a time
SEED = 0
LEAST = 3  # points
NO_NEIGHBOUR = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """Points in two (t-SNE) or three (PCA) dimensions, and each one's neighbours.

    Parameters
    ----------
    coordinates : float32, (n_items, 2 or 3)
        NaN for an item that is not in the entry.
    explained : tuple of float
        Part of the variance along each axis; empty for t-SNE.
    neighbours : int64, (n_items, k)
        Numbers of the nearest other items, nearest first; NO_NEIGHBOUR if there are fewer.
    similarity : float32, (n_items, k)
        Their cosines.
    width : int
        Features of an image in the entry.
    """

    __repr__ = short_repr

    entry: str
    method: Method
    coordinates: NDArray[np.float32]
    explained: tuple[float, ...]
    neighbours: NDArray[np.int64]
    similarity: NDArray[np.float32]
    width: int


def draw_map(
    joined: Joined,
    splits: Sequence[str],
    rows: NDArray[np.intp],
    advance: Callable[[int], None],
    *,
    method: Method = "pca",
) -> FeatureMap:
    """Project some rows of an entry and find their neighbours.

    Rows are scaled to unit length first, so that distance is the cosine's.

    Parameters
    ----------
    splits : sequence of str, (n_items,)
        Split of each item.
    rows : int, (n_items,)
        Its row in the split; negative if it is not in the entry.
    advance : callable
        Called with the number of further items that were read.

    Raises
    ------
    UsageError
        Fewer than three items are in the entry.
    CorruptEntryError
        Rows do not match their checksum.

    References
    ----------
    van der Maaten, Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    """
    there = np.flatnonzero(rows >= 0)
    if len(there) < LEAST:
        raise UsageError(f"a map needs {LEAST} images, and there are {len(there)}")
    features = unit_rows(joined, [splits[item] for item in there], rows[there], advance)
    k = min(NEIGHBOURS, len(features) - 1)
    cosines, close = nearest(features, features, k, step=CHUNK, leave_out=leave_out_itself)
    cosines = np.clip(cosines, -1, 1)
    reduced, explained = principal_components(features, COMPONENTS if method == "tsne" else 3)
    plane = t_sne(reduced) if method == "tsne" else reduced
    shape = len(rows), close.shape[1]
    coordinates = np.full((len(rows), plane.shape[1]), np.nan, np.float32)
    neighbours, similarity = np.full(shape, NO_NEIGHBOUR, np.int64), np.zeros(shape, np.float32)
    coordinates[there], neighbours[there], similarity[there] = plane, there[close], cosines
    return FeatureMap(
        entry=joined.entry.name,
        method=method,
        coordinates=coordinates,
        explained=() if method == "tsne" else explained,
        neighbours=neighbours,
        similarity=similarity,
        width=joined.entry.width,
    )


def unit_rows(
    joined: Joined,
    splits: Sequence[str],
    rows: NDArray[np.intp],
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return rows of unit length, (n_points, at most WIDEST), read a few at a time."""
    views = view_count(joined.entry.key.views)
    width = joined.entry.width
    fold = _hashing(width)
    features = np.empty((len(rows), min(width, WIDEST)), np.float32)
    for split in dict.fromkeys(splits):
        numbers = np.array([i for i, one in enumerate(splits) if one == split], np.intp)
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            block = joined.splits[split].rows(rows[chunk]).reshape(len(chunk), views, -1)[:, 0]
            block = block.astype(np.float32)
            features[chunk] = block if fold is None else block @ fold
            advance(len(chunk))
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    features /= np.maximum(norms, np.finfo(np.float32).tiny)
    return features


def _hashing(width: int) -> Any:
    """Return a sparse matrix (width, WIDEST) that nearly preserves angles; None if not needed.

    References
    ----------
    Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009.
    """
    if width <= WIDEST:
        return None
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(SEED)
    signs = random.choice(np.array([-1, 1], np.float32), width)
    columns = random.integers(0, WIDEST, width)
    return csr_matrix((signs, (np.arange(width), columns)), shape=(width, WIDEST))


def principal_components(
    features: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Return the first components, (n_points, count), and each one's share of the variance.

    If the rows span fewer dimensions, the other components are 0.
    """
    from sklearn.decomposition import PCA

    kept = min(count, *features.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal rows: no variance to divide by
        pca = PCA(kept, svd_solver="randomized", random_state=SEED).fit(features)
    reduced = np.zeros((len(features), count), np.float32)
    reduced[:, :kept] = pca.transform(features)
    shares = np.nan_to_num(pca.explained_variance_ratio_)
    return reduced, (*shares.tolist(), *([0.0] * (count - kept)))


def t_sne(reduced: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return t-SNE's plane, (n_points, 2), started from the first two components."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    perplexity = min(30.0, (len(reduced) - 1) / 3)
    # one thread, since its short parallel steps wait for each other on a busy machine
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", RuntimeWarning)  # equal rows: the start has no spread
        tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=SEED)
        plane: NDArray[np.float32] = tsne.fit_transform(reduced).astype(np.float32)
    return np.nan_to_num(plane)
