"""Every head of the catalog keeps scikit-learn's rules and the interface of BaseHead."""

from __future__ import annotations

import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from probe.errors import HeadError
from probe.heads import HEADS, BaseHead, HeadSpec, LinearHead
from tests.heads.data import make_features

each_head = pytest.mark.parametrize("spec", list(HEADS.values()), ids=list(HEADS))
LINEAR = [spec for spec in HEADS.values() if issubclass(spec.load(), LinearHead)]
each_linear_head = pytest.mark.parametrize("spec", LINEAR, ids=[spec.name for spec in LINEAR])


def learnt(head: BaseHead) -> list[bytes]:
    """Return all that a head learnt, bit by bit."""
    return [name.encode() + array.tobytes() for name, array in head.arrays().items()]


def unfitted(spec: HeadSpec, **params: Any) -> Any:
    """Return a head, with a seed where it takes one."""
    head = spec.load()(**params)
    if "random_state" in head.get_params():
        head.set_params(random_state=0)
    return head


@cache
def plain(name: str) -> Any:
    """Return a head fitted on the usual rows; nobody fits it again."""
    return unfitted(HEADS[name]).fit(*make_features())


@each_head
def test_a_head_keeps_scikit_learns_rules(spec: HeadSpec) -> None:
    head = spec.load()()
    if spec.name == "dense":
        head.set_params(lr=0.1, epochs=20)  # the checks have a few dozen rows
    # rows are float32 and a solver stops when it is near: within 1e-7 two fits do not agree, and
    # test_sample_weight says within what they do
    near = {"check_sample_weight_equivalence_on_dense_data": "equal within 1e-3"}
    results = check_estimator(
        head, on_fail=None, on_skip=None,
        expected_failed_checks=near if spec.name in ("path", "logistic") else None,
    )  # fmt: skip
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 40


@each_linear_head
def test_a_head_learns_what_can_be_learnt(spec: HeadSpec) -> None:
    head = plain(spec.name)
    assert head.coef_.shape == (4, 12)
    assert head.intercept_.shape == (4,)
    assert head.score(*make_features(seed=1)) > 0.85


@each_head
def test_probabilities_sum_to_one_and_agree_with_predictions(spec: HeadSpec) -> None:
    X, y = make_features()
    labels = np.array(["ant", "bee", "cat", "dog"])[y]
    head = unfitted(spec).fit(X, labels)
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (head.classes_[probabilities.argmax(axis=1)] == head.predict(X)).all()
    assert (head.decision_function(X).argmax(axis=1) == probabilities.argmax(axis=1)).all()


@each_linear_head
def test_two_classes_have_one_score_and_two_rows_of_coefficients(spec: HeadSpec) -> None:
    X, y = make_features(n_classes=2)
    head = unfitted(spec).fit(X, y)
    assert head.coef_.shape == (2, 12)
    scores = head.decision_function(X)
    assert scores.shape == (len(X),)
    np.testing.assert_allclose(head.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9)


@each_head
def test_fitting_twice_gives_the_same_bits(spec: HeadSpec) -> None:
    X, y = make_features()
    one, two = (unfitted(spec).fit(X, y, validation=make_features(seed=1)) for _ in range(2))
    assert learnt(one) == learnt(two)
    assert one.history_ == two.history_
    assert learnt(plain(spec.name)) == learnt(one)  # validation only watches


@each_linear_head
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_give_nearly_the_same_head(spec: HeadSpec, dtype: type) -> None:
    X, y = make_features()
    other = unfitted(spec).fit(X.astype(dtype), y)
    np.testing.assert_allclose(other.coef_, plain(spec.name).coef_, atol=5e-3)


@each_head
def test_a_read_only_memory_map_is_fitted_like_an_array(spec: HeadSpec, tmp_path: Path) -> None:
    X, y = make_features()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for normalize in ("standard", "none"):
        head = unfitted(spec, normalize=normalize).fit(mapped, y)
        same = unfitted(spec, normalize=normalize).fit(X, y)
        assert learnt(head) == learnt(same)
        assert head.predict_proba(mapped).tobytes() == same.predict_proba(X).tobytes()
    assert X.flags.writeable


@each_linear_head
def test_features_of_any_scale_and_offset_give_the_same_predictions(spec: HeadSpec) -> None:
    X, y = make_features()
    scale = np.logspace(-3, 3, X.shape[1])
    moved = unfitted(spec).fit(X * scale - 7 * scale, y)
    expected = plain(spec.name).predict_proba(X)
    np.testing.assert_allclose(moved.predict_proba(X * scale - 7 * scale), expected, atol=1e-4)


@each_linear_head
def test_a_constant_feature_changes_nothing(spec: HeadSpec) -> None:
    X, y = make_features()
    wider = np.column_stack([X, np.full(len(X), 0.1, np.float32)])
    head = unfitted(spec).fit(wider, y)
    assert np.abs(head.coef_[:, -1]).max() == 0
    np.testing.assert_allclose(head.coef_[:, :-1], plain(spec.name).coef_, atol=1e-4)


@each_head
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (_with(X, 7, 3, np.nan), y), "NaN: row 7, feature 3"),
        (lambda X, y: (_with(X, 9, 0, np.inf), y), r"inf.*row 9, feature 0"),
        (lambda X, y: (X, np.zeros_like(y)), "one class, 0"),
        (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        (lambda X, y: (X[0], y), "2D array"),
        (lambda X, y: (X, y + 0.5), "label type"),
        (lambda X, y: (X[:0], y[:0]), "0 sample"),
    ],
)
def test_input_that_cannot_be_learnt_is_named_in_one_line(
    spec: HeadSpec, change: Any, message: str
) -> None:
    with pytest.raises(HeadError, match=message) as caught:
        unfitted(spec).fit(*change(*make_features()))
    assert "\n" not in str(caught.value)


@each_head
def test_validation_rows_must_fit_the_training_rows(spec: HeadSpec) -> None:
    X, y = make_features()
    with pytest.raises(HeadError, match="features"):
        unfitted(spec).fit(X, y, validation=(X[:, :3], y))
    with pytest.raises(HeadError, match="labels of shape"):
        unfitted(spec).fit(X, y, validation=(X, y[:3]))


@each_head
def test_an_unknown_choice_names_the_choices(spec: HeadSpec) -> None:
    with pytest.raises(HeadError, match="standard, l2, none"):
        unfitted(spec, normalize="zca").fit(*make_features())


@each_head
def test_l2_normalisation_sees_directions_only(spec: HeadSpec) -> None:
    X, y = make_features()
    head = unfitted(spec, normalize="l2").fit(X, y)
    stretched = X * np.linspace(0.1, 10, len(X), dtype=np.float32)[:, None]
    np.testing.assert_allclose(head.predict_proba(stretched), head.predict_proba(X), atol=1e-6)
    assert np.isfinite(head.predict_proba(np.zeros((1, 12)))).all()


def test_importing_the_heads_loads_neither_mxnet_nor_scikit_learn() -> None:
    code = (
        "import sys, probe.heads, probe.runs.selection\n"
        "import probe.evaluation.metrics, probe.runs.results\n"
        "import probe.figures.curves, probe.figures.confusion\n"
        "assert not {'mxnet', 'sklearn', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _with(X: Any, row: int, column: int, value: float) -> Any:
    changed = X.copy()
    changed[row, column] = value
    return changed


@each_head
def test_validation_rows_are_checked_as_training_rows_are(spec: HeadSpec) -> None:
    X, y = make_features()
    with pytest.raises(HeadError, match="X contains NaN: row 0, feature 0"):
        unfitted(spec).fit(X, y, validation=(np.full_like(X, np.nan), y))
    for labels in (y.astype(str), y.astype(str).astype(object)):
        with pytest.raises(HeadError, match="give both as numbers or both as text"):
            unfitted(spec).fit(X, y, validation=(X, labels))
    unfitted(spec).fit(X, y.astype(str), validation=(X, y.astype(str).astype(object)))


@each_head
@pytest.mark.parametrize("kind", ["standard", "l2", "none"])
@pytest.mark.parametrize(("dtype", "factor"), [(np.float32, 1e19), (np.float64, 1e200)])
def test_features_whose_squares_overflow_are_refused(
    spec: HeadSpec, kind: str, dtype: type, factor: float
) -> None:
    X, y = make_features()
    with pytest.raises(HeadError, match="squares of features overflow: divide all features"):
        unfitted(spec, normalize=kind).fit(X.astype(dtype) * dtype(factor), y)


@each_head
def test_the_largest_features_that_are_taken_do_not_overflow(spec: HeadSpec) -> None:
    X, y = make_features()
    head = unfitted(spec, normalize="standard").fit(X / np.abs(X).max() * np.float32(9e14), y)
    assert head.score(X / np.abs(X).max() * np.float32(9e14), y) > 0.5


@each_head
def test_what_is_declared_of_a_head_holds_for_its_class(spec: type[HeadSpec]) -> None:
    head, fitted_by = spec.load(), inspect.signature(spec.load().fit).parameters
    defaults = head().get_params()
    assert issubclass(head, spec)
    for option in spec.options:
        default = defaults[option.name]
        if isinstance(default, int | float):
            assert option.kind(option.default) == default
        elif option.choices and default is not None and not option.meaning:
            assert default == option.default
            for choice in option.choices:
                head(**{option.name: choice}).check_params()
        for value in option.grid_values()[:: max(1, len(option.grid_values()) - 1)]:
            head(**{option.name: value}).check_params()
        if option.low is not None:
            head(**{option.name: option.kind(option.low)}).check_params()
            with pytest.raises(HeadError):
                head(**{option.name: option.kind(option.low - 1)}).check_params()
    assert spec.seeded == ("random_state" in defaults)
    assert spec.takes_weights == ("sample_weight" in fitted_by)
    assert spec.together is None or spec.together in spec.grids()
