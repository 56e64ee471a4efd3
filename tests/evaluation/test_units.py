"""Rows that belong together, of one picture or one group, stay on one side of everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from probe.errors import UsageError
from probe.evaluation.parts import HeadData, Part, plan_splits, warn_of_shared
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.evaluation.splitting import fold_split, validation_split
from probe.evaluation.statistics import share_interval
from probe.evaluation.stratify import stratified_parts
from probe.evaluation.task import SINGLE_LABEL
from probe.evaluation.units import ALONE, Groups, effective_count, group_rows, relate
from probe.heads import PathHead
from probe.heads.grid import Choice, choose
from probe.runs.draws import CurvePlan, draw_rows, learning_curve
from probe.runs.fit import HeadRequest, fit_head, plan_head
from tests import fakes


def hashes(pictures: Sequence[int]) -> NDArray[np.uint8]:
    known = np.random.default_rng(0).integers(0, 256, (max(pictures) + 1, 16), dtype=np.uint8)
    return known[list(pictures)]


def by_union_find(pictures: Sequence[int], *groups: Sequence[int]) -> list[int]:
    """Return each row's smallest connected row, the slow way."""
    root = list(range(len(pictures)))
    changed = True
    while changed:
        changed = False
        for keys in (pictures, *groups):
            for i in range(len(root)):
                for j in range(i):
                    if keys[i] == keys[j] != ALONE and root[i] != root[j]:
                        root[i] = root[j] = min(root[i], root[j])
                        changed = True
    return root


@pytest.mark.parametrize("seed", range(20))
def test_units_are_connected_components_over_all_splits(seed: int) -> None:
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 25, 30)
    first, second = random.integers(-1, 20, 30), random.integers(-1, 12, 30)
    ends = {"train": slice(0, 18), "val": slice(18, 22), "test": slice(22, 30)}
    groups = [
        Groups(by=name, of={split: of[rows] for split, rows in ends.items()})
        for name, of in (("patient", first), ("site", second))
    ]
    content = {split: hashes(pictures.tolist())[rows] for split, rows in ends.items()}
    found = relate(content, groups)
    assert found.by == "patient and site"
    expected = np.unique(by_union_find(pictures, first, second), return_inverse=True)[1]
    units = np.concatenate([found.units[split] for split in ends])
    np.testing.assert_array_equal(units, expected)
    alone = relate(content)
    np.testing.assert_array_equal(
        np.concatenate([alone.units[split] for split in ends]),
        np.unique(by_union_find(pictures), return_inverse=True)[1],
    )


def test_single_rows_are_dealt_as_they_always_were() -> None:
    random = np.random.default_rng(0)
    y, several = random.integers(0, 4, 90), random.integers(0, 2, (90, 3))
    alone = random.permutation(90)
    for labels in (y, several):
        for a, b in zip(
            validation_split(labels, 0.3, 7), validation_split(labels, 0.3, 7, alone), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        for one, other in zip(
            fold_split(labels, 4, 7), fold_split(labels, 4, 7, units=alone), strict=True
        ):
            np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(draw_rows(y, 5, 1, 2), draw_rows(y, 5, 1, 2, np.arange(90)))


def test_which_rows_a_seed_deals_does_not_move_from_version_to_version() -> None:
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    assert validation_split(y, 0.3, 42)[1].tolist() == [4, 5, 6, 9]
    assert draw_rows(y, 2, 42, 0).tolist() == [0, 6, 7, 9]
    folds = [held.tolist() for _, held in fold_split(y, 3, 42)]
    assert folds == [[0, 2, 3, 5], [1, 6, 7, 10], [4, 8, 9, 11]]
    several = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1]])
    assert [held.tolist() for _, held in fold_split(several, 2, 1)] == [[0, 2, 5], [1, 3, 4]]
    assert validation_split(several, 2, 1)[1].tolist() == [2, 3]


@pytest.mark.parametrize("seed", range(30))
def test_units_stay_whole_and_classes_keep_their_shares(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 12, random.integers(20, 90))
    units = np.repeat(np.arange(len(sizes)), sizes)
    n_classes = int(random.integers(2, 6))
    y = np.array([random.choice(n_classes, p=random.dirichlet(np.ones(n_classes))) for _ in units])
    y = np.unique(y, return_inverse=True)[1]
    train, val = validation_split(y, 0.3, seed, units)
    assert not set(units[train]) & set(units[val])
    assert sorted([*train, *val]) == list(range(len(y)))
    assert set(y[train]) == set(y)
    assert abs(len(val) - 0.3 * len(y)) <= sizes.max()
    folds = fold_split(y, 5, seed, units=units)
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(len(y)))
    for rows, held_out in folds:
        assert not set(units[rows]) & set(units[held_out])

    def uneven(parts: Any) -> float:
        whole = np.bincount(y) / len(y)
        shares = [np.bincount(y[held], minlength=len(whole)) / len(held) for _, held in parts]
        return float(np.abs(np.array(shares) - whole).sum(axis=1).mean())

    others = StratifiedGroupKFold(5).split(y[:, None], y, units)  # without shuffling it stratifies
    assert uneven(folds) <= uneven(list(others)) + 0.05


@pytest.mark.parametrize(("n_classes", "n_rows"), [(2, 40), (10, 600), (100, 5000)])
def test_one_copy_among_all_rows_takes_no_class_its_share(n_classes: int, n_rows: int) -> None:
    labels = np.arange(n_rows) % n_classes
    units = np.arange(n_rows)
    units[1 + n_classes] = 1  # a picture that is there twice
    for seed in range(5):
        train, held_out = validation_split(labels, 0.2, seed, units)
        counts = np.bincount(labels[held_out], minlength=n_classes)
        assert len(train) + len(held_out) == n_rows
        assert np.abs(counts - n_rows / n_classes / 5).max() <= 1


def test_a_class_of_one_unit_is_trained_on() -> None:
    y = np.array([0] * 10 + [1] * 10 + [2] * 4)
    units = np.array([*range(10), *range(10, 20), 20, 20, 20, 20])
    train, val = validation_split(y, 0.4, 0, units)
    assert set(y[val]) == {0, 1}
    assert (y[train] == 2).sum() == 4
    with pytest.raises(UsageError, match="belong together, so none can be held out"):
        validation_split(np.repeat([0, 1], 5), 0.3, 0, np.repeat([0, 1], 5))
    with pytest.raises(UsageError, match=r"holds out 21 of 24 rows, and 20 can be"):
        validation_split(y, 21, 0, units)
    assert len(validation_split(y, 0, 0, units)[1]) == 0


@pytest.mark.parametrize(("labels", "remedy"), [([0], "another class"), ([0, 1], "--val-size 0")])
def test_one_row_a_class_is_told_what_helps(labels: list[int], remedy: str) -> None:
    with pytest.raises(UsageError, match=f"so none can be held out; .*{remedy}"):
        validation_split(np.array(labels), 0.3, 0)


def test_thousands_of_classes_are_dealt_in_memory_that_is_linear_in_them() -> None:
    y = np.arange(30_000) % 8000
    units = np.arange(30_000)
    units[1] = 0
    random = np.random.default_rng(0)
    parts = stratified_parts(SINGLE_LABEL.pairs(y), 8000, [15_000, 15_000], random, units)
    counts = [np.bincount(y[part], minlength=8000) for part in parts]
    assert np.abs(counts[0] - counts[1]).max() <= 2
    assert 0 in parts[0].tolist()
    assert (1 in parts[0].tolist()) == (0 in parts[0].tolist())


@pytest.mark.parametrize("pairs", [0, 1, 5, 40])
def test_a_few_copies_leave_the_other_rows_stratified(pairs: int) -> None:
    y = np.repeat(np.arange(3), 100)
    units = np.arange(300)
    units[:pairs] = units[pairs : 2 * pairs]
    for seed in range(5):
        _, held_out = validation_split(y, 0.15, seed, units)
        assert np.abs(np.bincount(y[held_out]) - 15).max() <= 1
        for _, fold in fold_split(y, 5, seed, units=units):
            assert np.abs(np.bincount(y[fold]) - 20).max() <= 1


def test_a_draw_takes_whole_units_and_a_larger_one_holds_it() -> None:
    random = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 5)
    y = random.integers(0, 2, 40)[units]
    small, large = (draw_rows(y, count, 3, 1, units) for count in (10, 25))
    assert set(small) <= set(large)
    assert np.bincount(y[small]).tolist() == [10, 10]
    assert np.bincount(units[small])[np.unique(units[small])].tolist() == [5, 5, 5, 5]
    cut = draw_rows(y, 12, 3, 1, units)  # of the last unit of a class as many as are lacking
    assert sorted(np.bincount(units[cut])[np.unique(units[cut])].tolist()) == [2, 2, 5, 5, 5, 5]


def twins(n: int, copies: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Return noise, labels that it knows nothing of, and which rows are of one picture."""
    random = np.random.default_rng(seed)
    units = np.repeat(np.arange(n), copies)
    X = random.normal(size=(n, 30))[units] + 0.01 * random.normal(size=(len(units), 30))
    return X.astype(np.float32), random.permutation(np.arange(n) % 2)[units], units


def test_nothing_is_learnt_of_labels_at_random_however_often_each_row_is_there() -> None:
    X, y, units = twins(60, 5, 0)
    split = fakes.joined({"train": (X, y)}, ("a", "b"))
    split.splits["train"].content = hashes(units.tolist())
    asked = HeadRequest(solver="path", grid=True, folds=5, val_size=0.2)
    plan = plan_head(split, asked)
    assert "240 training rows are exact copies of others" in plan.why
    run = fit_head(split, asked, plan)
    for name in ("val", "oof"):
        assert run.result.metrics[name]["top1"] < 0.7
    assert run.result.groups is not None
    assert run.result.groups["units"] == {"train": 48, "val": 12, "oof": 48}
    assert run.result.groups["effective"]["oof"] == pytest.approx(48)
    assert run.result.intervals is not None
    low, high = run.result.intervals["oof"]["top1"]
    kept = run.predictions["oof"]
    right = kept.probabilities.argmax(axis=1) == kept.labels
    over_rows = share_interval(right)
    assert high - low > 1.8 * (over_rows.high - over_rows.low)
    assert low < 0.5 < high


def test_inner_folds_of_a_draw_hold_rows_of_one_picture_out_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The labels are noise, so a head that is asked of other pictures is right half of the time."""
    seen = []

    def watched(*args: Any) -> Choice:
        seen.append(choose(*args))
        return seen[-1]

    monkeypatch.setattr("probe.heads.grid.choose", watched)
    X, y, units = twins(40, 4, 1)
    train = Part(X=X, y=y, ids=[str(row) for row in range(len(y))], units=units)
    Z, z, _ = twins(60, 1, 2)
    val = Part(X=Z, y=z, ids=[f"v{row}" for row in range(len(z))])
    candidates = [{"C": 1e-6}, {"C": 1e3}]  # the second knows each copy's label by heart
    plan = CurvePlan(counts=(60,), draws=3, candidates=candidates)
    data = HeadData(train=train, val=val, test=None, classes=("a", "b"))
    about = {"entry": "e", "dataset": "d", "name": "path"}
    found = learning_curve(data, PathHead(), plan, **about)
    alone = HeadData(train=Part(X=X, y=y, ids=train.ids), val=val, test=None, classes=("a", "b"))
    fooled = learning_curve(alone, PathHead(), plan, **about)
    assert [point.params["C"] for point in fooled.points] == [1e3] * 3
    assert len(found.points) == 3
    held_out = [choice.score[1] for choice in seen]  # of C = 1e3, inside the draws
    assert max(held_out[:3]) < 0.7
    assert min(held_out[3:]) > 0.85


def test_a_draw_that_groups_leave_nothing_to_hold_out_of_has_the_default() -> None:
    X, y, _ = twins(40, 1, 1)
    units = y.astype(np.intp)  # each class is one patient
    train = Part(X=X, y=y, ids=[str(row) for row in range(len(y))], units=units)
    data = HeadData(train=train, val=train, test=None, classes=("a", "b"))
    plan = CurvePlan(counts=(5,), draws=1, candidates=[{"C": 1.0}, {"C": 10.0}])
    (point,) = learning_curve(data, PathHead(), plan, entry="e", dataset="d", name="path").points
    assert point.params == {"C": PathHead().C}


def test_what_train_and_test_share_is_said_with_counts(caplog: pytest.LogCaptureFixture) -> None:
    content = {"train": hashes([0, 1, 2, 3, 3]), "test": hashes([3, 9, 0, 8])}
    labels = {"train": np.array([0, 1, 0, 1, 1]), "test": np.array([1, 0, 1, 0])}
    patients = group_rows("patient", {"train": list("aabbb"), "test": ["b", "c", "d", "a"]})
    related = relate(content, [patients])
    warn_of_shared(related, labels)
    assert caplog.messages == [
        (
            "2 of 4 test images are also in train, the same picture (1 with another label): "
            "figures on test are too good by as much; `probe audit` lists them"
        ),
        (
            "1 of 4 test images are of groups (patient) that are in train, too: the dataset's own "
            "splits divide them, so figures on test are those of known groups"
        ),
    ]
    plan = plan_splits(labels, val_size=0, seed=0, related=related)
    assert "1 training row is an exact copy of others" in plan.why
    assert plan.grouped_by == "patient"


def test_predictions_keep_what_belongs_together(tmp_path: Any) -> None:
    common = {
        "ids": np.array(["a", "b", "c"]), "labels": np.array([0, 1, 0]),
        "probabilities": np.full((3, 2), 0.5, np.float32),
    }  # fmt: skip
    save_predictions(
        tmp_path,
        {"val": Predictions(**common, units=np.array([4, 4, 9])), "test": Predictions(**common)},
    )
    found = load_predictions(tmp_path)
    assert found["val"].units is not None
    assert found["val"].units.tolist() == [4, 4, 9]
    assert found["test"].units is None


def test_unequal_units_say_as_much_as_fewer_equal_ones() -> None:
    assert effective_count(None, 7) == 7
    assert effective_count(np.repeat([0, 1, 2], 4), 12) == pytest.approx(3)
    assert effective_count(np.array([0] * 9 + [1]), 10) == pytest.approx(100 / 82)
