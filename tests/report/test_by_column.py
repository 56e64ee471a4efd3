"""Figures by the columns of the list: kept with every row of a bench, and on the page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from probe.bench.fitting import _with_columns
from probe.bench.record import Subgroups
from probe.core.plain import from_plain, to_plain
from probe.evaluation.predictions import Predictions
from probe.evaluation.scored import PerClass
from probe.evaluation.task import SINGLE_LABEL
from probe.report.by_column import MOST, by_column
from probe.runs.results import RunResult

TOLD = {
    "split": "val",
    "columns": {
        "<site>": {
            "values": [
                {"value": "Süd", "n": 12, "figure": 0.5, "low": 0.2, "high": 0.8},
                {"value": "<b>", "n": 30, "figure": 0.9, "low": 0.8, "high": 0.95},
            ],
            "shortcut": {"strength": 0.4, "suspected": True, "accuracy": 0.9},
        },
        "year": {
            "values": [{"value": "2020", "n": 9, "figure": 0.4, "low": 0.1, "high": 0.8}] * 25
        },
    },
}


def test_a_row_keeps_them_and_the_page_tells_the_worst_first() -> None:
    groups = Subgroups.of(TOLD)
    assert groups is not None
    assert from_plain(Subgroups, to_plain(groups)) == groups
    assert groups.columns["<site>"].shortcut == 0.4
    assert groups.columns["year"].shortcut is None
    assert [one.figure for _, one in groups.lines][:2] == [0.4, 0.4]
    rows = [SimpleNamespace(id=one, subgroups=groups) for one in ("a", "b")]
    old = SimpleNamespace(id="c", subgroups=None)
    result = SimpleNamespace(subgroups=TOLD)
    material: Any = SimpleNamespace(
        rows=[*rows, old, SimpleNamespace(id="d", subgroups=None)], task=SINGLE_LABEL,
        labels={one: f"row {one}" for one in "abcd"}, runs={"c": SimpleNamespace(result=result)},
    )  # fmt: skip
    text = by_column(material)
    assert text is not None
    assert text.count(">row a</th>") == text.count(">row c</th>") == MOST
    assert "row d" not in text
    assert "<b>" not in text
    assert text.index("2020") < text.index("row a: &lt;site&gt; may be a shortcut")
    assert by_column(SimpleNamespace(**{**vars(material), "rows": [material.rows[-1]]})) is None


def test_a_run_that_is_found_again_gets_the_columns_its_list_has_now(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    names = [f"{number}.png" for number in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    lines = [f"{name},a,{'north' if i % 2 else 'south'}" for i, name in enumerate(names)]
    listed.write_text("image,label,site\n" + "\n".join(lines) + "\n")
    logits = np.log(np.where(np.arange(20)[:, None] % 2 == [0, 1], 0.9, 0.1))
    said = {"val": Predictions.of(names, np.zeros(20, np.int64), logits)}
    result = RunResult(
        command="", entry="", dataset="", backbone="", weights="", layer="", pool="", head="",
        params={}, seed=0, n_train=0, n_val=20, n_test=0, metrics={}, seconds=0, versions={},
        per_class=PerClass(split="val", recall={}), created="",
    )  # fmt: skip
    entry = SimpleNamespace(provenance={"request": {"dataset": str(listed)}})
    splits = {"train": SimpleNamespace(ids=names, columns={})}
    source = cast("Any", SimpleNamespace(entry=entry, splits=splits))
    found = Subgroups.of(_with_columns(result, said, source).subgroups)
    assert found is not None
    worst, best = found.columns["site"].values
    assert (worst.value, worst.figure, best.figure) == ("north", 0, 1)
