"""`bench.json` there and back, and what a damaged one says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from probe.bench.record import (
    FILE_NAME,
    Bench,
    Comparison,
    Cost,
    Protocol,
    Row,
    Score,
    load_bench,
    newest_bench,
    save_bench,
)
from probe.core.records import write_record
from probe.errors import DataError
from probe.evaluation.pairs import Pair

ROW = Row(
    id="r01", dataset="d", name="vgg16/pool5@32", kind="backbone", head="path", status="done",
    backbone="vgg16", weights="w", layer="pool5", pool="avg", entries=("e",), run="run",
    metrics={"val": {"top1": 0.5}}, intervals={"val": {"top1": (0.4, 0.6)}}, rank=1, letters="a",
    cost=Cost(parameters=3, head_seconds=0.5),
)  # fmt: skip
PAIR = Pair(
    a="r01", b="r02", n=10, only_a=2, only_b=1, difference=0.1, low=-0.2, high=0.4, p=1.0,
    p_adjusted=1.0, different=False,
)  # fmt: skip
BENCH = Bench(
    id="b", command="probe bench", created="2026-01-31T23:59:59+00:00", seconds=1.0,
    protocol=Protocol(heads=("path",), split="val", val_size=0.3, folds=0, repeats=1, seed=42),
    rows=(ROW,), versions={"probe": "0"},
    comparisons=(
        Comparison(
            dataset="d", n_classes=2, images={"train": 9}, rows=("r01",), pairs=(PAIR,),
            tied=("r01",), verdict="Take it.", winner="r01", agreement=(),
            scores=(Score(name="logme", features=ROW.name, value=-1.5, seconds=0.1, n_rows=9),),
        ),
    ),
)  # fmt: skip


def test_a_bench_reads_back_as_it_was(tmp_path: Path) -> None:
    save_bench(tmp_path, BENCH)
    assert load_bench(tmp_path) == BENCH
    assert BENCH.row("r01") is ROW


def test_what_was_not_measured_is_absent(tmp_path: Path) -> None:
    data = json.loads(save_bench(tmp_path, BENCH).read_text())
    assert data["rows"][0]["cost"] == {"parameters": 3, "head_seconds": 0.5}
    assert "reason" not in data["rows"][0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data["rows"][0].pop("name"), r"rows\[0\]\.name is missing"),
        (lambda data: data["rows"][0].update(rank="1"), r"rows\[0\]\.rank is '1', not int"),
        (lambda data: data["rows"][0].update(x=1), r"rows\[0\]\.x is not a field"),
        (lambda data: data["protocol"].update(folds=True), r"protocol\.folds is True, not int"),
        (
            lambda data: data["rows"][0]["intervals"]["val"].update(top1=[0.4]),
            r"rows\[0\]\.intervals\.val\.top1 is \[0\.4\], not a list of 2",
        ),
        (lambda data: data["comparisons"][0].update(pairs={}), "pairs is {}, not a list"),
        (lambda data: data.update(schema=2), "schema is 2, this version reads 1"),
    ],
)
def test_a_damaged_bench_names_the_field(tmp_path: Path, damage: object, message: str) -> None:
    path = save_bench(tmp_path, BENCH)
    data = json.loads(path.read_text())
    damage(data)  # type: ignore[operator]
    write_record(path, data)
    with pytest.raises(DataError, match=message):
        load_bench(tmp_path)


def test_a_figure_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    bad = replace(BENCH, seconds=float("nan"))
    with pytest.raises(ValueError, match="no JSON number"):
        save_bench(tmp_path, bad)
    assert not (tmp_path / FILE_NAME).exists()


def test_the_newest_whole_bench_is_found(tmp_path: Path) -> None:
    assert newest_bench(tmp_path) is None
    for name in ("1", "2"):
        save_bench(tmp_path / name, replace(BENCH, id=name))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / FILE_NAME).write_text("{")
    found = newest_bench(tmp_path)
    assert found is not None
    assert found.id == "2"
