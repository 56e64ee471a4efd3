"""The picture of a race: a line for each of the features, and a cross where one was dropped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from probe.bench.race_record import Race, RaceStage, race_words
from probe.evaluation.racing import Standing
from probe.report.race import race

FIRST = RaceStage(
    n_train=70, n_val=30, doublings=2, seconds=1.0,
    standings=(
        Standing(name="good", value=0.8),
        Standing(name="late", value=0.7, gap=0.1, low=-0.1, high=0.3, p=0.4),
        Standing(name="<poor>", value=0.2, gap=0.6, low=0.4, high=0.7, p=1e-9, dropped=True),
    ),
)  # fmt: skip
SECOND = RaceStage(
    n_train=140, n_val=60, doublings=1, seconds=1.0,
    standings=(Standing(name="good", value=0.9), Standing(name="late", value=0.8, gap=0.1)),
)  # fmt: skip
FOUND = Race(
    dataset="photos", head="ridge", metric="top1", risk=0.05, level=0.01, images=400,
    stages=(FIRST, SECOND), kept=("good",), left_out={"late": "no time was left"},
    ended="The last sample was half of the images.", rows=700, all_rows=1200, seconds=7.0,
    all_seconds=20.0,
)  # fmt: skip


def of(dataset: str) -> Any:
    return cast("Any", SimpleNamespace(bench=SimpleNamespace(races=(FOUND,)), dataset=dataset))


def test_each_line_ends_where_its_features_did() -> None:
    drawn = race(of("photos"))
    assert drawn is not None
    assert drawn.count("<polyline") == 3
    assert drawn.count('class="dropped"') == drawn.count("<path") == 1
    assert "<title>&lt;poor&gt;</title>" in drawn
    assert "60.00 points behind good (40.00 to 70.00)" in drawn
    assert "no time was left" in drawn
    assert race(of("others")) is None


def test_what_was_saved_and_how_sure_that_is_stands_in_words() -> None:
    words = race_words(FOUND)
    assert words.startswith("1 candidate of 3 dropped in the race on up to 200 images, 1 run on ")
    assert "all 400: 58 % of all passes, 35 % of their time." in words
    assert "is at most 5 %" in words
    assert words.endswith("not known to be worse: late.")
