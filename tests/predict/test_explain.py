"""Reasons for an answer: exact maps, the same neighbours as the features say, a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle import Bundle
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.errors import UsageError
from probe.heads.fitted import LayeredHead, layered_scores
from probe.predict.explain import TrainingImages, activation_map, explain, occlusion_map
from probe.predict.explanation import draw_explanation


@pytest.fixture(scope="module")
def bundle(digits_bundle: Path) -> Bundle:
    return Bundle.load(digits_bundle, batch_size=8)


def test_the_activation_map_adds_up_to_the_score(bundle: Bundle, tmp_path: Path) -> None:
    split = load_dataset("digits", cache_dir=tmp_path, limit=5).splits["train"]
    images = np.stack([bundle.networks[0].resized(split.images.image(row)) for row in (0, 1)])
    (head,) = bundle.heads
    assert isinstance(head, LayeredHead)
    scores = layered_scores(bundle.features(images), head.normalizer_, head.layers())
    centred = scores - scores.mean(axis=1, keepdims=True)
    means = [[activation_map(bundle, one, c).mean() for c in (0, 5)] for one in images]
    # mean, scale and intercept of the head add the same to every image
    change, expected = means[0] - np.array(means[1]), (centred[0] - centred[1])[[0, 5]]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-3)


def test_occlusion_finds_what_the_answer_hangs_on(bundle: Bundle, tmp_path: Path) -> None:
    split = load_dataset("digits", cache_dir=tmp_path, limit=5).splits["train"]
    seen = bundle.networks[0].resized(split.images.image(0))
    number = int(bundle.predict_proba([seen])[0].argmax())
    heat = occlusion_map(bundle, seen, number)
    assert heat.shape == (11, 11)
    assert heat.max() > 2 * abs(np.median(heat))


def test_neighbours_come_from_the_bundle_or_from_a_dataset_in_the_cache(
    bundle: Bundle, digits_cache: Path, tmp_path: Path
) -> None:
    dataset = load_dataset("digits", cache_dir=tmp_path, limit=300)
    image = dataset.splits["train"].images.image(7)
    own = explain(bundle, image, wanted="none", k=3)
    assert len(own.neighbours) == 3
    assert all(one.id is None and one.picture is None for one in own.neighbours)
    training = TrainingImages(bundle, dataset, Store(digits_cache))
    found = explain(bundle, image, wanted="none", k=3, training=training)
    assert found.neighbours[0].id == dataset.splits["train"].ids[7]
    assert found.neighbours[0].distance < 0.02  # itself, but for float16
    np.testing.assert_array_equal(found.neighbours[0].picture, image)
    distances = [one.distance for one in found.neighbours]
    assert distances == sorted(distances)
    with pytest.raises(UsageError, match="no features of it"):
        TrainingImages(bundle, dataset, Store(tmp_path / "nothing"))


def test_the_picture_is_written_whole(bundle: Bundle, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = explain(bundle, image, name="an image.png", label="3", wanted="occlusion")
    draw_explanation(found, tmp_path / "e.png")
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.size[0] > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["e.png"]
    with pytest.raises(UsageError, match="no such class"):
        explain(bundle, image, label="zebra")
    with pytest.raises(UsageError, match="--heatmap"):
        explain(bundle, image, wanted="heat")
