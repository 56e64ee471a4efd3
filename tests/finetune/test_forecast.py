"""What fine-tuning will gain and cost, foretold from a small draw."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from scipy import stats
from sklearn.linear_model import LinearRegression

import probe
from probe.cache.joining import join
from probe.cache.store import Store
from probe.core.indexing import rows_of_ids
from probe.errors import UsageError
from probe.finetune.forecast import draw_rows
from probe.finetune.options import Options
from probe.finetune.record import RECORD, Past, expected, track
from probe.finetune.start import make_training
from probe.finetune.train import Observer, Training
from tests.commands import invoke
from tests.finetune.data import RUN, Silent, make_cache, source_of

QUICK: dict[str, Any] = {"epochs": 2, "augment": "none", "lr": 1e-3}
WORDS = [f"--{name}={value}" for name, value in QUICK.items()]


def foretold(cache: Path, *arguments: str, code: int = 0) -> Result:
    return invoke("promote", "--forecast", "--cache-dir", cache, *arguments, code=code)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of 168 training images and 72 held-out ones."""
    folder = tmp_path_factory.mktemp("forecast") / "cache"
    make_cache(folder, per_class=24)
    return folder


@pytest.fixture(scope="module")
def said(large: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(foretold(large, *WORDS, "--json").stdout)
    return found


def test_a_draw_has_its_share_of_every_class(large: Path) -> None:
    source = source_of(large)
    rows = draw_rows(source, Options())
    assert len(rows) == 168 // 8
    assert set(np.bincount(source.train.labels[rows])) <= {2, 3}
    assert set(draw_rows(source, Options(seed=1))) != set(rows)


def test_the_try_is_the_head_of_the_draw_and_its_fine_tuning(
    large: Path, said: dict[str, Any], tmp_path: Path
) -> None:
    source, options, one = source_of(large), Options(**QUICK), said["tried"]
    rows = draw_rows(source, options)
    assert one["images"] == len(rows)
    store = Store(large)
    kept = join(store, store.choose(None)).splits["train"]
    own = rows_of_ids(source.train.take(rows).ids, kept.ids)[0]
    held = rows_of_ids(source.val.ids, kept.ids)[0]
    head = source.head.for_draw(options.seed).fit(kept.features[own], kept.labels[own])
    right = head.predict(kept.features[held]) == kept.labels[held]
    assert one["gain"]["before"] == pytest.approx(right.mean())
    watcher, small = Silent(), replace(source, train=source.train.take(rows), head=head)
    make_training(small, options, tmp_path).run(watcher)
    assert one["gain"]["after"] == pytest.approx(watcher.epochs[-1].val_top1)


def test_what_is_expected_follows_from_the_try(said: dict[str, Any]) -> None:
    gain, told = said["tried"]["gain"], said["expected"]
    plain = expected(gain["after"] - gain["before"], (gain["high"] - gain["low"]) / 3.92, 168)
    room = 1 - said["probe"]
    assert told["chance"] == pytest.approx(plain.chance)
    assert [told["low"], told["gain"], told["high"]] == pytest.approx(
        [plain.low, min(plain.gain, room), min(plain.high, room)]
    )
    assert said["cost"]["seconds"] == pytest.approx(2 * said["cost"]["epoch_seconds"])
    assert len(said["unlike"]) == 2  # in its recipe and its number of images


def test_nothing_is_kept_and_it_is_said_in_a_few_lines(large: Path) -> None:
    before = sorted(large.rglob("*"))
    done = foretold(large, *WORDS)
    assert sorted(large.rglob("*")) == before
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["tried", "gain", "cost", "verdict", "record", "caution", "next"]
    assert lines["tried"].startswith("21 of 168 training images")
    assert "95 %" in lines["gain"]
    assert "an epoch" in lines["cost"]
    assert lines["record"].startswith(f"of {len(RECORD)} small networks")
    assert lines["next"] == "the same command without --forecast"


def test_python_says_the_same(large: Path, said: dict[str, Any]) -> None:
    found = probe.forecast(RUN, cache_dir=large, quiet=True, **QUICK)
    assert found.tried.gain.to_json() == said["tried"]["gain"]
    assert asdict(found.expected) == said["expected"]
    with pytest.raises(TypeError, match="did you mean 'epochs'"):
        probe.forecast(RUN, cache_dir=large, epoch=2)
    with pytest.raises(TypeError, match="no argument 'compare'"):
        probe.forecast(RUN, cache_dir=large, compare="fresh")
    with pytest.raises(UsageError, match="epochs='2': expected a whole number"):
        probe.forecast(RUN, cache_dir=large, epochs="2")


def test_of_a_length_in_steps_the_draw_has_its_share(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, run = [], Training.run_unwatched

    def counted(self: Training, observer: Observer) -> None:
        run(self, observer)
        taken.append((self.network.state.steps, self.schedule.total))

    monkeypatch.setattr(Training, "run_unwatched", counted)
    found = probe.forecast(RUN, steps=16, augment="none", cache_dir=large, quiet=True)
    assert taken == [(2, 2)]  # an eighth of them on an eighth of the images
    assert found.cost.seconds > 3 * found.cost.epoch_seconds  # 16 steps of 5 an epoch
    assert "another recipe" in found.unlike[0]


def test_what_cannot_be_foretold(cache: Path, large: Path) -> None:
    with pytest.raises(UsageError, match="112 training images of 10 classes are too few"):
        foretold(cache, code=2)
    with pytest.raises(UsageError, match="for --start probe"):
        foretold(large, "--start", "fresh", code=2)


def drawn(random: np.random.Generator, count: int, error: float) -> list[Past]:
    """Draw fine-tunings whose gains are linear in what the draw would show without chance."""
    images = random.integers(200, 1_000, count)
    true = random.normal(1, 5, count)
    real = 3 + 2 * np.log2(images / 500) + 0.5 * true + random.normal(0, 2, count)
    seen = true + random.normal(0, error, count)
    return [Past(*one) for one in zip(images, seen, np.full(count, error), real, strict=True)]


@pytest.mark.parametrize("error", [0.5, 4.0])
def test_intervals_hold_what_comes_as_often_as_they_say(error: float) -> None:
    random, held, sure = np.random.default_rng(0), [], []
    for _ in range(2_000):
        *record, one = drawn(random, 21, error)
        told = expected(one.seen / 100, error / 100, one.images, record)
        held.append(told.low <= one.real / 100 <= told.high)
        sure.append((told.chance, one.real > 0))
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
    assert np.mean([chance for chance, _ in sure]) == pytest.approx(
        np.mean([gained for _, gained in sure]), abs=0.03
    )


def test_without_sampling_errors_it_is_a_linear_regression() -> None:
    record = drawn(np.random.default_rng(1), 15, 0.0)
    past = np.array(record)
    known = np.column_stack([np.log2(past[:, 0]), past[:, 1]])
    model = LinearRegression().fit(known, past[:, 3])
    own = np.array([[np.log2(700), 4.0]])
    told = expected(0.04, 0.0, 700, record)
    assert told.gain == pytest.approx(model.predict(own)[0] / 100)
    centred = known - known.mean(axis=0)
    away = (own - known.mean(axis=0)) @ np.linalg.inv(centred.T @ centred) @ centred.T
    squares = ((past[:, 3] - model.predict(known)) ** 2).sum() / 12
    deviation = np.sqrt(squares * (1 + 1 / 15 + (away**2).sum())) / 100
    assert told.high - told.gain == pytest.approx(stats.t.ppf(0.975, 12) * deviation)
    assert told.chance == pytest.approx(stats.t.cdf(told.gain / deviation, 12))


def test_a_gain_that_may_be_chance_moves_the_expectation_less() -> None:
    record = drawn(np.random.default_rng(2), 25, 3.0)
    blind, unsure, sure = (expected(0.2, error, 500, record) for error in (1e3, 0.05, 0.01))
    assert blind.gain < unsure.gain < sure.gain
    assert blind.high - blind.low > unsure.high - unsure.low
    none = expected(-0.2, 1e3, 500, record)
    assert none.gain == pytest.approx(blind.gain, abs=1e-6)


def test_the_record_foretells_itself() -> None:
    found = track()
    assert found.count == len(RECORD) >= 20
    assert found.held >= 0.9 * found.count
    off = [one.real / 100 - np.mean([each.real / 100 for each in RECORD]) for one in RECORD]
    assert found.error < 0.75 * np.std(off)  # better than the mean of all
    assert found.images == (min(one.images for one in RECORD), max(one.images for one in RECORD))
