"""Extractions in real processes that are killed at random moments.

Run as a script it imports once and forks a process an extraction, so that hundreds of kills take
seconds: ``python -m tests.cache.killing FOLDER SEED SEQUENCES`` prints one JSON object a sequence.
`benchmarks/cache_kill.py` runs hundreds, `test_kill.py` dozens.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from probe.cache.store import Store
from probe.errors import CacheError
from probe.extract import extract_features
from tests.cache.toy import bytes_without_seal
from tests.fakes import FakeEngine, Silent, make_dataset, make_job

TRAIN, TEST, BLOCK, BATCH = 1500, 130, 512, 32
MOST_KILLS = 6  # of one entry


class Telling(Silent):
    """Tells the parent how many rows were forwarded, whatever happens next."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def advanced(self, rows: int) -> None:
        os.write(self._pipe, bytes([rows]))


def start(folder: Path) -> tuple[int, int]:
    """Extract in a forked process; return its id and what it tells."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, told
    status = 1
    try:
        job = make_job(make_dataset(train=TRAIN, test=TEST))
        extract_features(job, Store(folder), FakeEngine, Telling(tell), workers=1)
        status = 0
    finally:
        os._exit(status)


def finish(child: int, told: int) -> tuple[int, int]:
    """Wait for a process; return its exit code and how many rows it forwarded."""
    _, status = os.waitpid(child, 0)
    rows = 0
    while block := os.read(told, 4096):
        rows += sum(block)
    os.close(told)
    return os.waitstatus_to_exitcode(status), rows


def sequence(folder: Path, whole: bytes, seconds: float, dice: random.Random) -> dict[str, object]:
    """Kill an extraction again and again, let the last one end, and compare."""
    kills = forwarded = listed = 0
    for _ in range(dice.randint(1, MOST_KILLS)):
        child, told = start(folder)
        time.sleep(dice.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        code, rows = finish(child, told)
        forwarded += rows
        kills += code == -signal.SIGKILL
        for entry in Store(folder).entries():  # what is listed is whole, at any time
            listed += bytes_without_seal(entry.path) != whole
    code, rows = finish(*start(folder))
    (entry,) = Store(folder).entries()
    return {
        "kills": kills,
        "code": code,
        "wrongly_listed": listed,
        "same": bytes_without_seal(entry.path) == whole,
        "left_over": len(Store(folder).partials()),
        "lost_rows_a_kill": (forwarded + rows - TRAIN - TEST) / max(kills, 1),
    }


def main() -> None:
    """Run the sequences that the command line asks for."""
    base, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    began = time.perf_counter()
    code, _ = finish(*start(base / "whole"))
    seconds = time.perf_counter() - began
    if code:
        raise CacheError("the run that nobody interrupts failed")
    (entry,) = Store(base / "whole").entries()
    whole, dice = bytes_without_seal(entry.path), random.Random(seed)
    for number in range(count):
        done = sequence(base / f"sequence {number}", whole, seconds, dice)
        sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
