"""Features side by side and after a PCA: which rows meet, and which rows move the projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from probe.bench.sources import (
    Source,
    SplitRows,
    of_entry,
    principal_axes,
    reduced,
    side_by_side,
)
from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.errors import DataError, UsageError
from probe.evaluation.parts import Rows
from probe.extraction.extract import extract_features
from tests.fakes import FakeEngine, Silent, make_dataset, make_job


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    job = make_job(make_dataset(train=120, test=30))
    job = replace(job, provenance={**job.provenance, "size": 8})
    folder: Path = tmp_path_factory.mktemp("cache")
    (made,) = extract_features(job, Store(folder), FakeEngine, Silent(), workers=1)
    return made


def shuffled(source: Source, seed: int = 0) -> Source:
    """Return the same features in another order, and negative so that they are told apart."""
    splits = {}
    for name, split in source.splits.items():
        order = np.random.default_rng(seed).permutation(len(split))
        splits[name] = SplitRows(
            make=lambda split=split, order=order: -split.features[order],  # type: ignore[misc]
            labels=split.labels[order], ids=[split.ids[row] for row in order],
            content=split.content[order],
            columns={name: one.take(order) for name, one in split.columns.items()},
        )  # fmt: skip
    return replace(source, name="other", splits=splits)


def test_rows_meet_by_id_whatever_their_order(entry: FeatureSet) -> None:
    source = of_entry("one", entry)
    joined = side_by_side([source, shuffled(source)])
    assert (joined.name, joined.width) == ("one+other", 1024)
    for name, split in joined.splits.items():
        assert np.array_equal(split.features[:, :512], entry[name].features)
        assert np.array_equal(split.features[:, 512:], -entry[name].features)


def test_other_images_under_the_same_ids_are_refused(entry: FeatureSet) -> None:
    source, other = of_entry("one", entry), shuffled(of_entry("two", entry))
    train: Any = other.splits["train"]
    wrong = replace(train, content=train.content[::-1])
    with pytest.raises(DataError, match="same ids and other contents"):
        side_by_side([source, replace(other, splits={**other.splits, "train": wrong})])
    with pytest.raises(DataError, match="no features of 30 images of test"):
        side_by_side([source, replace(other, splits={"train": train})])


def test_a_pca_is_scikit_learns_on_the_training_rows_alone(entry: FeatureSet) -> None:
    rows = np.arange(0, 120, 2)
    narrow = reduced(of_entry("one", entry), 5, Rows(split="train", rows=rows))
    fitted = PCA(5, svd_solver="full").fit(entry["train"].features[rows].astype(np.float64))
    for name, split in narrow.splits.items():
        wanted = fitted.transform(entry[name].features.astype(np.float64))
        signs = np.sign((wanted * split.features).sum(axis=0))
        np.testing.assert_allclose(split.features * signs, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(40, 60), (300, 20)])
def test_axes_are_the_same_with_few_rows_and_with_many(shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).normal(size=shape) @ np.diag(np.linspace(1, 9, shape[1]))
    mean, axes = principal_axes(X.astype(np.float32), 7)
    fitted = PCA(7, svd_solver="full").fit(X)
    np.testing.assert_allclose(mean, X.mean(axis=0), atol=1e-5)
    signs = np.sign(np.einsum("dk,kd->k", axes, fitted.components_))
    np.testing.assert_allclose(axes * signs, fitted.components_.T, atol=1e-4)


def test_a_backbone_with_large_numbers_does_not_take_all_axes_of_a_concat(
    entry: FeatureSet,
) -> None:
    source = of_entry("one", entry)
    large = {
        name: replace(split, make=lambda split=split: 1000 * split.features)  # type: ignore[misc]
        for name, split in shuffled(source).splits.items()
    }
    joined = side_by_side([source, replace(source, name="large", splits=large)])
    narrow = reduced(joined, 5, Rows(split="train"))
    X, Z = joined.splits["train"].features, narrow.splits["train"].features
    scaled = np.concatenate([X[:, :512], X[:, 512:] / 1000], axis=1).astype(np.float64)
    wanted = PCA(5, svd_solver="full").fit_transform(scaled)
    for own, other in zip(Z.T, wanted.T, strict=True):
        assert abs(np.corrcoef(own, other)[0, 1]) > 0.999


def test_a_pca_wider_than_its_rows_is_refused(entry: FeatureSet) -> None:
    with pytest.raises(UsageError, match="60 rows of 512 features"):
        reduced(of_entry("one", entry), 60, Rows(split="train", rows=np.arange(60)))
