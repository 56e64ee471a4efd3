"""A tie in words: on the screen of a bench and of runs, in a cell, and on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.bench.record import Bench, load_bench, save_bench
from probe.cli import bench_screen
from probe.evaluation.pairs import Evidence, Pair, compare_all
from probe.report import evidence
from probe.report.material import Material
from probe.runs.tie_words import settling_cell, settling_words
from tests.bench.test_outcome import BENCH, ROW

NAMES = "a and b"


def pairs_of(*right: int, n: int = 1000) -> list[Pair]:
    """Return the tests of heads that get so many rows right, no two the same wrong ones."""
    heads = {}
    start = 0
    for number, count in enumerate(right, 1):
        hits = np.ones(n, bool)
        hits[start : start + n - count] = False
        start += n - count
        heads[f"r{number:02d}"] = Evidence(n=n, value=count / n, right=hits)
    return compare_all(heads)


def test_a_difference_that_was_seen_is_planned_for() -> None:
    (pair,) = pairs_of(960, 940)
    told = pair.settling
    assert told is not None
    text = settling_words(pair, NAMES, "top1") or ""
    assert text.startswith("If a and b really differ by the 2.00 points seen, ")
    assert "about 2,100 held-out images (perhaps as few as there are; no number would do" in text
    assert "there are 1,000." in text
    assert text.endswith(f"the chance is nearer {100 * told.chance:.0f} %.")
    assert "labelled images in all" not in text  # nobody knows what part is held out
    assert settling_cell(pair) == "2,100 (530 to no end)"
    told = replace(told, labelled=7000, least_labelled=3800, groups=210, low=1500, high=90_000)
    text = settling_words(replace(pair, settling=told), NAMES, "log_loss") or ""
    assert "the 0.0200 nats seen" in text
    assert "held-out images in 210 groups (at least 1,500; at most 90,000)" in text
    assert (
        "That takes about 7,000 labelled images in all where the same part is held out, or 3,800 "
        "with --val-size 2100."
    ) in text


def test_hardly_a_difference_and_none_that_matters_are_called_so() -> None:
    (small,) = pairs_of(951, 949)
    text = settling_words(small, NAMES, "top1") or ""
    assert text.startswith("Between a and b hardly a difference was seen, and there may be one of ")
    assert "One of 0.50 points would show in four of five cases with about 3" in text
    assert text.endswith("That is hardly worth labelling: choose by cost.")
    assert settling_cell(small).endswith(", not worth it")
    (equal,) = pairs_of(19_980, 19_979, n=20_000)
    text = settling_words(equal, NAMES, "top1") or ""
    assert text.startswith("a and b are as good as equal: whichever is better, it is by at most 0.")
    assert text.endswith("choose by cost.")
    assert settling_cell(equal) == "as good as equal"


def test_told_apart_says_nothing() -> None:
    (pair,) = pairs_of(960, 800)
    assert settling_words(pair, NAMES, "top1") is None
    assert settling_cell(pair) == ""


@pytest.fixture
def bench() -> Bench:
    """Return a bench of four rows: three tie with the winner, the last does not."""
    pairs = tuple(pairs_of(960, 950, 945, 700))
    names = ("r01", "r02", "r03", "r04")
    figures = {"val": {"top1": 0.5, "calibration_error": 0.1}}
    rows = tuple(
        replace(ROW, id=name, name=f"net{name}", metrics=figures, feature_dim=8) for name in names
    )
    (comparison,) = BENCH.comparisons
    comparison = replace(comparison, rows=names, pairs=pairs, tied=names[:3], scores=())
    return replace(BENCH, rows=rows, comparisons=(comparison,))


def test_a_bench_says_of_every_row_that_ties_what_would_settle_it(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bench(tmp_path, bench)
    assert load_bench(tmp_path) == bench
    bench_screen.show(bench, tmp_path / "cache" / "benches" / "b")
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if " to no end)" in line]
    assert [line.split()[0] for line in lines] == ["netr02", "netr03"]
    assert all(settling_cell(pair) in shown for pair in bench.comparisons[0].pairs[:2])


def test_the_page_has_the_same_beside_each_test(bench: Bench) -> None:
    material = Material(
        dataset="d", rows=bench.rows, runs={}, bench=bench, why="", entries={}, curves=(),
        audits=(), test_evaluations=(), notes=[],
    )  # fmt: skip
    page = str(evidence.tests(material))
    assert "images that would show it" in page
    assert all(settling_cell(pair) in page for pair in bench.comparisons[0].pairs)
