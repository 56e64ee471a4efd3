"""Learning curves: nested draws, choices inside the draw, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.errors import DataError, UsageError
from probe.evaluation.learning_curve import (
    FILE_NAME,
    LearningCurve,
    Point,
    load_learning_curve,
    save_learning_curve,
)
from probe.evaluation.parts import HeadData, Part
from probe.evaluation.splitting import fold_split
from probe.figures.learning import draw_learning_curve
from probe.heads import DenseHead, LogisticHead, PathHead, RidgeHead
from probe.runs.draws import CurvePlan, draw_rows, learning_curve, shared_part
from tests.heads.data import make_features


def part(seed: int, n_rows: int = 300) -> Part:
    X, y = make_features(n_rows, seed=seed)
    return Part(X=X, y=y, ids=[f"{seed}/{row}" for row in range(n_rows)])


DATA = HeadData(train=part(0), val=part(1), test=part(2), classes=tuple("abcd"))


def curve(head: object, data: HeadData = DATA, **plan: object) -> LearningCurve:
    asked = CurvePlan(**{"counts": [2, 10, 50], "draws": 3, **plan})  # type: ignore[arg-type]
    return learning_curve(data, head, asked, entry="e", dataset="d", name="path")  # type: ignore[arg-type]


def test_draws_are_stratified_nested_and_differ() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 4])
    small, large = draw_rows(labels, 3, 0, 0), draw_rows(labels, 20, 0, 0)
    assert np.bincount(labels[small]).tolist() == [3, 3, 3]
    assert np.bincount(labels[large]).tolist() == [20, 20, 4]
    assert set(small) <= set(large)
    assert set(small) != set(draw_rows(labels, 3, 0, 1))
    assert set(small) != set(draw_rows(labels, 3, 1, 0))


def test_more_images_are_better_and_each_point_is_the_head_of_its_draw() -> None:
    found = curve(RidgeHead(alpha=0.3))
    assert found.split == "val"
    bands = found.bands()
    assert bands[2].mean < bands[10].mean < bands[50].mean
    assert bands[2].deviation > bands[50].deviation
    for point in found.points:
        rows = draw_rows(DATA.train.y, point.per_class, 0, point.draw)
        alone = RidgeHead(alpha=0.3).fit(DATA.train.X[rows], DATA.train.y[rows])
        assert point.n_train == 4 * point.per_class
        assert point.top1 == pytest.approx(alone.score(DATA.val.X, DATA.val.y))


def test_a_grid_is_chosen_from_inside_each_draw() -> None:
    candidates = [{"C": 1e-6}, {"C": 1e-1}]
    found = curve(PathHead(C=1e-6), counts=[1, 10], candidates=candidates)
    for point in found.points:
        # within a standard error either may be chosen; the default is neither
        allowed = {PathHead().C} if point.per_class == 1 else {1e-6, 1e-1}
        assert point.params["C"] in allowed


def test_seeds_follow_the_draw_and_patience_has_no_say() -> None:
    head = DenseHead(epochs=2, patience=1, hidden="8", random_state=0)
    assert len({point.top1 for point in curve(head, counts=[20], draws=3).points}) > 1


def test_processes_give_the_same_points() -> None:
    assert curve(LogisticHead(), counts=[3], jobs=2) == curve(LogisticHead(), counts=[3])


def test_test_rows_are_scored_only_where_there_are_no_others() -> None:
    data = HeadData(train=DATA.train, val=None, test=DATA.test, classes=DATA.classes)
    assert curve(RidgeHead(), data, counts=[5]).split == "test"
    nothing = HeadData(train=DATA.train, val=None, test=None, classes=DATA.classes)
    with pytest.raises(UsageError, match="--val-size"):
        curve(RidgeHead(), nothing)
    with pytest.raises(UsageError, match="no class has more than 75"):
        curve(RidgeHead(), counts=[100])


def test_it_is_kept_and_drawn(tmp_path: Path) -> None:
    found = curve(RidgeHead())
    assert load_learning_curve(tmp_path) is None
    save_learning_curve(tmp_path, found)
    assert load_learning_curve(tmp_path) == found
    for name, one in (("a", found), ("b", curve(RidgeHead(), counts=[4], draws=1))):
        draw_learning_curve(one, tmp_path / f"{name}.png", title="ridge on " + "digits " * 30)
        with Image.open(tmp_path / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5
    (tmp_path / FILE_NAME).write_text('{"schema": 2}')
    with pytest.raises(DataError, match="not a learning curve"):
        load_learning_curve(tmp_path)


def test_the_band_ends_where_draws_are_all_the_images(tmp_path: Path) -> None:
    points = tuple(
        Point(
            per_class=count, draw=draw, n_train=2 * count, top1=0.5 + 0.1 * draw, mean_recall=0.5,
            log_loss=1.0, params={}, shared=count / 40,
        )
        for count in (5, 10, 40) for draw in range(3)
    )  # fmt: skip
    drawn = LearningCurve(
        entry="e", dataset="d", head="ridge", split="val", n_split=9, points=points
    )
    draw_learning_curve(drawn, tmp_path / "a.png", title="ridge")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    column = pixels[:, pixels.shape[1] // 5]
    colours, counts = np.unique(column[column.min(axis=1) < 250], axis=0, return_counts=True)
    band = colours[counts.argmax()]  # blue on white, the most of what is there
    assert band[2] > band[0] + 10
    found = np.flatnonzero((abs(pixels - band).max(axis=2) <= 1).sum(axis=0) > 20)
    assert found.max() < 0.45 * pixels.shape[1]  # 10 of 40 images lie at 0.38


def test_a_class_of_one_image_takes_no_choice_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Parameters chosen on the rows that the curve is scored on would flatter it."""
    rows = np.concatenate([np.flatnonzero(DATA.train.y < 3), np.flatnonzero(DATA.train.y == 3)[:1]])
    data = HeadData(train=DATA.train.take(rows), val=DATA.val, test=None, classes=DATA.classes)
    candidates = [{"C": 1e-6}, {"C": 1e-1}]
    found = curve(PathHead(C=1e-6), data, counts=[1, 10], candidates=candidates)
    for point in found.points:
        # within a standard error either may be chosen; the default is neither
        allowed = {PathHead().C} if point.per_class == 1 else {1e-6, 1e-1}
        assert point.params["C"] in allowed
    assert caplog.messages == [
        "draws of 1 a class are too small to choose from: they have the head's default C"
    ]


def test_a_class_of_two_images_does_not_make_the_folds_fewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(
        "probe.runs.draws.fold_split",
        lambda y, folds, seed, units: asked.append(folds) or fold_split(y, folds, seed),
    )
    rows = np.concatenate([np.flatnonzero(DATA.train.y < 3), np.flatnonzero(DATA.train.y == 3)[:2]])
    data = HeadData(train=DATA.train.take(rows), val=DATA.val, test=None, classes=DATA.classes)
    curve(RidgeHead(), data, counts=[3, 20], draws=1, candidates=[{"alpha": 0.1}, {"alpha": 1.0}])
    assert asked == [3, 5]


def test_the_band_is_that_of_fresh_images_though_draws_share_some() -> None:
    """A mean of 60 of 80 numbers: its draws vary by half of what fresh samples would."""
    random, found = np.random.default_rng(0), []
    labels = np.zeros(80, int)
    shared = shared_part(labels, 60)
    assert shared == pytest.approx(0.75)
    for pool in range(300):
        values = random.normal(size=80)
        points = tuple(
            Point(
                per_class=60, draw=draw, n_train=60, mean_recall=0, log_loss=0, params={},
                top1=values[draw_rows(labels, 60, pool, draw)].mean(), shared=shared,
            )
            for draw in range(5)
        )  # fmt: skip
        curve = LearningCurve(
            entry="e", dataset="d", head="path", split="val", n_split=9, points=points
        )
        found.append(curve.bands()[60].deviation ** 2)
    assert np.sqrt(np.mean(found)) == pytest.approx(1 / np.sqrt(60), rel=0.06)


def test_draws_of_all_images_have_no_band() -> None:
    """Every class gives all its images, so every draw is the same."""
    assert shared_part(np.repeat([0, 1], [28, 28]), 28) == 1
    assert shared_part(np.repeat([0, 1], [10, 30]), 20) == pytest.approx((10 + 400 / 30) / 30)
    every = int(np.bincount(DATA.train.y).max())
    found = curve(RidgeHead(alpha=0.3), counts=[2, every])
    assert np.isnan(found.bands()[every].deviation)
    assert np.isfinite(found.bands()[2].deviation)
