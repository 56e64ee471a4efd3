"""A head that was not there is fitted by every command, without another line of code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from probe.bundle import Bundle
from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import ProbeError, UsageError
from probe.evaluation.statistics import apply_temperature
from probe.heads import HEADS, load_head
from probe.heads.catalog import default_grid, names_that, read_options
from probe.runs.fit import HEAD
from tests.commands import probe
from tests.finished import make_bundle, save_digits
from tests.heads.toy import ToyHead


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS._specs, "toy", ToyHead)


def test_help_has_a_section_for_it() -> None:
    text = " ".join(probe("head", "--help").split())
    assert "--head toy: --toyness <str> How much of a toy it is; several with commas" in text
    assert "`grid` for 0.25, 1: the best is taken. [default: (1)]" in text


def test_help_names_it_where_it_names_those_that_can_do_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for able in ("one_by_one", "seeded", "takes_weights"):
        monkeypatch.setattr(ToyHead, able, True, raising=False)
    text = " ".join(probe("head", "--help").split())
    assert f"toy: {ToyHead.summary}." in text
    for option, what in {
        "jobs": "fits at a time",
        "seeds": "fit each candidate",
        "sample-weight": "a column of the table",
    }.items():
        said = text.partition(f"--{option} ")[2].partition(f": {what}")[0]
        assert said.endswith(" and toy"), option


def test_it_is_fitted_bundled_and_predicts(digits_cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = probe(
        "head", "--head", "toy", "--toyness", "grid", "--normalize", "none", "--seed", "7",
        "--cache-dir", str(digits_cache), "--out", str(run), "--json",
    )  # fmt: skip
    result = json.loads(told)
    assert result["selection"]["values"] == [0.25, 1.0]
    assert result["params"]["toyness"] in {0.25, 1.0}
    head = load_head(run / HEAD)
    assert isinstance(head, ToyHead)
    bundle = Bundle.load(make_bundle(digits_cache, run, tmp_path / "toy.probe"))
    entry = join(Store(digits_cache), Store(digits_cache).choose(None)).entry["train"]
    logits = head.predict_logits(entry.features[:8])
    wanted = apply_temperature(logits, bundle.about.temperature or 1.0)
    np.testing.assert_allclose(bundle.predict_proba(save_digits(tmp_path, 8)), wanted, atol=1e-4)


def test_a_bench_takes_it_with_its_grid(digits_cache: Path, tmp_path: Path) -> None:
    name = Store(digits_cache).choose(None).name
    ignored = shutil.ignore_patterns("runs", "*.probe")
    folder = shutil.copytree(digits_cache, tmp_path / "cache", ignore=ignored)
    told = probe(
        "bench", "--backbones", name, "--heads", "toy,ridge", "--cache-dir", str(folder), "--json"
    )
    rows = json.loads(told)["rows"]
    assert {row["head"] for row in rows} == {"toy", "ridge"}


def test_what_it_cannot_do_is_said_from_its_class() -> None:
    with pytest.raises(UsageError, match="--toyness belongs to --head toy; leave it out with"):
        read_options("knn", {"toyness": "1"})
    with pytest.raises(UsageError, match="--toyness one: give a number, several with commas"):
        read_options("toy", {"toyness": "one"})
    with pytest.raises(ProbeError, match="--epochs belongs to --head dense"):
        read_options("toy", {"epochs": 3})
    assert read_options("toy", {"toyness": "0.5", "normalize": "l2", "k": None}) == (
        {"toyness": 0.5, "normalize": "l2"}, {},
    )  # fmt: skip
    assert read_options("toy", {"toyness": [1, 2]}) == ({}, {"toyness": (1, 2)})
    assert default_grid("toy") == {"toyness": (0.25, 1.0)}
    assert "toy" not in names_that("takes_several")
