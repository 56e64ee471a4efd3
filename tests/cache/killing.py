"""Commands that write entries, in real processes that are killed at random moments.

Run as a script it imports once and forks a process a command, so that hundreds of kills take
seconds: ``python -m tests.cache.killing FOLDER SEED KILLS [KIND...]`` goes on until that many
processes of each kind were killed and prints one JSON object a sequence. `benchmarks/cache_kill.py`
kills hundreds, `test_kill.py` dozens.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from probe.cache.features import FeatureSet
from probe.cache.interchange import import_features
from probe.cache.pack import pack
from probe.cache.store import Store
from probe.cache.unfinished import discard_unfinished, list_unfinished
from probe.datasets.spec import Dataset
from probe.errors import CacheError
from probe.extraction.extract import extract_features
from probe.extraction.job import Job
from probe.extraction.upkeep import plan_sync, sync
from tests.cache.toy import bytes_without_seal, with_columns
from tests.fakes import FakeEngine, Silent, make_dataset, make_job

TRAIN, TEST, BLOCK, BATCH = 1500, 130, 512, 32
MOST_KILLS = 6  # of one entry
IMPORTED = "features.npz"


class Telling(Silent):
    """Tells the parent how many rows were forwarded, whatever happens next."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def advanced(self, rows: int) -> None:
        os.write(self._pipe, bytes([rows]))


def run_job(job: Job, folder: Path, pipe: int) -> None:
    extract_features(job, Store(folder), FakeEngine, Telling(pipe), workers=1)


def begun() -> Dataset:
    """Return the images, with columns of a table."""
    return with_columns(make_dataset(train=TRAIN, test=TEST))


def changed() -> Dataset:
    """Return the images after a day's work: every tenth is another one, and ten are new."""
    dataset, other = make_dataset(train=TRAIN + 10, test=TEST), make_dataset(train=99)
    pixels = dataset.splits["train"].images
    pixels.pixels[::10][:99] = other.splits["train"].images.pixels[:99, ::-1]  # type: ignore[attr-defined]
    return with_columns(dataset)


def run_mended(folder: Path, pipe: int) -> None:
    mended = with_columns(make_dataset(train=TRAIN, test=TEST), site="mended", age="7")
    run_job(make_job(mended), folder, pipe)


def run_sync(folder: Path, pipe: int) -> None:
    store, job = Store(folder), make_job(changed())
    old = make_job(begun()).cuts[0].key
    # after a kill both may be there; whoever repeats the command names the old one
    path = store.path_of(old, "toy")
    entry = FeatureSet.open(path if path.exists() else store.path_of(job.cuts[0].key, "toy"))
    job = replace(job, provenance={**job.provenance, "request": None})  # as the entry has it
    prepared: Any = SimpleNamespace(
        job=job, weights=SimpleNamespace(name=""), engine_for=FakeEngine,
        request=SimpleNamespace(workers=1),
    )  # fmt: skip
    sync(entry, prepared, plan_sync(entry, prepared), store, Telling(pipe))


def run_pack(folder: Path, pipe: int, **options: Any) -> None:
    store = Store(folder)
    entry = make_job(begun()).cuts[0].key
    pack(FeatureSet.open(store.path_of(entry, "toy")), store, **options)


def run_import(folder: Path, pipe: int) -> None:
    import_features([folder.parent / IMPORTED], Store(folder))


@dataclass(frozen=True)
class Kind:
    """A command, and whether it starts from an entry that is there already."""

    run: Callable[[Path, int], None]
    begun: bool = True


def forwarding(**options: str) -> Kind:
    job = make_job(begun(), **options)
    return Kind(lambda folder, pipe: run_job(job, folder, pipe), begun=False)


KINDS: dict[str, Callable[[], Kind]] = {
    "extract": forwarding,
    "extract --views flip": lambda: forwarding(views="flip"),
    "extract after a table was mended": lambda: Kind(run_mended),
    "sync": lambda: Kind(run_sync),
    "pack": lambda: Kind(run_pack),
    "pack --dtype float16": lambda: Kind(lambda f, p: run_pack(f, p, dtype="float16")),
    "import": lambda: Kind(run_import, begun=False),
}


def start(kind: Kind, folder: Path) -> tuple[int, int]:
    """Run a command in a forked process; return its id and what it tells."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, told
    status = 1
    try:
        os.close(told)
        kind.run(folder, tell)
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


def listed(folder: Path) -> dict[str, str]:
    """Return the entries that a listing shows, each with a hash of all its bytes but the seal."""
    return {
        entry.name: hashlib.blake2b(bytes_without_seal(entry.path)).hexdigest()
        for entry in Store(folder).entries()
    }


@dataclass(frozen=True)
class Course:
    """What a command starts from and comes to where nobody interrupts it."""

    kind: Kind
    before: Path
    old: dict[str, str]
    new: dict[str, str]
    forwarded: int
    seconds: float


def course(kind: Kind, base: Path) -> Course:
    base.mkdir(parents=True)
    before, whole = base / "before", base / "whole"
    before.mkdir()
    if kind.begun:
        run_job(make_job(begun()), before, os.open(os.devnull, os.O_WRONLY))
    else:
        rows = np.random.default_rng(0).standard_normal((TRAIN, 512), np.float32)
        np.savez(base / IMPORTED, features=rows, labels=np.arange(TRAIN) % 3)
    shutil.copytree(before, whole)
    began = time.perf_counter()
    code, forwarded = finish(*start(kind, whole))
    if code:
        raise CacheError("the run that nobody interrupts failed")
    seconds = time.perf_counter() - began
    return Course(kind, before, listed(before), listed(whole), forwarded, seconds)


def sequence(made: Course, folder: Path, dice: random.Random) -> dict[str, Any]:
    """Kill a command again and again, let the last one end, and compare."""
    shutil.copytree(made.before, folder)
    good = {*made.old.items(), *made.new.items()}
    kills = forwarded = wrong = 0
    for _ in range(dice.randint(1, MOST_KILLS)):
        child, told = start(made.kind, folder)
        time.sleep(dice.uniform(0, made.seconds))
        os.kill(child, signal.SIGKILL)
        code, rows = finish(child, told)
        forwarded += rows
        kills += code == -signal.SIGKILL
        wrong += len(set(listed(folder).items()) - good)  # what is listed is whole, at any time
    code, rows = finish(*start(made.kind, folder))
    store = Store(folder)
    # of a killed `pack` a temporary file stays, which `cache list` shows and this removes
    removed = all(discard_unfinished(store, one.path) for one in list_unfinished(store))
    same = listed(folder) == made.new
    shutil.rmtree(folder)
    return {
        "kills": kills,
        "code": code,
        "wrongly_listed": wrong,
        "same": same,
        "left_over": len(store.partials()) + len(store.temporaries()) + (not removed),
        "lost_rows_a_kill": (forwarded + rows - made.forwarded) / max(kills, 1),
    }


def main() -> None:
    """Run sequences of each kind in turn, until there are the kills that were asked for."""
    base, seed, wanted = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    for name in sys.argv[4:] or KINDS:
        made = course(KINDS[name](), base / name.replace(" ", "_"))
        kills = 0
        while kills < wanted:
            done = sequence(made, made.before.with_name("sequence"), dice)
            kills += done["kills"]
            if not done["kills"]:  # timed while the machine was busy: it ends before the kill
                made = replace(made, seconds=0.8 * made.seconds)
            sys.stdout.write(json.dumps({"kind": name, **done}) + "\n")


if __name__ == "__main__":
    main()
