"""Choosing a penalty: on validation rows, by folds, and never from test rows."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.base import clone

from probe.errors import HeadError, UsageError
from probe.evaluation.metrics import Metrics
from probe.evaluation.parts import Part
from probe.evaluation.splitting import fold_split, warn_of_unknown
from probe.heads import (
    HEADS,
    BaseHead,
    DenseHead,
    KNNHead,
    LogisticHead,
    PathHead,
    PrototypeHead,
    RidgeHead,
    grid,
)
from probe.heads.catalog import default_grid
from probe.heads.ensemble import EnsembleHead
from probe.runs.selection import out_of_fold
from tests.heads.data import make_features

C = np.logspace(-5, 2, 8).tolist()


def part(n_rows: int, seed: int = 0) -> Part:
    X, y = make_features(n_rows, seed=seed)
    return Part(X=X, y=y, ids=[str(row) for row in range(n_rows)])


@pytest.mark.parametrize(
    ("head", "name", "values", "close"),
    [
        (PathHead(tol=1e-9), "C", C, 0.006),
        (RidgeHead(), "alpha", [1e-3, 0.1, 10.0], 0.006),
        (KNNHead(), "k", [1, 10, 500], 0),
        (PrototypeHead(), "shrinkage", [0.0, 0.5], 0.006),
        (DenseHead(epochs=3, random_state=0), "lr", [1e-3, 1e-2], 0.006),
    ],
    ids=["path", "ridge", "knn", "prototype", "dense"],
)
def test_the_best_on_validation_is_chosen_and_scored_as_it_scores_itself(
    head: BaseHead, name: str, values: list[float], close: float
) -> None:
    train, val = part(200), part(400, seed=1)
    search = grid.Search(candidates=[{name: value} for value in values])
    found = grid.choose(head, train, val, search)
    for value, top1, loss in zip(values, found.score, found.log_loss, strict=True):
        alone = clone(head).set_params(**{name: value}).fit(train.X, train.y)
        p = alone.predict_proba(val.X)[range(400), val.y]
        assert top1 == pytest.approx(alone.score(val.X, val.y), abs=close)
        assert loss == pytest.approx(
            -np.log(np.maximum(p, np.finfo(np.float64).eps)).mean(), abs=2e-3
        )
    # not worse than the best by more than one standard error, which is below that of unpaired rows
    assert found.score[found.best] >= found.score.max() - np.sqrt(0.5 / 400)
    assert found.heads[0].score(val.X, val.y) == pytest.approx(found.score[found.best], abs=1e-12)
    assert found.chosen == {name: values[found.best]}


def test_among_equals_the_one_that_holds_back_most_wins() -> None:
    train, val = part(40), part(40)
    same = [{"C": 1e-9}, {"C": 1e-10}, {"C": 1e-8}]
    assert grid.choose(PathHead(), train, val, grid.Search(candidates=same)).best == 1
    strong = [{"alpha": 1e9}, {"alpha": 1e10}, {"alpha": 1e8}]
    assert grid.choose(RidgeHead(), train, val, grid.Search(candidates=strong)).best == 1


@pytest.mark.parametrize(
    ("head", "name", "values"),
    [(PathHead(), "C", C), (RidgeHead(), "alpha", [1e-3, 1.0]), (KNNHead(), "k", [3, 9])],
    ids=["path", "ridge", "knn"],
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_folds_average_heads_that_never_saw_their_rows(
    head: BaseHead, name: str, values: list[float], jobs: int
) -> None:
    train = part(200)
    folds = fold_split(train.y, 4, seed=0)
    candidates = [{name: value} for value in values]
    found = grid.choose(
        head, train, None, grid.Search(candidates=candidates, folds=folds, jobs=jobs)
    )
    expected = [
        clone(head)
        .set_params(**found.chosen)
        .fit(train.X[rows], train.y[rows])
        .score(train.X[out], train.y[out])
        for rows, out in folds
    ]
    assert found.score[found.best] == pytest.approx(np.mean(expected), abs=0.006)
    assert len(found.heads) == 4


def test_folds_alone_measure_without_choosing() -> None:
    train = part(200)
    folds = fold_split(train.y, 4, seed=0)
    for head, jobs in ((PrototypeHead(), 1), (LogisticHead(), 2)):
        found = grid.choose(head, train, None, grid.Search(candidates=[{}], folds=folds, jobs=jobs))
        assert found.chosen == {}
        assert len(found.heads) == 4
        assert 0 < found.error[0] < 0.1


def test_a_candidate_that_overflows_is_left_out_and_the_others_stay() -> None:
    train, val = part(200), part(100, seed=1)
    head = DenseHead(epochs=30, optimizer="sgd", random_state=0, normalize="none")
    rates = [{"lr": 1e-3}, {"lr": 1e38}, {"lr": 1e-2}]
    for folds in (None, fold_split(train.y, 2, seed=0)):
        found = grid.choose(head, train, val, grid.Search(candidates=rates, folds=folds))
        assert found.candidates == ({"lr": 1e-3}, {"lr": 1e-2})
        assert found.failed == ({"lr": 1e38},)
    with pytest.raises(HeadError, match=r"every fit diverged: lr=1e\+38$"):
        grid.choose(head, train, val, grid.Search(candidates=[{"lr": 1e38}]))


@pytest.mark.parametrize("hidden", ["", "8"])
def test_a_candidate_worse_than_guessing_is_never_chosen(hidden: str) -> None:
    train, val = part(200), part(100, seed=1)
    head = DenseHead(epochs=3, optimizer="sgd", hidden=hidden, random_state=0)
    rates = [{"lr": 1e-12}, {"lr": 1e3}]  # the first learns nothing, the second jumps about
    found = grid.choose(head, train, val, grid.Search(candidates=rates))
    assert found.failed == ({"lr": 1e3},)
    assert found.chosen == {"lr": 1e-12}
    assert clone(head).set_params(lr=1e3).fit(*train.xy()).diverged_


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    train, val = part(80), part(400, seed=1)
    head = DenseHead(epochs=2, lr=0.05, batch_size=8)
    search = grid.Search(candidates=[{"lr": 0.05}, {"lr": 0.2}], seeds=(5, 6, 7))
    found = grid.choose(head, train, val, search)
    for candidate, mean, deviation in zip(
        search.candidates, found.score, found.seed_deviation, strict=True
    ):
        scores = [
            clone(head).set_params(random_state=seed, **candidate).fit(train.X, train.y)
            .score(val.X, val.y)
            for seed in (5, 6, 7)
        ]  # fmt: skip
        assert mean == pytest.approx(np.mean(scores), abs=0.004)
        assert deviation == pytest.approx(np.std(scores, ddof=1), abs=0.004)
    assert found.heads[0].random_state == 5


def test_scikit_learns_head_fits_a_grid_in_processes() -> None:
    X, y = make_features()
    heads = LogisticHead().fit_grid(X, y, [0.01, 1.0], n_jobs=2)
    for head in heads:
        alone = LogisticHead(C=head.C).fit(X, y)
        np.testing.assert_allclose(head.coef_, alone.coef_, rtol=1e-6)


def test_nothing_that_chooses_has_a_place_for_test_rows() -> None:
    for function in (grid.choose, grid.fit_and_score, grid.score_rows):
        assert not [name for name in inspect.signature(function).parameters if "test" in name]


def test_early_stopping_in_a_fold_goes_by_validation_rows_not_by_those_that_score() -> None:
    train, val = part(150), part(80, seed=1)
    head = DenseHead(epochs=4, patience=2, random_state=0)
    search = grid.Search(candidates=[{}], folds=fold_split(train.y, 3, seed=0))
    for fitted in grid.choose(head, train, val, search).heads:
        best = fitted.history_[fitted.best_epoch_ - 1]
        assert best.val_top1 == pytest.approx(fitted.score(val.X, val.y))
    with pytest.raises(HeadError, match="there are none"):
        grid.choose(head, train, None, search)


def test_a_solver_without_a_grid_says_which_have_one() -> None:
    with pytest.raises(UsageError, match=r"--C with path.*--k with knn"):
        default_grid("prototype", "shrinkage")


def test_folds_hold_each_row_out_once_a_repeat_and_keep_classes_and_groups_apart() -> None:
    y = np.arange(120) % 3
    groups = [f"patient {row // 6}" for row in range(120)]
    for named in (None, groups):
        folds = fold_split(y, 5, seed=0, repeats=2, units=named)
        assert len(folds) == 10
        held_out = np.concatenate([out for _, out in folds[:5]])
        assert sorted(held_out) == list(range(120))
        for train, out in folds:
            assert not set(train) & set(out)
            assert np.bincount(y[out]).tolist() == [8, 8, 8]
            if named:
                assert not {named[row] for row in train} & {named[row] for row in out}
    assert folds[0][1].tolist() != folds[5][1].tolist()


def test_a_rare_class_does_not_forbid_folds_and_is_in_each_training_fold() -> None:
    y = np.array([0] * 20 + [1] * 3 + [2] * 2)
    for train, out in fold_split(y, 5, seed=0, repeats=3):
        assert set(y[train]) == {0, 1, 2}
        assert np.bincount(y[out], minlength=3)[1:].max() <= 1
    with pytest.raises(UsageError, match=r"--folds 21: it must be from 2 to 20"):
        fold_split(y, 21, seed=0)


@pytest.mark.parametrize(
    ("head", "candidates"),
    [
        (PathHead(), [{"C": 1e-3}, {"C": 1e-1}, {"C": 1.0}]),
        (LogisticHead(), [{"C": 1e-2}, {"C": 1e-1}]),
        (RidgeHead(), [{"alpha": 1e-2}, {"alpha": 1e-1}]),
        (DenseHead(epochs=4, random_state=0), [{"lr": 1e-2}, {"lr": 1e-3}]),
        (KNNHead(), [{"k": 5}, {"k": 9}]),
        (PrototypeHead(), [{}]),
    ],
)
@pytest.mark.parametrize("groups", [False, True])
def test_the_only_row_of_a_class_counts_as_wrong_where_it_is_held_out(
    head: BaseHead,
    candidates: list[dict[str, float]],
    groups: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train = part(120)
    n_classes = int(train.y.max()) + 1
    train.y[7] = n_classes
    named = [str(row // 2) for row in range(120)] if groups else None
    folds = fold_split(train.y, 4, seed=0, units=named)
    assert not caplog.text  # whoever made the folds tells
    warn_of_unknown(train.y, folds)
    assert "1 row is held out with no other row of the same class" in caplog.text
    found = grid.choose(head, train, None, grid.Search(candidates=candidates, folds=folds))
    assert len(found.heads) == 4
    ensemble = EnsembleHead.of(found.heads)
    assert ensemble.classes_.tolist() == list(range(n_classes + 1))
    held_out = out_of_fold(train, found.heads, folds, n_classes + 1)
    assert held_out.probabilities[7, n_classes] == 0
    assert held_out.probabilities.sum(axis=1) == pytest.approx(1)
    assert isinstance(held_out.metrics, Metrics)
    assert held_out.metrics.per_class_recall[n_classes] == 0
    right = held_out.probabilities.argmax(axis=1) == train.y
    assert found.score[found.best] == pytest.approx(
        np.mean([right[out].mean() for _, out in folds])
    )
    assert right.mean() > 0.5


def test_within_one_standard_error_the_calibrated_log_loss_decides() -> None:
    """Eight classes of 54 rows: the most right is a weak penalty's, whose log loss is far worse."""
    random = np.random.default_rng(4)
    y = np.arange(216) % 4
    X = (random.normal(size=(216, 40)) + 0.25 * random.normal(size=(4, 40))[y]).astype(np.float32)
    ids = [str(row) for row in range(216)]
    train = Part(X=X[:108], y=y[:108], ids=ids[:108])
    val = Part(X=X[108:], y=y[108:], ids=ids[108:])
    values = np.logspace(-6, 5, 23).tolist()
    found = grid.choose(PathHead(), train, val, grid.Search(candidates=[{"C": c} for c in values]))
    heads = PathHead().fit_grid(train.X, train.y, values)
    right = np.stack([head.predict(val.X) == val.y for head in heads])
    best = right.mean(axis=1).argmax()
    lost = right[best].astype(float) - right
    error = lost.std(axis=1, ddof=1) / np.sqrt(108)
    tied = np.flatnonzero(lost.mean(axis=1) <= error + 1e-12)
    assert len(tied) > 3

    def loss(head: BaseHead) -> float:
        temperatures = np.exp(np.linspace(np.log(1e-6), np.log(100), 2000))
        scores = head.decision_function(val.X) / temperatures[:, None, None]  # (2000, 108, 4)
        own = scores[:, np.arange(108), val.y]
        return float((logsumexp(scores, axis=2) - own).mean(axis=1).min())

    losses = {int(i): loss(heads[i]) for i in tied}
    assert found.best in tied
    assert losses[found.best] <= min(losses.values()) + 2e-4
    assert found.log_loss[found.best] < found.log_loss[tied].max()


def test_a_choice_at_the_edge_is_known() -> None:
    train, val = part(80), part(80, seed=1)
    values = [{"C": 1e-3}, {"C": 1e-2}, {"C": 1e-1}, {"C": 1.0}]
    found = grid.choose(PathHead(), train, val, grid.Search(candidates=values))
    assert [replace(found, best=best).at_edge for best in range(4)] == [("C",), (), (), ("C",)]
    two = grid.choose(PathHead(), train, val, grid.Search(candidates=values[:2]))
    assert two.at_edge == ()


@pytest.mark.parametrize(
    ("name", "least", "most", "edge"),
    [("knn", {"k": 1}, {"k": 20}, ("k",)), ("dense", {"wd": 0.0}, {"wd": 1.0}, ("wd",))],
)
def test_what_lies_at_an_end_of_what_was_tried_is_named_where_more_may_lie_beyond(
    name: str, least: dict[str, float], most: dict[str, float], edge: tuple[str, ...]
) -> None:
    ((parameter, low),) = least.items()
    grid = [least, {parameter: low + 0.5}, most]
    at_ends = HEADS[name].at_ends
    assert at_ends(most, grid) == edge
    assert at_ends(grid[1], grid) == ()
    assert at_ends(least, grid) == ()  # nothing lies beyond
    assert at_ends(most, [least, most]) == ()
