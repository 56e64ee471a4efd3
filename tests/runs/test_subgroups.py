"""Figures by a list's columns, and columns that features give away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import contingency

from probe.core.columns import Column
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.statistics import share_interval
from probe.runs.subgroups import by_value, columns_to_tell, describe, shortcut


def said(y: NDArray[np.intp], right: NDArray[np.bool_]) -> Predictions:
    p = np.zeros((len(y), 2), np.float32)
    p[np.arange(len(y)), np.where(right, y, 1 - y)] = 1
    ids = np.array([f"i{row}" for row in range(len(y))])
    return Predictions(ids=ids, labels=y.astype(np.int64), probabilities=p)


def test_each_value_has_its_figure_the_worst_first() -> None:
    random = np.random.default_rng(0)
    y, camera = random.integers(0, 2, 90), np.array(["a", "b", "c"])[random.integers(0, 3, 90)]
    right = random.random(90) < np.where(camera == "b", 0.3, 0.9)
    values = Column.of([*camera[:80].tolist(), *[""] * 10])
    found = by_value(said(y, right), values)
    assert found[0]["value"] == "b"
    assert [one["figure"] for one in found] == sorted(one["figure"] for one in found)
    for one in found:
        rows = np.flatnonzero(np.array([value == one["value"] for value in values]))
        assert one["n"] == len(rows)
        assert one["figure"] == pytest.approx(right[rows].mean())
        interval = share_interval(right[rows])
        assert (one["low"], one["high"]) == (interval.low, interval.high)


def test_repeats_are_no_more_images() -> None:
    y, right = np.arange(24) % 2, np.arange(24) % 3 > 0
    site = ["a"] * 20 + ["b"] * 4  # b has fewer images than are told of
    once = by_value(said(y, right), Column.of(site))
    ids, rows = np.tile(said(y, right).ids, 3), np.tile(np.arange(24), 3)
    all_of = replace(said(y[rows], right[rows]), ids=ids, units=rows, repeats=3)
    (thrice,) = by_value(all_of, Column.of(site * 3))
    assert [one["value"] for one in once] == ["a"]
    assert thrice["n"] == once[0]["n"] == 20
    assert thrice["figure"] == pytest.approx(once[0]["figure"])
    assert thrice["low"] == pytest.approx(once[0]["low"], abs=0.03)


def test_columns_of_few_values_are_told_of_and_numbers_in_quarters() -> None:
    rows = range(80)
    columns = {
        "camera": ["ab"[row % 2] for row in rows],
        "age": [str(20 + row) for row in rows],
        "name": [f"n{row}" for row in rows],
        "same": ["x" for row in rows],
        "rare": ["x" if row else "y" for row in rows],
        "blank": ["" for row in rows],
    }
    divided = {
        "train": {name: cells[:50] for name, cells in columns.items()},
        "test": {name: cells[50:] for name, cells in columns.items()},
    }
    found = columns_to_tell(divided, {"train": ["i"] * 50, "test": ["i"] * 30})
    assert [sorted(one) for one in found.values()] == [["age", "camera"]] * 2
    ages = [*found["train"]["age"], *found["test"]["age"]]
    assert (ages[0], ages[79], found["test"]["age"][0]) == ("20 to 39.75", "79.25 to 99", ages[50])
    quarters, counts = np.unique(ages, return_counts=True)
    assert list(found["train"]["age"].values) == [*quarters.tolist(), ""]  # in their order
    assert quarters.tolist() == ["20 to 39.75", "39.75 to 59.5", "59.5 to 79.25", "79.25 to 99"]
    assert counts.tolist() == [20, 20, 20, 20]


def test_values_that_only_other_rows_have_do_not_count() -> None:
    names = Column.of([f"n{row}" for row in range(200)] + ["a", "b"] * 40)
    few = names.take(np.arange(200, 280))
    assert columns_to_tell({"test": {"who": few}}, {"test": ["i"] * 80}) == {"test": {"who": few}}
    assert columns_to_tell({"test": {"who": names}}, {"test": ["i"] * 280}) == {"test": {}}


def tinted(agree: float, seed: int = 0) -> tuple[Part, Column]:
    """Return features of four classes, and a tint that goes with the label at that rate."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, 240)
    tint = np.where(random.random(240) < agree, y, random.integers(0, 2, 240))
    X = random.normal(size=(240, 40))
    X[:, 0] += 2 * y
    X[:, 1] += 4 * tint
    part = Part(X=X.astype(np.float32), y=y, ids=[f"i{row}" for row in range(240)])
    return part, Column.of(tint.astype(str).tolist())


def test_tints_are_ranked_by_how_far_they_go_with_the_label() -> None:
    found = [shortcut(*tinted(agree)) for agree in (0.1, 0.5, 1.0)]
    strengths = [one.strength for one in found if one is not None]
    assert strengths == sorted(strengths)
    assert strengths[2] > 2 * strengths[0]
    assert found[1] is not None
    assert found[2] is not None
    assert found[1].suspected
    assert found[2].suspected
    assert found[2].accuracy > 0.9
    part, tint = tinted(0.5)
    table = contingency.crosstab(part.y, list(tint)).count
    expected = contingency.association(table, method="cramer")
    assert found[1].association == pytest.approx(expected)


def test_a_column_at_random_is_seldom_suspected() -> None:
    def suspected(seed: int) -> bool:
        part, _ = tinted(0.5, seed)
        values = np.random.default_rng(seed + 99).integers(0, 3, 240).astype(str).tolist()
        found = shortcut(part, Column.of(values), seed=seed)
        assert found is not None
        return found.suspected

    assert sum(suspected(seed) for seed in range(12)) == 0


def test_what_belongs_together_is_permuted_together() -> None:
    random = np.random.default_rng(3)
    units = np.repeat(np.arange(30), 8)
    X = random.normal(size=(30, 20))[units] + 0.01 * random.normal(size=(240, 20))
    values = Column.of(random.integers(0, 2, 30)[units].astype(str).tolist())
    y = random.integers(0, 2, 240)
    ids = [str(row) for row in range(240)]
    alone = shortcut(Part(X=X, y=y, ids=ids), values)
    grouped = shortcut(Part(X=X, y=y, ids=ids, units=units), values)
    assert alone is not None
    assert grouped is not None
    assert alone.p_features <= 0.05  # each picture is known by heart
    assert grouped.p_features > 0.05


def test_a_run_describes_what_it_has(tmp_path: object) -> None:
    part, tint = tinted(1.0)
    kept = said(part.y, np.ones(240, bool))
    found = describe(kept, "val", {"tint": tint}, part, {"tint": tint})
    assert found is not None
    assert found["split"] == "val"
    assert found["columns"]["tint"]["shortcut"]["suspected"]
    assert [one["n"] for one in found["columns"]["tint"]["values"]] == [
        int((np.array(tint) == name).sum()) for name in ("0", "1")
    ]
    assert describe(kept, "val", {}, part, {}) is None
