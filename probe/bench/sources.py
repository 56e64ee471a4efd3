"""The features a head is fitted on: an entry, several entries concatenated, or either after a PCA.

Each has the parts of `probe.cache.store.Joined` that fitting a head needs, so that all of them go
the way of `probe head`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSet
from probe.cache.joining import features_name, matching_rows
from probe.cache.key import FeatureKey, digest_text
from probe.core.columns import Column
from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.units import Groups
from probe.heads.projection import BLOCK, Projection


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What a result records of features: the part of a FeatureSet that is not rows."""

    __repr__ = short_repr

    name: str
    dataset: str
    key: FeatureKey
    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    row_shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """Rows of one split with what belongs to each; `make` computes them when they are needed.

    A head that was fitted before is found without them.
    """

    __repr__ = short_repr

    make: Callable[[], NDArray[Any]]
    labels: NDArray[np.int32]
    ids: Sequence[str]
    content: NDArray[np.uint8]
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def features(self) -> NDArray[Any]:
        """All rows, (n, d)."""
        return self.make()


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Features of a dataset, by name.

    Parameters
    ----------
    name : str
        As the leaderboard has it.
    kind : {"backbone", "imported", "concat", "pca"}
    splits : mapping of split name to FeatureSplit or SplitRows
    entries : tuple of FeatureSet
        The cache entries that the rows come from.
    size, pca : int, optional
        Side of the network's input in pixels; width after a PCA.
    projection : callable, optional
        Returns what the PCA learnt.
    beside : tuple of (entry name, split)
        Where splits come from that were imported apart from the first entry.
    groups : tuple of Groups
        Of its rows, beside those of one picture: the same for all features of a dataset.
    """

    __repr__ = short_repr

    name: str
    kind: str
    entry: Meta
    splits: Mapping[str, Any]
    entries: tuple[FeatureSet, ...]
    size: int | None
    pca: int | None = None
    projection: Callable[[], Projection] | None = None
    beside: tuple[tuple[str, str], ...] = ()
    groups: tuple[Groups, ...] = ()

    @cached_property
    def width(self) -> int:
        """Features an image has; views are rows of their own."""
        return self.pca or sum(entry.width for entry in self.entries)

    @cached_property
    def labels_digest(self) -> str:
        """Stands for classes, labels and ids, which no entry's digest holds."""
        parts = [repr(self.entry.classes)]
        for name, split in self.splits.items():
            parts += [name, digest_text(split.labels.tobytes().hex()), "\n".join(split.ids)]
        return digest_text("\0".join(parts))


def of_entry(name: str, entry: FeatureSet) -> Source:
    """Return the features of one entry."""
    meta = Meta(
        name=entry.name, dataset=entry.dataset, key=entry.key, provenance=entry.provenance,
        classes=entry.classes, row_shape=entry.row_shape,
    )  # fmt: skip
    return Source(
        name=name, kind="backbone", entry=meta, splits=entry.splits, entries=(entry,),
        size=int(entry.provenance["size"]) if "size" in entry.provenance else None,
    )  # fmt: skip


def side_by_side(parts: Sequence[Source]) -> Source:
    """Return the features of several entries side by side, rows matched by id and content.

    Raises
    ------
    DataError
        An entry has other images than the first, or images with other contents.
    UsageError
        An entry holds several views of each image: rows of different views do not belong together.
    """
    first, *others = parts
    if any(part.entry.key.views != "none" for part in parts):
        raise UsageError("features with --views cannot be put side by side")
    splits = {}
    for name, split in first.splits.items():
        rows = [
            (part.splits.get(name),
             matching_rows(split, part.splits.get(name), name=part.name, split_name=name))
            for part in others
        ]  # fmt: skip
        splits[name] = SplitRows(
            make=partial(_side_by_side, split, rows), labels=split.labels, ids=split.ids,
            content=split.content, columns=split.columns,
        )  # fmt: skip
    keys = [part.entry.key for part in parts]
    key = replace(
        first.entry.key,
        backbone="+".join(key.backbone for key in keys),
        layer="+".join(key.layer for key in keys),
        pool="+".join(key.pool for key in keys),
    )
    weights = "+".join(str(part.entry.provenance.get("weights", "")) for part in parts)
    meta = replace(
        first.entry,
        name=features_name([part.entry.name for part in parts]),
        key=key,
        provenance={"weights": weights},
        row_shape=(sum(part.width for part in parts),),
    )
    sizes = {part.size for part in parts}
    return Source(
        name=features_name([part.name for part in parts]), kind="concat", entry=meta, splits=splits,
        entries=tuple(entry for part in parts for entry in part.entries),
        size=sizes.pop() if len(sizes) == 1 else None, groups=first.groups,
        beside=tuple(one for part in parts for one in part.beside),
    )  # fmt: skip


def _side_by_side(first: Any, others: Sequence[tuple[Any, NDArray[np.intp]]]) -> NDArray[Any]:
    blocks = [_flat(first.features), *(_flat(one.features)[rows] for one, rows in others)]
    return np.concatenate(blocks, axis=1)


def reduced(source: Source, width: int, train: Any) -> Source:
    """Return features after a PCA to `width` that was fitted on some training rows.

    Parameters
    ----------
    train : probe.evaluation.parts.Rows
        The rows that heads are trained on: validation and test rows do not move the projection.

    Raises
    ------
    UsageError
        There are fewer rows than `width`.
    """
    split = source.splits[train.split]
    count = len(split) if train.rows is None else len(train.rows)
    if width > min(count - 1, source.width):
        raise UsageError(
            f"--pca {width}: {count:,} rows of {source.width} features have fewer axes"
        )

    @cache
    def learnt() -> Projection:
        X = _flat(split.features)
        X = X if train.rows is None else X[train.rows]
        scale = _block_scale(X, [entry.width for entry in source.entries])
        mean, axes = principal_axes(X / scale, width)
        return Projection(mean=mean * scale, scale=scale.astype(np.float64), axes=axes)

    def project(one: Any) -> NDArray[Any]:
        return learnt().apply(_flat(one.features))

    splits = {
        name: SplitRows(
            make=partial(project, one),
            labels=one.labels,
            ids=one.ids,
            content=one.content,
            columns=one.columns,
        )
        for name, one in source.splits.items()
    }
    name, entry_name = (features_name([one], width) for one in (source.name, source.entry.name))
    return replace(
        source, name=name, kind="pca", pca=width, splits=splits, projection=learnt,
        entry=replace(source.entry, name=entry_name, row_shape=(width,)),
    )  # fmt: skip


def _block_scale(X: NDArray[Any], widths: Sequence[int]) -> NDArray[np.float32]:
    """Return what each feature is divided by, (d,), so that every backbone varies as much.

    Else the axes of features side by side are those of the backbone with the largest numbers. One
    backbone alone is left as it is.
    """
    if len(widths) == 1:
        return np.ones(X.shape[1], np.float32)
    spread = X.var(axis=0, dtype=np.float64)
    blocks = np.split(spread, np.cumsum(widths)[:-1])
    scales = [np.sqrt(block.sum()) or 1.0 for block in blocks]
    return np.repeat(scales, widths).astype(np.float32)


def principal_axes(X: NDArray[Any], width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean, (d,), and the `width` directions of most variance, (d, width), float64.

    References
    ----------
    Pearson, "On lines and planes of closest fit to systems of points in space", Phil. Mag. 2, 1901.
    """
    mean = X.mean(axis=0, dtype=np.float64)
    if len(X) <= X.shape[1]:  # the axes lie in the space of the rows, which is smaller
        _, _, rows = np.linalg.svd(X - mean, full_matrices=False)
        return mean, np.ascontiguousarray(rows[:width].T)
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK] - mean
        covariance += block.T @ block
    _, axes = np.linalg.eigh(covariance)
    return mean, np.ascontiguousarray(axes[:, ::-1][:, :width])


def _flat(features: NDArray[Any]) -> NDArray[Any]:
    return features.reshape(len(features), -1)
