"""Choosing by another figure than top-1, against scikit-learn on every candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from probe.cli.head_figures import about_run
from probe.errors import UsageError
from probe.evaluation.parts import Part
from probe.evaluation.splitting import fold_split
from probe.heads import RidgeHead
from probe.heads.grid import CHOICE_METRICS, Search, choose
from probe.runs.fit import HeadRequest, fit_head, plan_head
from tests import fakes


def auc(y: Any, p: Any) -> float:
    if p.shape[1] == 2:
        return float(sk.roc_auc_score(y, p[:, 1]))
    return float(sk.roc_auc_score(y, p, multi_class="ovr"))


EXPECTED: dict[str, Callable[[Any, Any], float]] = {
    "top1": lambda y, p: float(sk.accuracy_score(y, p.argmax(1))),
    "balanced_accuracy": lambda y, p: float(sk.balanced_accuracy_score(y, p.argmax(1))),
    "macro_f1": lambda y, p: float(sk.f1_score(y, p.argmax(1), average="macro")),
    "auc": auc,
    "log_loss": lambda y, p: float(sk.log_loss(y, p)),
}
CANDIDATES = [{"alpha": alpha} for alpha in (1e-3, 0.1, 1.0, 30.0)]


def rows(seed: int, n: int = 240, n_classes: int = 3) -> Part:
    random = np.random.default_rng(seed)
    y = random.choice(n_classes, n, p=[0.8, 0.2] if n_classes == 2 else [0.7, 0.2, 0.1])
    X = random.normal(0, 1, (n, 20)) + np.eye(3, 20)[y] * 1.2
    return Part(X=X.astype(np.float32), y=y.astype(np.int32), ids=[str(i) for i in range(n)])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("metric", CHOICE_METRICS)
def test_every_candidate_has_scikit_learns_figure_and_the_best_is_taken(
    metric: str, n_classes: int
) -> None:
    train, val = rows(0, n_classes=n_classes), rows(1, n_classes=n_classes)
    found = choose(RidgeHead(), train, val, Search(candidates=CANDIDATES, metric=metric))
    expected = []
    for candidate in CANDIDATES:
        head = RidgeHead(**candidate).fit(train.X, train.y)
        expected.append(EXPECTED[metric](val.y, head.predict_proba(val.X).astype(np.float64)))
    np.testing.assert_allclose(found.score, expected, atol=1e-5)
    assert found.metric == metric
    if metric != "top1":  # which has a standard error on one split
        assert found.best == int(
            np.argmin(expected) if metric == "log_loss" else np.argmax(expected)
        )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc"])
def test_over_folds_it_is_the_mean_of_the_folds(metric: str) -> None:
    train = rows(0)
    folds = fold_split(train.y, 3, 0)
    found = choose(
        RidgeHead(), train, None,
        Search(candidates=[{"alpha": 0.1}, {"alpha": 1e3}], folds=folds, metric=metric),
    )  # fmt: skip
    for place, alpha in enumerate((0.1, 1e3)):
        each = []
        for own, held_out in folds:
            head = RidgeHead(alpha=alpha).fit(train.X[own], train.y[own])
            p = head.predict_proba(train.X[held_out]).astype(np.float64)
            each.append(EXPECTED[metric](train.y[held_out], p / p.sum(1, keepdims=True)))
        assert found.score[place] == pytest.approx(np.mean(each), abs=1e-5)


def test_rows_of_one_class_have_no_area() -> None:
    val = rows(1)
    one = val.take(np.flatnonzero(val.y == 0))
    with pytest.raises(UsageError, match="all of one class"):
        choose(RidgeHead(), rows(0), one, Search(candidates=CANDIDATES, metric="auc"))


def data() -> Any:
    parts = {"train": rows(0), "test": rows(1)}
    return fakes.joined({name: (one.X, one.y) for name, one in parts.items()}, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("metric", "words"), [("log_loss", "log loss 0."), ("macro_f1", "macro F1 "), ("auc", "AUC ")]
)
def test_a_run_says_what_decided(metric: str, words: str) -> None:
    joined = data()
    asked = HeadRequest(solver="path", grids={"C": (1e-3, 1.0)}, metric=metric)
    result = fit_head(joined, asked, plan_head(joined, asked)).result
    assert result.selection is not None
    assert result.selection["metric"] == metric
    place = result.selection["values"].index(result.selection["chosen"])
    figure = result.selection[metric][place]
    told = about_run(result)["chosen"]
    assert words in told
    assert (f"{figure:.4f}" if metric == "log_loss" else f"{100 * figure:.2f} %") in told


def test_where_nothing_is_chosen_or_nobody_knows_the_metric_it_is_refused() -> None:
    for more, words in (
        ({"metric": "auc"}, "nothing is chosen"),
        ({"metric": "recall", "grid": True}, "one of top1, balanced_accuracy"),
    ):
        joined, asked = data(), HeadRequest(solver="path", **more)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=words):
            fit_head(joined, asked, plan_head(joined, asked))
