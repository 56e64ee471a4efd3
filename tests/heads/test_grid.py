"""Choosing a penalty: on validation rows, by folds, and never from test rows."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from sklearn.base import clone

from probe.errors import UsageError
from probe.heads import LogisticHead, PathHead, RidgeHead, grid
from probe.splitting import fold_split
from tests.heads.data import make_features

C = np.logspace(-5, 2, 8).tolist()


@pytest.mark.parametrize(
    ("head", "penalty", "values"),
    [(PathHead(tol=1e-9), "C", C), (RidgeHead(), "alpha", [1e-3, 0.1, 10.0])],
)
def test_the_best_on_validation_is_chosen_and_scored_as_it_scores_itself(
    head: PathHead | RidgeHead, penalty: grid.Penalty, values: list[float]
) -> None:
    X, y = make_features(200)
    validation = make_features(400, seed=1)
    found = grid.choose_on_validation(head, X, y, validation, penalty=penalty, grid=values)
    for value, top1, loss in zip(values, found.top1, found.log_loss, strict=True):
        alone = clone(head).set_params(**{penalty: value}).fit(X, y)
        p = alone.predict_proba(validation[0])
        assert top1 == pytest.approx(alone.score(*validation), abs=0.006)
        assert loss == pytest.approx(-np.log(p[range(400), validation[1]]).mean(), abs=2e-3)
    assert found.top1[found.best] == found.top1.max()
    assert found.heads[0].score(*validation) == pytest.approx(found.top1.max(), abs=1e-12)
    assert found.chosen == values[found.best]


def test_among_equals_the_strongest_penalty_wins() -> None:
    scores = np.array([0.5, 0.9, 0.9, 0.9])
    assert grid._best(scores, [1.0, 3.0, 2.0, 4.0], "C") == 2
    assert grid._best(scores, [1.0, 3.0, 2.0, 4.0], "alpha") == 3


def test_folds_average_heads_that_never_saw_their_rows() -> None:
    X, y = make_features(200)
    folds = fold_split(y, 4, seed=0)
    found = grid.choose_by_folds(PathHead(), X, y, folds, penalty="C", grid=C)
    expected = [
        PathHead(C=found.chosen).fit(X[train], y[train]).score(X[out], y[out])
        for train, out in folds
    ]
    assert found.top1[found.best] == pytest.approx(np.mean(expected), abs=0.006)
    assert len(found.heads) == 4


def test_scikit_learns_head_fits_a_grid_in_processes() -> None:
    X, y = make_features()
    heads = LogisticHead().fit_grid(X, y, [0.01, 1.0], n_jobs=2)
    for head in heads:
        alone = LogisticHead(C=head.C).fit(X, y)
        np.testing.assert_allclose(head.coef_, alone.coef_, rtol=1e-6)


def test_nothing_that_chooses_has_a_place_for_test_rows() -> None:
    for function in (grid.choose_on_validation, grid.choose_by_folds, grid.score_heads):
        assert not [name for name in inspect.signature(function).parameters if "test" in name]


def test_a_solver_without_a_grid_says_which_have_one() -> None:
    with pytest.raises(UsageError, match="path, logistic, ridge, dense"):
        grid.default_grid("prototype")


def test_folds_hold_each_row_out_once_a_repeat_and_keep_classes_and_groups_apart() -> None:
    y = np.arange(120) % 3
    groups = [f"patient {row // 6}" for row in range(120)]
    for named in (None, groups):
        folds = fold_split(y, 5, seed=0, repeats=2, groups=named)
        assert len(folds) == 10
        held_out = np.concatenate([out for _, out in folds[:5]])
        assert sorted(held_out) == list(range(120))
        for train, out in folds:
            assert not set(train) & set(out)
            assert np.bincount(y[out]).tolist() == [8, 8, 8]
            if named:
                assert not {named[row] for row in train} & {named[row] for row in out}
    assert folds[0][1].tolist() != folds[5][1].tolist()


def test_more_folds_than_rows_of_a_class_are_refused() -> None:
    with pytest.raises(UsageError, match="--folds 5"):
        fold_split(np.array([0] * 20 + [1] * 4), 5, seed=0)
