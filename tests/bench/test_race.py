"""Races as a user meets them: real digits, small networks, what is dropped and found again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import probe as package
from probe.bench import race
from probe.bench.record import load_bench
from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.errors import CacheError, UsageError
from probe.extraction import extract
from tests.commands import invoke, probe, probe_json

GOOD = "squeezenet1_1/fire3@32=random:0"
POOR = "squeezenet1_1/fire2@8=random:1"  # of eight pixels a side little is left
NETWORKS = f"{GOOD},{POOR},squeezenet1_1/fire2@32=random:0"
OPTIONS = ("bench", "--dataset", "digits", "--head", "ridge", "--backbones", NETWORKS, "--race")


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the images that go through networks, by layer."""
    counts: Counter[str] = Counter()
    whole = extract._forward

    def counting(job: Any, *others: Any) -> int:
        count = whole(job, *others)
        counts.update({f"{cut.layer.name}@{job.preprocess.size}": count for cut in job.cuts})
        return count

    monkeypatch.setattr(extract, "_forward", counting)
    return counts


def test_what_cannot_win_is_not_run_on_all_images(tmp_path: Path, forwarded: Counter[str]) -> None:
    found = probe_json(*OPTIONS, "--cache-dir", tmp_path)
    (told,) = found["races"]
    assert [(one["n_train"], one["n_val"]) for one in told["stages"]] == [(315, 135), (629, 270)]
    assert POOR not in told["kept"]
    rows = {row["name"]: row for row in found["rows"]}
    assert rows[POOR]["status"] == "dropped"
    assert rows[POOR]["reason"].startswith("dropped on 450 images (315 to fit on, 135 held out): ")
    assert rows[POOR]["metrics"] == {}
    winner = rows[found["rows"][-1]["name"]]
    assert winner["status"] == "done"
    assert winner["n_train"] + winner["n_val"] == 1797
    # every image went through a network once: those of a sample are copied into the next
    kept = len(told["kept"])
    assert told["rows"] == kept * 1797 + 450 + (2 - kept) * 899
    assert (told["all_rows"], forwarded["fire2@8"]) == (3 * 1797, 450)
    assert forwarded["fire3@32"] == 1797
    # what is left of a sample belongs to the features that were dropped
    samples = [one for one in Store(tmp_path).entries() if one.sample]
    assert {one.key.layer for one in samples} == {"fire2"}
    assert all(one.dataset == "digits-sample" for one in samples)
    assert load_bench(Path(found["folder"])).races[0].dropped[POOR][1].dropped

    before, table = Counter(forwarded), Path(found["folder"], "results.csv").read_text()
    again = probe_json(*OPTIONS, "--cache-dir", tmp_path)
    assert forwarded == before
    assert [one["standings"] for one in again["races"][0]["stages"]] == [
        one["standings"] for one in told["stages"]
    ]
    assert len(list((tmp_path / "runs").iterdir())) == kept
    assert "dropped" not in table  # rows without figures have no lines


def test_a_race_that_was_interrupted_goes_on(
    tmp_path: Path, forwarded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = race.judge

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(race, "judge", stop)
    invoke(*OPTIONS, "--cache-dir", tmp_path, code=130)
    assert forwarded["fire3@32"] == 450
    monkeypatch.setattr(race, "judge", judge)
    probe_json(*OPTIONS, "--cache-dir", tmp_path)
    assert (forwarded["fire3@32"], forwarded["fire2@8"]) == (1797, 450)


def test_a_sample_is_no_entry_that_is_meant_without_a_name(tmp_path: Path) -> None:
    shown = invoke(*OPTIONS, "--cache-dir", tmp_path)
    assert "race      digits: 450 images: " in shown.stderr
    assert f"dropped {POOR}: " in shown.stderr
    assert " % of all passes" in shown.stdout
    assert "of 3 dropped in the race on up to 899 images" in shown.stdout
    store = Store(tmp_path)
    sample = next(one for one in store.entries() if one.sample)
    FeatureSet.open(sample.path)
    assert not store.choose(None).sample
    with pytest.raises(CacheError, match="what a race of `probe bench` forwarded"):
        probe("cache", "sync", sample.name, "--cache-dir", tmp_path)


def test_folds_hold_out_their_first_in_a_race(tmp_path: Path) -> None:
    found = probe_json(*OPTIONS, "--folds", "3", "--cache-dir", tmp_path)
    assert [one["n_val"] for one in found["races"][0]["stages"]] == [150, 300]
    assert found["comparisons"][0]["winner"]


def test_a_budget_leaves_out_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {GOOD: 100.0, POOR: 1000.0, "squeezenet1_1/fire2@32=random:0": 10.0}
    monkeypatch.setattr(race, "_known_rate", lambda one, store: rates[one.names[0]])
    words = [one for one in OPTIONS if one != "--race"]
    found = probe_json(*words, "--budget", "1m", "--cache-dir", tmp_path)
    (told,) = found["races"]
    assert told["budget"] == 60
    (left_out,) = told["left_out"].items()
    assert left_out == (
        "squeezenet1_1/fire2@32=random:0",
        "forwarding all images takes about 3m, which the budget leaves no time for",
    )
    rows = {row["name"]: row["status"] for row in found["rows"]}
    assert rows[left_out[0]] == "left out"
    with pytest.raises(UsageError) as error:
        probe_json(*words, "--budget", "1s", "--cache-dir", tmp_path / "other")
    assert str(error.value).startswith(
        f"--budget 1s: too little for any of them; the quickest, {POOR}, needs about "
    )
    assert not (tmp_path / "other" / "runs").exists()


def test_a_budget_ends_a_race_that_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race.Racing, "_affords", lambda *_: False)
    monkeypatch.setattr(race.Racing, "_fits_in", lambda *_: False)
    found = probe_json(*OPTIONS, "--budget", "1h", "--cache-dir", tmp_path)
    (told,) = found["races"]
    assert told["ended"] == "No time was left for more than 450 images."
    assert len(told["kept"]) == 1
    assert "no time was left to run it on all images; on 450 it was " in next(
        iter(told["left_out"].values())
    )


def test_a_loss_is_told_as_people_read_it(tmp_path: Path) -> None:
    words = (*OPTIONS, "--metric", "log_loss", "--cache-dir", tmp_path)
    found = probe_json(*words)
    (told,) = found["races"]
    first, *others = told["stages"][0]["standings"]
    assert all(0 < first["value"] < one["value"] for one in others)
    assert others[0]["gap"] == pytest.approx(others[0]["value"] - first["value"])


def test_from_python(tmp_path: Path) -> None:
    found = package.bench(
        "digits", NETWORKS, heads="ridge", race=True, risk=0.2, cache_dir=tmp_path, quiet=True
    )
    assert found.record.races[0].risk == 0.2
    assert not found.failed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--race", "--risk", "1.5"), "--risk 1.5: it is a share between 0 and 1, as 0.05"),
        (("--budget", "soon"), "--budget soon: give a time, as in 2h, 1h30m, 90m or 45s"),
        (("--race", "--concat", "all"), "--concat and --race: features side by side need all"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    options = [one for one in OPTIONS if one != "--race"]
    with pytest.raises(UsageError) as error:
        probe(*options, *words, "--dry-run", "--cache-dir", tmp_path)
    assert str(error.value).startswith(told)
