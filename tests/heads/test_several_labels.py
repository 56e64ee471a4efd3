"""Heads on rows that may have several labels: scikit-learn's indicator matrices."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from probe.errors import HeadError
from probe.evaluation.multilabel import average_precisions, score_labels
from probe.evaluation.parts import Part
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL
from probe.heads import (
    HEADS,
    BaseHead,
    DenseHead,
    EnsembleHead,
    KNNHead,
    LogisticHead,
    PathHead,
    PrototypeHead,
    RidgeHead,
    load_fitted,
    load_head,
    save_head,
)
from probe.heads.dense import checked_optimizer
from probe.heads.grid import Search, choose, score_rows
from probe.heads.network import Network, Shape
from probe.heads.softmax import SoftmaxLayer
from tests.heads.test_streaming import streamed
from tests.needs import needs_mxnet

TAKING = [spec for spec in HEADS.values() if spec.load().takes_several]
each_head = pytest.mark.parametrize("spec", TAKING, ids=[spec.name for spec in TAKING])


def make(
    n_rows: int = 300, seed: int = 0, n_classes: int = 5
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return features of 12 numbers, and labels that they tell mostly, some rarely there."""
    random = np.random.default_rng(seed)
    weights = np.random.default_rng(99).normal(size=(12, n_classes))
    X = random.normal(size=(n_rows, 12))
    scores = X @ weights + random.normal(size=(n_rows, n_classes))
    Y = scores > np.linspace(-1, 4, n_classes)
    return (X * np.linspace(0.1, 3, 12) + 1).astype(np.float32), Y.astype(np.uint8)


@cache
def plain(name: str) -> Any:
    """Return a head fitted on the usual rows, watched on others; nobody fits it again."""
    return HEADS[name].load()().fit(*make(), validation=make(seed=1))


def part(X: Any, y: Any) -> Part:
    return Part(X=X, y=y, ids=[str(row) for row in range(len(y))])


@each_head
def test_a_head_gives_indicators_and_independent_probabilities(spec: Any) -> None:
    X_new, Y_new = make(seed=1)
    head: BaseHead = plain(spec.name)
    p, given = head.predict_proba(X_new), head.predict(X_new)
    assert head.task_ is MULTI_LABEL
    assert head.classes_.tolist() == [0, 1, 2, 3, 4]
    assert p.shape == given.shape == head.decision_function(X_new).shape == (300, 5)
    assert (given == (p > 0.5)).all()
    assert given.dtype.kind == "i"
    assert p.sum(axis=1).std() > 0.1
    metrics = score_labels(p, Y_new)
    assert metrics.map is not None
    assert metrics.map > Y_new.mean() + 0.3
    assert head.score(X_new, Y_new) == metrics.subset_accuracy


@each_head
def test_two_columns_are_two_labels_and_one_column_is_none(spec: Any) -> None:
    X, Y = make(n_classes=2)
    two = spec.load()().fit(X, Y)
    assert two.decision_function(X).shape == two.predict(X).shape == (300, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of a column that should be a vector
        one = spec.load()().fit(X, Y[:, :1])
    assert one.task_ is SINGLE_LABEL
    assert one.predict(X).shape == (300,)


@each_head
def test_a_head_comes_back_from_its_file(spec: Any, tmp_path: Path) -> None:
    X, _ = make()
    head = plain(spec.name)
    save_head(head, tmp_path / "head")
    for load in (load_head, load_fitted):
        again: Any = load(tmp_path / "head")
        assert again.task_ is MULTI_LABEL
        assert again.predict_proba(X).tobytes() == head.predict_proba(X).tobytes()


@each_head
def test_a_label_that_all_rows_have_or_none_is_foretold_so(spec: Any) -> None:
    X, Y = make()
    Y[:, 1], Y[:, 3] = 1, 0
    p = spec.load()().fit(X, Y).predict_proba(X)
    assert np.isfinite(p).all()
    assert p[:, 1].min() > 0.5 > p[:, 3].max()


@each_head
def test_what_is_no_indicator_matrix_is_refused(spec: Any) -> None:
    X, Y = make()
    with pytest.raises(HeadError, match=r"0 and 1|multiclass-multioutput"):
        spec.load()().fit(X, Y * 2 + 1)
    with pytest.raises(HeadError, match=r"inconsistent numbers of samples|300 rows but labels"):
        spec.load()().fit(X, Y[:-1])
    with pytest.raises(HeadError, match="validation: 300 rows but labels of shape"):
        spec.load()().fit(X, Y, validation=(X, Y[:, :3]))


@pytest.mark.parametrize("spec", [spec for spec in TAKING if spec.streams])
def test_rows_that_stay_in_their_file_and_views_of_an_image(spec: Any) -> None:
    X, Y = make()
    params = {"epochs": 3, "random_state": 0} if spec.name == "dense" else {}
    twice = part(np.repeat(X, 2, axis=0), Y)
    views = Part(X=streamed(twice.X.reshape(300, 2, -1), 2), y=Y, ids=twice.ids, views=2)
    rows, labels = views.xy()
    assert labels.shape == (600, 5)
    head = spec.load()(**params).fit(rows, labels, validation=(rows, labels))
    whole = spec.load()(**params).fit(twice.X, labels)
    found = views.predict_proba(head, 5)
    np.testing.assert_allclose(found, whole.predict_proba(X), atol=3e-3)
    scored = score_rows([head, whole], views)
    assert scored[0] == pytest.approx([score_labels(found, Y).map] * 2, abs=5e-3)


def test_prototype_says_why_it_cannot() -> None:
    with pytest.raises(HeadError, match=r"one label a row.*dense, logistic, path, ridge and knn"):
        PrototypeHead().fit(*make())


def test_logistic_is_scikit_learns_one_vs_rest_and_path_agrees() -> None:
    X, Y = make()
    head = LogisticHead(C=0.5).fit(X, Y)
    rows = head.normalizer_.transform(X)
    known = OneVsRestClassifier(LogisticRegression(C=0.5, max_iter=1000)).fit(rows, Y)
    np.testing.assert_allclose(head.predict_proba(X), known.predict_proba(rows), atol=1e-5)
    assert (head.predict(X) == known.predict(rows)).all()
    assert head.classes_.tolist() == known.classes_.tolist()
    path = PathHead(C=0.5, tol=1e-9).fit(X, Y)
    exact = OneVsRestClassifier(LogisticRegression(C=0.5, max_iter=1000, tol=1e-8)).fit(rows, Y)
    np.testing.assert_allclose(path.predict_proba(X), exact.predict_proba(rows), atol=5e-4)
    grid = PathHead(tol=1e-9).fit_grid(X, Y, [0.01, 0.5])
    np.testing.assert_allclose(grid[1].predict_proba(X), path.predict_proba(X), atol=1e-3)


def test_path_with_fewer_rows_than_features_agrees_too() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 60)).astype(np.float32)
    Y = (X[:, :3] + random.normal(size=(40, 3)) > 0).astype(np.uint8)
    slow, fast = LogisticHead(C=0.1).fit(X, Y), PathHead(C=0.1).fit(X, Y)
    np.testing.assert_allclose(fast.predict_proba(X), slow.predict_proba(X), atol=3e-3)


def test_ridge_is_least_squares_on_both_signs_and_its_folds_are_exact() -> None:
    X, Y = make()
    head = RidgeHead(alpha=0.1).fit(X, Y)
    rows = head.normalizer_.transform(X)
    known = Ridge(alpha=0.1 * len(X)).fit(rows, 4.0 * Y - 2)
    np.testing.assert_allclose(head.decision_function(X), known.predict(rows), atol=1e-5)
    whole = part(X, Y)
    held_out = np.arange(0, 300, 5)
    rest = np.setdiff1d(np.arange(300), held_out)
    (fitted,) = RidgeHead().fit_folds(whole, [(rest, held_out)], [{"alpha": 0.1}]) or []
    alone = RidgeHead(alpha=0.1).fit(X[rest], Y[rest])
    assert fitted[0] is not None
    np.testing.assert_allclose(fitted[0].coef_, alone.coef_, atol=1e-8)


def test_knn_gives_each_label_its_share_of_the_votes() -> None:
    X, Y = make()
    head = KNNHead(k=7, temperature=0.1).fit(X, Y)
    unit = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float64)
    cosines = unit[:5] @ unit.T
    for row, p in zip(cosines, head.predict_proba(X[:5]), strict=True):
        near = np.argsort(-row)[:7]
        weights = np.exp(row[near] / 0.1)
        votes = 7 * (weights @ Y[near] / weights.sum()) + 0.5  # one more vote, undecided
        np.testing.assert_allclose(p, votes / 8, atol=1e-5)


def test_dense_goes_to_the_minimum_of_the_binary_losses() -> None:
    X, Y = make()
    dense = DenseHead(
        optimizer="sgd", lr=0.3, epochs=400, batch_size=300, wd=1e-2, random_state=0
    ).fit(X, Y)  # fmt: skip
    # |coef|^2 wd / 2 a row of the mean loss is scikit-learn's penalty with C = 1 / (wd n)
    known = LogisticHead(C=1 / (1e-2 * 300)).fit(X, Y)
    np.testing.assert_allclose(dense.coef_, known.coef_, atol=2e-3)
    losses = [epoch.train_loss for epoch in dense.history_]
    assert losses[-1] == pytest.approx(score_labels(dense.predict_proba(X), Y).log_loss, rel=1e-5)
    assert losses[0] > losses[-1]
    assert dense.history_[-1].train_top1 is None


def test_another_label_changes_nothing_for_the_others() -> None:
    X, Y = make()
    all_labels = DenseHead(epochs=3, random_state=0).fit(X, Y)
    fewer = DenseHead(epochs=3, random_state=0).fit(X, Y[:, :3])
    np.testing.assert_allclose(all_labels.coef_[:3], fewer.coef_, atol=1e-6)


@needs_mxnet
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_fast_layer_and_the_network_take_the_same_steps(smoothing: float) -> None:
    X, Y = make()
    y, start = Y.astype(np.intp), np.linspace(-1, 1, 5)
    optimizer = checked_optimizer(DenseHead(lr=0.01))
    fast = SoftmaxLayer(
        X, y, n_classes=5, batch_size=64, optimizer=optimizer, smoothing=smoothing, start=start
    )
    general = Network(
        X, y, n_classes=5, shape=Shape(hidden=(), dropout=0.0), batch_size=64, start=start,
        optimizer=optimizer, smoothing=smoothing, weights=np.ones(5),
        random=np.random.RandomState(0),
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(300)
    for layers in (fast, general):
        layers.train_epoch(order, [0.01] * 5)
    for ours, theirs in zip(fast.parameters()[0], general.parameters()[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert fast.evaluate_training(y)[0] == pytest.approx(general.evaluate_training(y)[0])


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd"}, {"label_smoothing": 0.1}])
def test_heads_trained_at_once_are_the_heads_trained_alone(options: Any) -> None:
    X, Y = make()
    head = DenseHead(epochs=4, batch_size=64, random_state=3, **options)
    candidates = [{"lr": 1e-2, "wd": 0.0}, {"lr": 1e-3, "wd": 1e-2}]
    for one, together in zip(candidates, head.fit_candidates(X, Y, candidates), strict=True):
        alone = DenseHead(epochs=4, batch_size=64, random_state=3, **options, **one).fit(X, Y)
        assert together is not None
        scale = np.abs(alone.coef_).max()
        np.testing.assert_allclose(together.coef_, alone.coef_, atol=1e-4 * scale)
        np.testing.assert_allclose(together.intercept_, alone.intercept_, atol=1e-4)


def test_class_weights_count_a_yes_as_often_as_it_is_rare() -> None:
    X, Y = make()
    plain, weighed = (
        DenseHead(epochs=60, lr=0.02, class_weight=w, random_state=0).fit(X, Y)
        for w in (None, "balanced")
    )
    rare = Y.mean(axis=0).argmin()
    recall = [h.predict(X)[Y[:, rare] == 1, rare].mean() for h in (plain, weighed)]
    assert recall[1] > recall[0]
    given = DenseHead(epochs=2, class_weight={0: 3.0}, random_state=0).fit(X, Y)
    other = DenseHead(epochs=2, class_weight={0: 1.0}, random_state=0).fit(X, Y)
    np.testing.assert_allclose(given.coef_[1:], other.coef_[1:], atol=1e-6)
    assert given.intercept_[0] - other.intercept_[0] == pytest.approx(np.log(3), abs=0.1)
    with pytest.raises(HeadError, match="sampling='balanced' draws"):
        DenseHead(sampling="balanced").fit(X, Y)


def test_hidden_layers_and_early_stopping() -> None:
    X, Y = make(200)
    head = DenseHead(hidden="16", dropout=0.1, lr=0.05, epochs=80, patience=3, random_state=0)
    head.fit(X, Y, validation=make(seed=1))
    assert head.best_epoch_ < len(head.history_) < 80
    losses = [epoch.val_loss for epoch in head.history_]
    assert head.best_epoch_ == 1 + int(np.argmin(np.array(losses, float)))


def test_the_best_mean_average_precision_is_chosen() -> None:
    train, val = part(*make()), part(*make(seed=1))
    candidates = [{"alpha": alpha} for alpha in (1e-3, 1e-1, 1e3)]
    found = choose(RidgeHead(), train, val, Search(candidates=candidates))
    expected = [
        np.nanmean(
            average_precisions(RidgeHead(**one).fit(*train.xy()).predict_proba(val.X), val.y)
        )
        for one in candidates
    ]
    assert found.metric == "map"
    np.testing.assert_allclose(found.score, expected, atol=1e-4)
    assert found.chosen == candidates[int(np.argmax(expected))]
    assert found.error is None


def test_ensembles_average_or_vote_label_by_label() -> None:
    X, Y = make()
    members = [RidgeHead().fit(X[rows], Y[rows]) for rows in (slice(0, 150), slice(150, None))]
    average, vote = (EnsembleHead.of(members, how=how) for how in ("average", "vote"))
    p = [member.predict_proba(X) for member in members]
    np.testing.assert_allclose(average.predict_proba(X), (p[0] + p[1]) / 2)
    votes = ((p[0] > 0.5).astype(float) + (p[1] > 0.5)) / 2
    np.testing.assert_allclose(vote.predict_proba(X), votes)
    assert (average.predict(X) == (average.predict_proba(X) > 0.5)).all()
