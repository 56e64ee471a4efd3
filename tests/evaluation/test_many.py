"""Rows of many classes: a part of the scores is kept, and every figure is that of all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.errors import DataError
from probe.evaluation import many
from probe.evaluation.metrics import score
from probe.evaluation.parts import HeadData, Part
from probe.evaluation.predictions import load_predictions, save_predictions
from probe.evaluation.scored import Scored
from probe.heads import KNNHead, PrototypeHead, RidgeHead
from probe.heads import checks as one_hot
from probe.heads.grid import Search
from probe.report.analysis import _view
from probe.runs.results import FeatureSource
from probe.runs.selection import HeadRun, run_head

N_CLASSES, DIM = 40, 12
SOURCE = FeatureSource(entry="e", dataset="d", backbone="b", weights="w", layer="l", pool="p")


def part(seed: int, each: int) -> Part:
    centres = np.random.default_rng(0).normal(size=(N_CLASSES, DIM))
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(N_CLASSES), each)
    X = centres[y] + 1.2 * random.normal(size=(len(y), DIM))
    return Part(X=X.astype(np.float32), y=y, ids=[f"{seed}/{i}" for i in range(len(y))])


def fitted(head: object, folds: bool = False) -> HeadRun:
    train, search = part(1, 6), None
    if folds:
        numbers = np.arange(len(train))
        pairs = [(numbers[numbers % 2 != i], numbers[numbers % 2 == i]) for i in (0, 1)] * 2
        search = Search(candidates=[{}], folds=pairs)
    data = HeadData(
        train=train, val=None if folds else part(2, 4), test=part(3, 5),
        classes=tuple(str(i) for i in range(N_CLASSES)),
    )  # fmt: skip
    return run_head(
        data,
        head,
        name="x",
        source=SOURCE,
        command="",
        seed=0,
        search=search,  # type: ignore[arg-type]
    )


@pytest.fixture
def all_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MANY", 5)
    monkeypatch.setattr(many, "MOST", 100)
    monkeypatch.setattr("probe.evaluation.parts.BLOCK", 37 * N_CLASSES)


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize(
    "head", [PrototypeHead(), RidgeHead(), KNNHead()], ids=["lda", "ridge", "knn"]
)
def test_figures_are_those_of_all_scores(
    head: object, folds: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from sklearn.base import clone

    whole = fitted(clone(head), folds)
    request.getfixturevalue("all_are_many")
    some = fitted(clone(head), folds)

    for split, figures in whole.result.metrics.items():
        found = some.result.metrics[split]
        assert found.keys() == figures.keys() - {"macro_auc"}
        for name in found:
            assert found[name] == pytest.approx(figures[name], rel=1e-9, abs=1e-12), (split, name)
    assert some.result.per_class == whole.result.per_class
    assert some.result.temperature == pytest.approx(whole.result.temperature, rel=1e-6)
    for split, bounds in (whole.result.intervals or {}).items():
        for name, bound in bounds.items():
            assert (some.result.intervals or {})[split][name] == pytest.approx(bound)

    save_predictions(tmp_path, some.predictions)
    kept = load_predictions(tmp_path)
    for split, said in whole.predictions.items():
        one = kept[split]
        assert one.probabilities.shape == (len(said), many.KEPT)
        np.testing.assert_array_equal(one.answers, said.answers)
        np.testing.assert_array_equal(one.right, said.right)
        own = np.take_along_axis(one.scores, one.label_columns[:, None], axis=1)[:, 0]
        real = np.take_along_axis(said.scores, said.labels[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(own, real)
        np.testing.assert_allclose(
            one.probabilities,
            np.take_along_axis(said.probabilities, np.asarray(one.classes, np.intp), axis=1),
        )
        a = _view(split, one, some.result)
        b = _view(split, said, whole.result)
        np.testing.assert_array_equal(a.worst, b.worst)
        np.testing.assert_array_equal(a.evidence.right, b.evidence.right)
        assert a.after is not None
        assert b.after is not None
        np.testing.assert_allclose(a.after.confidence, b.after.confidence, rtol=1e-6)


def test_equal_scores_are_answered_by_the_first_class_and_counted_alike(
    all_are_many: None,
) -> None:
    p = np.full((7, N_CLASSES), 1 / N_CLASSES)
    labels = np.array([0, 1, 5, 20, 30, 38, 39])
    kept = many.keep(lambda: [(np.arange(7), np.log(p))], labels, N_CLASSES)
    assert kept.classes[:, 0].tolist() == [0] * 7
    figures = kept.metrics(labels, slice(None))
    assert figures.top1 == pytest.approx(1 / 7)
    assert figures.top5 == pytest.approx(5 / N_CLASSES)
    assert (np.take_along_axis(kept.classes, kept.own[:, None], axis=1)[:, 0] == labels).all()


def test_damaged_classes_are_refused(all_are_many: None, tmp_path: Path) -> None:
    said = fitted(PrototypeHead()).predictions["val"]
    assert said.classes is not None
    for damaged in (
        replace(said, classes=said.classes + N_CLASSES),
        replace(said, classes=said.classes[:, :5]),
        replace(said, classes=(said.classes * 0 + (said.labels[:, None] + 1) % N_CLASSES)),
        replace(said, scaled=np.full(len(said), np.nan)),
    ):
        save_predictions(tmp_path, {"val": damaged})
        with pytest.raises(DataError, match="damaged"):
            load_predictions(tmp_path)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 2 * 5)], ids=["rows", "features"])
def test_sparse_targets_solve_the_same(rows: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = part(1, 2)
    X, y = whole.X[rows], whole.y[rows]  # fewer rows than features, too
    heads = [RidgeHead().fit(X, y), PrototypeHead().fit(X, y)]
    monkeypatch.setattr(one_hot, "MANY", 2)
    for head, again in zip(heads, [RidgeHead().fit(X, y), PrototypeHead().fit(X, y)], strict=True):
        np.testing.assert_allclose(head.coef_, again.coef_, atol=1e-10)
        np.testing.assert_allclose(head.intercept_, again.intercept_, atol=1e-10)


def test_many_classes_hold_no_row_of_all(all_are_many: None) -> None:
    from probe.runs.selection import _score

    one: Scored = _score(part(3, 5), PrototypeHead().fit(*part(1, 6).xy()), N_CLASSES)
    assert one.probabilities.shape == (200, many.KEPT)


def test_path_ends_at_the_same_minimum_without_a_matrix_of_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from probe.heads import path, products
    from probe.heads import path as whitened

    train = part(1, 6)
    X, C = np.asarray(train.X - train.X.mean(axis=0)), [1e-3, 0.1, 10.0]
    whole = path.fit_path(X, train.y, N_CLASSES, C)
    for module in (path, products, whitened):
        monkeypatch.setattr(module, "MANY", 5)
    monkeypatch.setattr(products, "SCORES", 37 * N_CLASSES)
    monkeypatch.setattr(path, "HELD_BYTES", 8 * N_CLASSES * (DIM + 1) * 30)
    assert path.pairs_held(products.Rows(X=X, y=train.y, n_classes=N_CLASSES)) == 9
    monkeypatch.setattr(whitened, "class_curvature", None)  # of classes times classes
    some = path.fit_path(X, train.y, N_CLASSES, C)
    assert some.converged.all()
    # each ends within 25 times 4e-7 of the minimum at the most
    np.testing.assert_allclose(some.objective, whole.objective, rtol=2e-5)


def test_a_learning_curve_has_the_figures_of_all_scores(
    all_are_many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.runs import draws

    head, scored = PrototypeHead().fit(*part(1, 6).xy()), part(3, 5)
    some = draws._figures(head, scored, N_CLASSES)
    monkeypatch.setattr(many, "are_many", lambda *_: False)
    whole = draws._figures(head, scored, N_CLASSES)
    assert some.macro_auc is None
    for name in ("top1", "mean_recall", "log_loss"):
        assert getattr(some, name) == pytest.approx(getattr(whole, name), rel=1e-12)


def test_a_choice_by_another_metric_goes_through_some_rows_at_a_time(all_are_many: None) -> None:
    from probe.errors import UsageError
    from probe.heads import grid

    heads, scored = [RidgeHead(alpha=a).fit(*part(1, 6).xy()) for a in (1.0, 1e4)], part(3, 5)
    found = grid._decisive(heads, scored, "macro_f1", np.zeros(2))
    whole = [
        score(np.exp(logits), scored.y, N_CLASSES, logits).macro_f1
        for logits in (scored.predict_logits(head, N_CLASSES) for head in heads)
    ]
    np.testing.assert_allclose(found, whole)
    with pytest.raises(UsageError, match="200 rows of 40 classes are too many"):
        grid._decisive(heads, scored, "auc", np.zeros(2))


def test_a_bundle_is_scored_while_it_answers(
    all_are_many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.predict import evaluate

    head, scored = PrototypeHead().fit(*part(1, 6).xy()), part(3, 5)
    p = scored.predict_proba(head, N_CLASSES)
    blocks = [np.arange(start, min(start + 64, 200)) for start in range(0, 200, 64)]
    some = evaluate._scored(lambda: ((rows, p[rows]) for rows in blocks), scored.y, N_CLASSES)
    monkeypatch.setattr(many, "are_many", lambda *_: False)
    whole = evaluate._scored(lambda: ((rows, p[rows]) for rows in blocks), scored.y, N_CLASSES)
    assert some.probabilities.shape == (200, many.KEPT)
    for name in ("top1", "top5", "mean_recall", "macro_f1", "log_loss", "calibration_error"):
        assert getattr(some.metrics, name) == pytest.approx(getattr(whole.metrics, name), rel=1e-9)


def test_fits_of_many_classes_say_what_they_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from probe.heads import path
    from probe.heads.polish import polish_for

    path._say_how_long(45, 1000, 10**6, 512)
    path._say_how_long(1, 1001, 1000, 16)
    assert not caplog.text
    path._say_how_long(45, 8142, 16284, 64)
    assert "45 values of C on 16,284 rows of 8,142 classes may take some 48 minutes" in caplog.text
    rows = np.random.default_rng(0).normal(size=(2100, 3)) * [1, 1e3, 1e6]
    head = RidgeHead(normalize="none").fit(rows, np.arange(2100) % 7)
    assert polish_for(rows, head.normalizer_, "path", 7) is not None
    assert polish_for(rows, head.normalizer_, "path", 9000) is None
