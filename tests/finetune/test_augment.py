"""What training images go through: repeatable, in range, and never validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.errors import UsageError
from probe.finetune.augment import (
    OPERATIONS,
    Augment,
    augmented,
    erased,
    pad_and_crop,
    parse_augment,
    rand_augment,
)
from probe.finetune.batches import Batch, epoch_order, mixed
from probe.finetune.randomness import IMAGE, generator
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import TORCHVISION
from tests.finetune.data import training_of

SPEC = replace(TORCHVISION.with_size(24))
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
SINGLE = ["flip", "crop", "resized-crop", "jitter", "hue", "lighting", "rand", "erase=1"]


@pytest.mark.parametrize("text", [*SINGLE, "light", "medium", "strong"])
def test_the_same_draw_is_the_same_image_and_another_draw_is_another(text: str) -> None:
    policy = parse_augment(text)
    draws = [augmented(PICTURE, SPEC, policy, generator(1, IMAGE, 2, row)) for row in range(8)]
    again = [augmented(PICTURE, SPEC, policy, generator(1, IMAGE, 2, row)) for row in range(8)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(draws, again, strict=True))
    assert len({one.tobytes() for one in draws}) > 1
    assert {(one.shape, one.dtype) for one in draws} == {((24, 24, 3), np.dtype(np.uint8))}


def test_with_nothing_to_change_an_image_is_what_validation_sees() -> None:
    found = augmented(PICTURE, SPEC, parse_augment("none"), generator(1, IMAGE, 1, 1))
    assert found.tobytes() == resize_image(PICTURE, SPEC).tobytes()


def test_a_mirrored_image_is_mirrored_and_a_shift_of_nothing_is_nothing() -> None:
    small = resize_image(PICTURE, SPEC)
    flips = {
        augmented(PICTURE, SPEC, Augment(flip=True), generator(1, IMAGE, 1, row)).tobytes()
        for row in range(20)
    }
    assert flips == {small.tobytes(), small[:, ::-1].tobytes()}
    assert pad_and_crop(small, 0, generator(0, IMAGE)).tobytes() == small.tobytes()


def test_a_shift_moves_pixels_by_at_most_the_padding() -> None:
    ramp = np.broadcast_to(np.arange(24, dtype=np.uint8)[None, :, None], (24, 24, 3))
    for row in range(20):
        moved = pad_and_crop(ramp, 3, generator(0, IMAGE, 1, row)).astype(int)[0, :, 0]
        inside = moved[3:-3] - np.arange(3, 21)
        assert set(inside.tolist()) <= set(range(-3, 4))
        assert len(set(inside.tolist())) == 1


def test_erasing_leaves_most_of_an_image_alone() -> None:
    blank = np.zeros((24, 24, 3), np.uint8)
    parts = [(erased(blank, generator(0, IMAGE, r)).any(axis=2)).mean() for r in range(30)]
    assert min(parts) > 0
    assert max(parts) < 0.4


def test_every_operation_keeps_size_and_does_more_the_stronger_it_is() -> None:
    picture = resize_image(PICTURE, SPEC)
    from PIL import Image

    moved = 0
    for operation in OPERATIONS:
        weak, strong = (np.asarray(operation(Image.fromarray(picture), m, 1)) for m in (0.1, 1.0))
        assert weak.shape == strong.shape == picture.shape
        change = [np.abs(one.astype(int) - picture).mean() for one in (weak, strong)]
        moved += change[1] > change[0]
    assert moved >= 10  # the identity, autocontrast and equalize have no strength
    assert rand_augment(picture, 0, 9, generator(0, IMAGE)).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    "text", ["flop", "crop=0.9", "jitter=x", "rand=9x1", "rand=2", "crop,resized-crop", "flip=1"]
)
def test_a_policy_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--augment"):
        parse_augment(text)


def test_mixing_keeps_targets_summing_to_one_and_pixels_between() -> None:
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 200, np.uint8)])
    batch = Batch(step=0, rows=np.arange(2), images=images, targets=np.eye(2, dtype=np.float32))
    found = mixed(batch, 1.0, generator(4, IMAGE))
    np.testing.assert_allclose(found.targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.images[:, 0, 0, 0] / 200, found.targets[:, 1], atol=0.01)


def test_orders_are_repeatable_and_do_what_they_are_called() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 6])
    plain = epoch_order(labels, "shuffle", None, 1, 1)
    assert sorted(plain.tolist()) == list(range(96))
    assert plain.tolist() == epoch_order(labels, "shuffle", None, 1, 1).tolist()
    assert plain.tolist() != epoch_order(labels, "shuffle", None, 1, 2).tolist()
    balanced = epoch_order(labels, "balanced", None, 1, 1)
    assert np.bincount(labels[balanced]).tolist() == [32, 32, 32]
    weights = np.where(labels == 2, 1.0, 0.0)
    assert set(labels[epoch_order(labels, "weighted", weights, 1, 1)].tolist()) == {2}


def test_validation_images_are_never_changed(made: Path, tmp_path: Path) -> None:
    plain, strong = (
        training_of(made, tmp_path / name, augment=name) for name in ("none", "strong")
    )
    a, b = (one.predict(one.val)[1] for one in (plain, strong))
    assert a.tobytes() == b.tobytes()
    first = [next(iter(one.feed.epoch(1))).images.tobytes() for one in (plain, strong)]
    assert first[0] != first[1]


def test_batches_do_not_depend_on_threads_or_on_where_an_epoch_is_taken_up(
    made: Path, tmp_path: Path
) -> None:
    training = training_of(made, tmp_path, augment="strong", sizes=(28, 32), mixup=0.3)
    whole = list(training.feed.epoch(2))
    rest = list(replace(training.feed, workers=1).epoch(2, first=2))
    assert [one.step for one in rest] == [2]
    assert rest[0].images.tobytes() == whole[2].images.tobytes()
    assert rest[0].targets.tobytes() == whole[2].targets.tobytes()
    assert {one.images.shape[1] for e in range(1, 6) for one in training.feed.epoch(e)} == {28, 32}
