"""One reader and one writer for every JSON file of ours, and what is said of one that is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from probe.audit.record import load_audit
from probe.bench.record import load_bench
from probe.core.plain import from_plain
from probe.core.records import read_record, write_record
from probe.errors import DataError, ProbeError
from probe.evaluation.learning_curve import load_learning_curve
from probe.finetune.request import FILE_NAME, PromoteRequest
from probe.runs.results import read_run
from probe.weights.known import recorded_answers


@dataclass(frozen=True)
class Thing:
    """A record."""

    name: str
    share: float
    more: dict[str, int | str] = field(default_factory=dict)
    maybe: str | None = None


RECORDS: dict[str, Callable[[Path], Any]] = {
    "result.json": read_run,
    "bench.json": load_bench,
    "audit.json": load_audit,
    "learning_curve.json": load_learning_curve,
    FILE_NAME: PromoteRequest.read,
    "weights/known.json": recorded_answers,
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 99}', "a newer probe wrote it, so update"),
        ('{"schema": "x"}', "schema is 'x', this version reads 1"),
        ("{}", "schema is missing"),
        ("[1]", "not a JSON object"),
        ('{"schema": 1, "cut', "Unterminated string"),
        ('{"schema": 1}', "missing"),
    ],
)
def test_what_is_wrong_with_a_record_is_one_line_with_its_path(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(ProbeError) as caught:
        RECORDS[name](tmp_path)
    message = str(caught.value)
    assert str(path) in message
    assert said in message
    assert "\n" not in message


def test_what_was_written_is_read_and_fields_that_may_be_absent_are(tmp_path: Path) -> None:
    path, build = tmp_path / "thing.json", partial(from_plain, Thing)
    write_record(path, {"name": "é", "share": 1, "more": {"a": 1, "b": "x"}})
    assert read_record(path, "a thing", build) == Thing("é", 1.0, {"a": 1, "b": "x"})
    write_record(path, {"name": "a", "share": 0.5}, indent=None)
    assert read_record(path, "a thing", build) == Thing("a", 0.5)
    assert path.read_text().startswith('{"name": "a", "share": 0.5, ')
    with pytest.raises(ValueError, match="JSON"):
        write_record(path, {"share": float("nan")})
    assert json.loads(path.read_text())["share"] == 0.5


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"name": "a"}, "not a thing: share is missing; make it anew"),
        ({"name": "a", "share": 1, "new": 2}, "new is not a field that this version knows"),
        ({"name": "a", "share": "1"}, "share is '1', not float"),
        ({"name": "a", "share": 1, "more": {"b": [1]}}, r"more.b is \[1\], not int or str"),
    ],
)
def test_a_wrong_field_is_named(plain: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_record(tmp_path / "thing.json", plain)
    with pytest.raises(DataError, match=said):
        read_record(
            tmp_path / "thing.json", "a thing", partial(from_plain, Thing), mend="make it anew"
        )


def test_bytes_of_a_name_that_are_no_utf8_are_written_out(tmp_path: Path) -> None:
    path, name = tmp_path / "x.json", os.fsdecode(b"caf\xe9")
    write_record(path, {"command": name, "plain": "caf\u00e9 \\ud800"})
    said = read_record(path, "a record", dict)
    assert said == {"command": "caf\\udce9", "plain": "caf\u00e9 \\ud800"}


def test_a_record_that_was_changed_is_told_and_one_without_a_checksum_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.json"
    content = {"share": 0.5, "pairs": (1, 2), "of": {"3": "a\udcff"}}
    write_record(path, content)
    read = {"share": 0.5, "pairs": [1, 2], "of": {"3": "a\\udcff"}}
    assert read_record(path, "a thing", lambda data: data) == read
    text = path.read_text()
    assert text.count("0.5") == 1
    path.write_text(text.replace("0.5", "0.7"))
    with pytest.raises(DataError, match=r"a\.json: not a thing: it was changed since"):
        read_record(path, "a thing", lambda data: data)
    path.write_text(json.dumps(read))
    assert read_record(path, "a thing", lambda data: data) == read
    path.write_text(json.dumps(json.loads(text), sort_keys=True))  # other spaces and order
    assert read_record(path, "a thing", lambda data: data) == read
