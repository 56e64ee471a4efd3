"""A decided pass: its images, its layers, and the keys of the entries that it fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.cache.checksum import SplitTable, encode_strings
from probe.cache.key import FeatureKey, digest_rows, preprocess_identity
from probe.core.columns import encode_columns
from probe.core.short_repr import short_repr
from probe.datasets.spec import Dataset
from probe.errors import DataError
from probe.preprocess.spec import PreprocessSpec
from probe.preprocess.views import view_count


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One layer with its pooling, and the key of its entry."""

    layer: Layer
    pool: Pool
    key: FeatureKey


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that is decided before a pass runs.

    Parameters
    ----------
    tables : mapping of split to SplitTable
        Labels, ids, content hashes and columns as they were when this was decided.
    cuts : tuple of Cut
        One entry each, filled by one pass.
    provenance : mapping
        Where things came from; recorded, and no part of the key.
    """

    __repr__ = short_repr

    dataset: Dataset
    backbone: BackboneSpec
    tables: Mapping[str, SplitTable]
    preprocess: PreprocessSpec
    cuts: tuple[Cut, ...]
    provenance: Mapping[str, Any]

    @property
    def count(self) -> int:
        """The number of images in all splits."""
        return sum(map(len, self.dataset.splits.values()))

    @property
    def views(self) -> int:
        """The number of forwarded copies of each image."""
        return view_count(self.cuts[0].key.views)


def decide(
    dataset: Dataset,
    backbone: BackboneSpec,
    preprocess: PreprocessSpec,
    cuts: Sequence[tuple[Layer, Pool, str]],
    *,
    dtype: str,
    views: str = "none",
    provenance: Mapping[str, Any],
) -> Job:
    """Return the job of a pass, with the key of each entry.

    Parameters
    ----------
    cuts : sequence of (Layer, Pool, digest of the parameters that this cut uses)
    dtype : {"float32", "float16"}
        What is stored.
    views : {"none", "flip", "crops5"}
        Augmented copies of each image, see `probe.preprocess.views`.

    Raises
    ------
    UsageError
        A layer cannot be computed at the preprocessing's size.
    DataError
        There is no image.
    """
    if not any(map(len, dataset.splits.values())):
        raise DataError(f"{dataset.name}: no images; nothing to extract")
    tables = _tables(dataset)
    rows = tuple((name, digest_rows(table.content)) for name, table in tables.items())
    made = []
    for layer, pool, parameters in cuts:
        backbone.check_size(layer, preprocess.size)
        key = FeatureKey(
            backbone=backbone.name,
            layer=layer.name,
            pool=pool,
            parameters=parameters,
            preprocess=preprocess_identity(preprocess),
            rows=rows,
            dtype=dtype,
            views=views,
        )
        made.append(Cut(layer=layer, pool=pool, key=key))
    return Job(
        dataset=dataset,
        backbone=backbone,
        tables=tables,
        preprocess=preprocess,
        cuts=tuple(made),
        provenance=dict(provenance),
    )


def _tables(dataset: Dataset) -> dict[str, SplitTable]:
    found = {}
    for name, split in dataset.splits.items():
        columns, values = encode_columns(split.columns, len(split))
        found[name] = SplitTable(
            labels=split.labels,
            ids=encode_strings(split.ids),
            content=split.images.content(),
            columns=columns,
            column_values=values,
        )
    return found
