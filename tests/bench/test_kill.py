"""A bench that was killed at several moments says in the end what an undisturbed one says."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMES = {"id", "created", "command", "run", "bench"}  # when, and what it was called then


def without_times(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {
            key: without_times(one, key)
            for key, one in value.items()
            if key not in TIMES and "second" not in key
        }
    if name == "verdict":
        return re.sub(r"[\d,]+ images/s", "images/s", value)
    return [without_times(one) for one in value] if isinstance(value, list) else value


def said(cache: Path) -> tuple[Any, list[dict[str, str]]]:
    """Return the last bench of a cache, without its times."""
    folder = max((cache / "benches").glob("*/bench.json")).parent
    with (folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    drop = [name for name in lines[0] if "second" in name or name in TIMES or "time" in name]
    table = [
        {key: one for key, one in line.items() if key not in drop}
        for line in lines
        if "second" not in line["metric_name"]
    ]
    record = json.loads((folder / "bench.json").read_text())
    del record["blake2b"]  # over the times, too
    name_of = {row["id"]: row["name"] for row in record["rows"]}
    for one in record["comparisons"]:  # of heads on the same features, a time makes one the cheaper
        one["cheapest"] = name_of[one["cheapest"]]
    return without_times(record), table


def test_a_bench_resumed_after_kills_says_the_same_but_for_times(tmp_path: Path) -> None:
    parts = ["0.5", "0.6"]  # the second goes on from where the first one was
    command = [sys.executable, "-m", "tests.bench.killing", str(tmp_path), *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) >= 1
    whole, killed = said(tmp_path / "whole"), said(tmp_path / "killed")
    assert killed == whole
    assert len(whole[0]["rows"]) == 6
    assert not list((tmp_path / "killed").rglob(".*.partial"))
