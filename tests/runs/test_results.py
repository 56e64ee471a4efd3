from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.bench.find import find_run
from probe.core.run_folders import OUTSIDE, new_run_folder, note_outside_run, outside_runs
from probe.engines import engine_is_installed
from probe.errors import DataError, UnknownNameError
from probe.evaluation.scored import PerClass
from probe.runs.results import OPTIONAL, RunResult, read_run, versions, write_run

RESULT = RunResult(
    command="probe head --epochs 50",
    entry="0123abcd",
    dataset="cifar10",
    backbone="vgg16",
    weights="vgg16.keras_notop",
    layer="pool5",
    pool="avg",
    head="dense",
    params={"epochs": 50, "lr": None, "optimizer": "adam", "wd": 0.0},
    seed=42,
    n_train=35_000,
    n_val=15_000,
    n_test=0,
    metrics={"train": {"top1": 0.1 + 0.2, "log_loss": 1 / 3}, "val": {"top1": 0.5}},
    per_class=PerClass(split="val", recall={"cat": 0.25, "Hündin 犬": 1.0}),
    seconds=2.5,
    versions={"numpy": "1.26.4"},
    created="2026-01-31T23:59:59+00:00",
)


def test_a_result_reads_back_exactly(tmp_path: Path) -> None:
    write_run(tmp_path, RESULT)
    assert read_run(tmp_path) == RESULT


def test_what_later_versions_measure_reads_back_and_is_absent_where_it_was_not() -> None:
    more = replace(
        RESULT,
        selection={"by": "validation", "penalty": "C", "values": [0.1, 1.0], "chosen": 0.1},
        intervals={"val": {"top1": (0.4, 0.6)}},
        temperature=1.5,
        test_looks=2,
    )
    assert RunResult.from_dict(json.loads(json.dumps(more.to_dict()))) == more
    assert not set(RESULT.to_dict()) & set(OPTIONAL)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_json(value: float) -> None:
    result = replace(RESULT, seconds=value)
    assert RunResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_json_has_the_fields_in_the_designs_order() -> None:
    assert list(RESULT.to_dict()) == [
        "schema", "command", "entry", "dataset", "backbone", "weights", "layer", "pool", "head",
        "params", "seed", "n_train", "n_val", "n_test", "metrics", "per_class", "seconds",
        "versions", "created",
    ]  # fmt: skip


def test_a_number_that_was_not_measured_cannot_be_written_as_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_run(tmp_path, replace(RESULT, metrics={"val": {"top1": float("nan")}}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [field.name for field in fields(RunResult) if field.name not in OPTIONAL]
)
def test_a_missing_field_is_named(name: str, tmp_path: Path) -> None:
    data = RESULT.to_dict()
    del data[name]
    (tmp_path / "result.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=rf"result\.json.*{name}"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": "many"}, "n_train is 'many'"),
        ({"seed": True}, "seed is True"),
        ({"metrics": {"val": {"top1": "0.5"}}}, "metrics.val.top1"),
        ({"metrics": {"val": 0.5}}, "metrics.val"),
        ({"per_class": {"split": "val"}}, "per_class.recall is missing"),
        ({"params": {"lr": []}}, "params.lr"),
        ({"schema": 99}, "schema is 99, this version reads 1"),
        ({"extra": 1}, "extra is not a field"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT.to_dict() | change))
    with pytest.raises(DataError, match=message):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_is_no_result_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match="not a result") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_result_did_not_finish(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did not finish"):
        read_run(tmp_path)


def test_folders_made_at_once_differ_and_sort_by_the_time_they_were_made(tmp_path: Path) -> None:
    one_by_one = [new_run_folder(tmp_path / "runs").name for _ in range(5)]
    assert one_by_one == sorted(one_by_one)
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda _: new_run_folder(tmp_path / "runs"), range(40)))
    assert len({*at_once}) == 40
    assert all(folder.is_dir() for folder in at_once)


def test_runs_elsewhere_are_noted_once_and_rubbish_among_the_notes_is_passed_over(
    tmp_path: Path,
) -> None:
    runs, odd = tmp_path / "cache" / "runs", tmp_path / os.fsdecode(b"a\nb\xff")
    assert outside_runs(runs) == []
    for folder in (runs / "20260101-000000-001", odd, tmp_path / "b", odd):
        note_outside_run(folder, runs)
    assert outside_runs(runs) == [odd, tmp_path / "b"]
    with (runs / OUTSIDE).open("ab") as file:
        file.write(b'[1]\n"a\\u0000"\n\xff\n' + 100_000 * b"[" + b'\n"/cut sh')
    note_outside_run(tmp_path / "c", runs)
    assert outside_runs(runs) == [odd, tmp_path / "b", tmp_path / "c"]


def test_a_run_elsewhere_needs_no_state_folder_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    note_outside_run(Path("/a/run"), tmp_path / "cache" / "runs")
    assert outside_runs(tmp_path / "cache" / "runs") == []


def test_versions_say_what_moved_the_numbers() -> None:
    assert {"python", "numpy", "scikit-learn"} <= versions().keys()
    assert ("mxnet" in versions()) == engine_is_installed("mxnet")


def test_a_run_is_found_by_path_or_name(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path / "runs")
    assert find_run(tmp_path / "runs", Path(folder.name)) == folder
    assert find_run(tmp_path / "elsewhere", folder) == folder
    with pytest.raises(UnknownNameError, match="nope: no such folder, and no such run in"):
        find_run(tmp_path / "runs", Path("nope"))


def test_a_run_is_found_by_the_beginning_of_its_name_unless_several_begin_so(
    tmp_path: Path,
) -> None:
    for name in ("20260101-000000-001", "20260101-000000-002", "20270101-000000-001", "[x]"):
        (tmp_path / name).mkdir()
    assert find_run(tmp_path, Path("2027")).name == "20270101-000000-001"
    assert find_run(tmp_path, Path("[x")).name == "[x]"
    with pytest.raises(UnknownNameError, match=r"more than one run in .* starts with 2026: .*-001"):
        find_run(tmp_path, Path("2026"))
