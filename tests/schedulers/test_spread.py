"""The loop: every block comes back once, whatever happens to the workers."""

from __future__ import annotations

import importlib
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probe import errors
from probe.errors import DataError, EngineError, ProbeError, UsageError
from probe.schedulers import Rate, check_scheduler, spread
from probe.schedulers.loky import LokyScheduler
from tests.schedulers.tasks import BLOCKS, Doubling, Threads, numbered

LOOP = importlib.import_module("probe.schedulers.spread")  # the package's name is the function
EXPECTED = [(number, 2 * number) for number in range(BLOCKS)]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOOP, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(LOOP, "LOOKED_EVERY", 0.05)


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[LokyScheduler]:
    made = LokyScheduler("loky:2", 2)
    yield made
    made.close()


def results(scheduler: Any, task: Doubling, **options: Any) -> list[tuple[int, int]]:
    done = spread(scheduler, task, numbered(), **options)
    return sorted((number, value) for number, value, _ in done)


def test_each_block_comes_back_once_and_rates_add_up(threads: Threads, tmp_path: Path) -> None:
    seen: dict[str, Rate] = {}
    assert results(threads, Doubling(tmp_path), watch=seen.update) == EXPECTED
    assert sum(rate.rows for rate in seen.values()) == 5 * BLOCKS
    assert threads.shared == 1


def test_blocks_are_asked_for_when_there_is_room(threads: Threads, tmp_path: Path) -> None:
    asked: list[int] = []

    def blocks() -> Iterator[tuple[int, int]]:
        for block in numbered():
            asked.append(block[0])
            yield block

    done = spread(threads, Doubling(tmp_path), blocks())
    next(done)
    assert len(asked) == LOOP.AHEAD * threads.workers
    assert len(list(done)) == BLOCKS - 1


def test_an_error_is_believed_after_three_tries(threads: Threads, tmp_path: Path) -> None:
    assert results(threads, Doubling(tmp_path, "unread", times=2)) == EXPECTED
    (again := tmp_path / "again").mkdir()
    with pytest.raises(DataError, match=r"^3.jpg: cannot be read$"):
        results(threads, Doubling(again, "unread", times=9))
    assert len(list(again.iterdir())) == 3


def test_a_task_that_cannot_be_opened_says_why(threads: Threads, tmp_path: Path) -> None:
    assert results(threads, Doubling(tmp_path, "closed")) == EXPECTED
    (again := tmp_path / "again").mkdir()
    with pytest.raises(EngineError, match=r"^cuda:0 does not start$"):
        results(threads, Doubling(again, "closed", times=99))


def test_a_block_that_raised_waits_before_it_is_tried_again(
    threads: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOOP, "PAUSES", (0.4, 0.0))
    started = time.monotonic()
    assert results(threads, Doubling(tmp_path, "unread")) == EXPECTED
    assert time.monotonic() - started > 0.4


def test_a_worker_that_is_lost_costs_nothing_and_ten_in_a_row_are_told(
    threads: Threads, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert results(threads, Doubling(tmp_path, "lost", times=4)) == EXPECTED
    assert "a worker was lost (MemoryError of this worker)" in caplog.text
    (again := tmp_path / "again").mkdir()
    with pytest.raises(EngineError, match="lost 10 times one after another"):
        results(threads, Doubling(again, "lost", times=99))


def test_a_block_that_takes_too_long_is_done_by_another(threads: Threads, tmp_path: Path) -> None:
    started = time.monotonic()
    assert results(threads, Doubling(tmp_path, "slow"), patience=0.2) == EXPECTED
    assert time.monotonic() - started < 1.4  # it sleeps 1.5 s


def test_a_scheduler_that_is_gone_is_started_again(tmp_path: Path) -> None:
    scheduler = Threads(breaks=3)
    done = spread(scheduler, Doubling(tmp_path), numbered(20))  # at most four between two breaks
    assert sorted((number, value) for number, value, _ in done) == [(n, 2 * n) for n in range(20)]
    assert (scheduler.restarts, scheduler.shared) == (3, 4)
    scheduler.close()


def test_one_that_goes_while_it_is_given_the_task_is_started_again(tmp_path: Path) -> None:
    scheduler = Threads(unshared=2)
    assert results(scheduler, Doubling(tmp_path)) == EXPECTED
    assert (scheduler.shared, scheduler.restarts) == (3, 2)
    with pytest.raises(EngineError, match=r"lost 10 times.*RuntimeError the session"):
        results(Threads(unshared=100), Doubling(tmp_path))


def test_what_cannot_be_sent_is_one_line(threads: Threads, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be sent to workers: cannot pickle"):
        list(spread(threads, Doubling(tmp_path), iter([(threading.Lock(), 1)])))


def test_other_versions_and_a_missing_package_are_one_line(
    threads: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="cannot import a_package_that_nobody_has: install"):
        results(threads, Doubling(tmp_path, "absent"))
    monkeypatch.setattr(LOOP, "all_versions", lambda task: {"probe": "0", "doubling": "1"})
    with pytest.raises(EngineError, match=r"has probe .*, this process 0: rows could differ"):
        results(threads, Doubling(tmp_path))


def test_every_error_survives_its_way_back() -> None:
    several = {
        "ImageError": ("a.jpg", "cut off"), "CorruptEntryError": (Path("a.h5"), "rows"),
        "CacheMismatchError": (Path("a.h5"), "field", "1", "2"),
    }  # fmt: skip
    for name in errors.__all__:
        kind = getattr(errors, name)
        made: ProbeError = kind(*several.get(name, ("one line",)))
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), str(again)) == (kind, str(made))


@pytest.mark.parametrize("harm", ["killed", "hung"])
def test_a_process_that_is_killed_or_hung_costs_nothing(
    processes: LokyScheduler, tmp_path: Path, harm: str
) -> None:
    patience = 5.0 if harm == "hung" else None
    assert results(processes, Doubling(tmp_path, harm), patience=patience) == EXPECTED
    assert (tmp_path / "0").exists()


def test_processes_end_with_what_started_them(tmp_path: Path) -> None:
    scheduler = LokyScheduler("loky:1", 1)
    try:
        handle = scheduler.share(b"bytes")
        pid = scheduler.submit(lambda *_: os.getpid(), handle).result()
    finally:
        scheduler.close()
    assert not Path(handle).exists()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("slurm", "expected loky or loky:4"), ("loky:0", "a process at least"),
        ("loky://here:1", "processes are on this machine"), ("dask:4", "has the workers it has"),
        ("ray:2", "has the workers it has"), ("dask://", "expected"), ("Loky", "expected"),
        ("dask://a b", "expected"), ("", "expected"),
    ],
)  # fmt: skip
def test_names_that_mean_no_scheduler(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_scheduler(name)


@pytest.mark.parametrize("name", [None, "loky", "loky:3", "dask", "dask://h:1", "ray", "ray://h:1"])
def test_names_that_mean_one(name: str | None) -> None:
    check_scheduler(name)
