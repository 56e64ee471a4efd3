"""Kill, hang and restart everything that a spread pass runs on; the entry has to be the same.

    PROBE_TEST_DATA=... python -m benchmarks.spread_kills [--only dask-nanny,ray] [--kills 20]
        [--store folder | server]

2,500 images of CIFAR-10 through EfficientNet-Lite0 at 128, on a real Dask cluster (two workers of
one thread, without and with nannies) and a real Ray (a head with two CPUs, by its client server),
all on loopback. Six times a pass, after 0.3 to 5 s, one of these happens: a worker that computes is
killed (SIGKILL) or stopped (SIGSTOP; the usual minute of patience is 8 s here), the scheduler or
head is killed with all its workers and started again on the same port, or the command is killed and
started again. In the end everything that the entry says, but the command that made it, has to be
what one process made; `probe cache verify` has to find nothing; and where the command was not
killed, exactly 2,500 images were forwarded.

Seen on two busy cores (with RAY_AUTH_MODE=disabled): 12 entries, 72 kills, 0 wrong.

    Dask, no nannies  4 entries, 24 kills: 18 workers, 2 hung, 2 schedulers, 2 commands
    Dask, nannies     4 entries, 24 kills: 14 workers, 3 hung, 5 schedulers, 2 commands
    Ray               4 entries, 24 kills: 13 workers, 2 hung, 3 heads, 6 commands

The passes with nannies were run before the weights were sent to all workers that answer; with that,
--seed 3: 10 entries, 20 kills (12 workers, 3 hung, 3 schedulers, 2 commands), 0 wrong.

Three times a command that was started again said that Ray does not answer yet (30 s were not enough
for its server on these cores), and went on when it was started once more; such are counted as
`refused`. A command asks for two minutes since.

With a bad store (`benchmarks/bad_store.py`), 1 % of what it is asked failing, on Dask with nannies
at 64 pixels, 4 entries, 0 wrong:

    --store folder  calls of the command and of workers answer EIO, ESTALE or ETIMEDOUT, or wait up
                    to 0.4 s: 6 workers, 1 hung, 2 schedulers, 3 commands
    --store server  a web server answers 500, 503 or half: 6 workers, 1 scheduler, 2 commands, and 3
                    times all copies that the command had made were removed while workers read them

Before reads were tried again, such a folder ended the command at its first image.

The same on Ray, 3 entries, 18 kills, 0 wrong: with a bad folder 4 workers, 3 heads and 5 commands
(at 128 and at 64 pixels), with a bad server 2 workers, 1 hung, 2 heads, and once all copies were
removed. Before the loop and the copies were mended three entries were wrong: heads that went ended
a command with an exception of gRPC, and copies that were removed between their fetch and hashing
ended two with an error.

Earlier versions failed here: shared weights whose last holder had died were not sent
again, and a worker that was gone between two questions ended the command.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bad_store import bad_folder, bad_server
from benchmarks.clusters import Dask, Ray, end, family
from benchmarks.common import PROBE, cifar10_folders
from probe.cache.features import FeatureSet
from tests.cache.toy import everything

MOST = 6  # things that are done to one pass
PATIENCE = 8.0  # seconds, where a worker is hung; the usual minute would only take longer
LONGEST = 400.0  # seconds of a pass
FAILING = 0.01  # of what a bad store is asked
HASTY = (
    "import sys, probe.schedulers.spread as s; s.LEAST_PATIENCE = {0}; s.FIRST_PATIENCE = 10 * {0};"
    "from probe.__main__ import main; main()"
)


@dataclass
class Told:
    """What came of one pass."""

    kind: str
    done: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def command(images: str, cache: Path, *more: str, size: int, hasty: bool = False) -> list[str]:
    start = [sys.executable, "-c", HASTY.format(PATIENCE)] if hasty else PROBE
    return [
        *start, "extract", "--backbone", "efficientnet_lite0", "--size", str(size),
        "--dataset", images, "--cache-dir", str(cache), "--json", *more,
    ]  # fmt: skip


def contents(cache: Path) -> list[Any]:
    """Return all that the one entry of a folder says, but the command that made it."""
    (path,) = (cache / "features").glob("*.h5")
    found = everything(FeatureSet.open(path))
    found[2].pop("command")
    return found


@dataclass(frozen=True)
class Store:
    """Where images are read from.

    Parameters
    ----------
    images : str
        The dataset, as a command names it.
    environment : mapping of str to str
        What makes the store bad for the processes that have it.
    copies : bool
        Whether the command keeps copies, which can be removed while workers read them.
    """

    images: str
    environment: Mapping[str, str] = field(default_factory=dict)
    copies: bool = False


@contextmanager
def store_of(kind: str, images: Path, root: Path) -> Iterator[tuple[Store, Store]]:
    """Yield a store while it is good, and the same one while it is bad."""
    if kind == "disk":
        yield Store(str(images)), Store(str(images))
    elif kind == "folder":
        bad = bad_folder(images, root, rate=FAILING, slow=FAILING)
        yield Store(str(images)), Store(str(images), bad)
    else:
        with bad_server(images, rate=FAILING, pause=0.005) as web:
            yield Store(f"{web.url}/"), Store(f"{web.url}/", copies=True)


class Attack:
    """One pass after another on a cluster, and what is done to it."""

    def __init__(
        self, kind: str, cluster: Dask | Ray, rng: random.Random, size: int, store: Store
    ) -> None:
        self.kind, self.cluster, self._rng, self._size = kind, cluster, rng, size
        self._store = store

    def once(self, cache: Path, expected: list[Any]) -> Told:
        """Extract until the command ends well, doing harm on the way."""
        told, started, failed = Told(self.kind), time.monotonic(), 0
        line = command(
            self._store.images, cache, "--scheduler", self.cluster.name, size=self._size, hasty=True
        )
        environment = {**os.environ, **self._store.environment}
        log = cache.with_suffix(".txt")
        while True:
            told.runs += 1
            with log.open("a") as errors:
                running = psutil.Popen(
                    line, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
                )
                killed = self._harm(running, cache, told, started)
                said, _ = running.communicate()
            if killed:
                continue
            if running.returncode == 0:
                break
            if "no Ray cluster answers" in (said := log.read_text()[-300:]):
                told.refused += 1  # a server that starts: it says so, and is asked again
                if told.refused < 4:
                    continue
            failed += 1
            told.wrong.append(f"exit {running.returncode}: {said}")
            if failed == 2:
                break
        told.seconds = time.monotonic() - started
        if not told.wrong:
            self._check(json.loads(said), cache, expected, told)
        return told

    def _harm(self, running: psutil.Popen, cache: Path, told: Told, started: float) -> bool:
        """Do harm while the command runs; return whether it was killed."""
        while sum(told.done.values()) < MOST:
            until = time.monotonic() + self._rng.uniform(0.3, 5)
            while time.monotonic() < until or not list(cache.glob("features/.*.partial")):
                if running.poll() is not None:
                    return False
                time.sleep(0.02)
            if (done := self._do(running, cache)) is not None:
                told.done[done] += 1
                if done == "command":
                    return True
        while running.poll() is None:
            if time.monotonic() - started > LONGEST:
                told.wrong.append(f"not done in {LONGEST:.0f} s")
                end(family(running))
            time.sleep(0.1)
        return False

    def _do(self, running: psutil.Popen, cache: Path) -> str | None:
        what = self._rng.choices(
            ["worker", "hung", "scheduler", "command", "copies"],
            weights=[12, 2, 2, 2, 6 if self._store.copies else 0],
        )[0]
        if what == "copies":
            shutil.rmtree(cache / "remote" / "http", ignore_errors=True)
            return what
        if what == "command":
            end(family(running))
            return what
        if what == "scheduler":
            self.cluster.end_all()
            time.sleep(self._rng.uniform(0, 3))
            self.cluster.start()
            return what
        computing = self.cluster.computing()
        if not computing:
            return None
        one = self._rng.choice(computing)
        end([one], signal.SIGSTOP if what == "hung" else signal.SIGKILL)
        if isinstance(self.cluster, Dask):
            self.cluster.replace(what)
        return what

    def _check(self, said: Any, cache: Path, expected: list[Any], told: Told) -> None:
        if told.runs == 1 and said["forwarded"] != said_of(expected):
            told.wrong.append(f"forwarded {said['forwarded']}")
        if contents(cache) != expected:
            told.wrong.append("differs")
        if left := list(cache.glob("features/.*.partial*")):
            told.wrong.append(f"left {left}")
        verified = subprocess.run(
            [*PROBE, "cache", "verify", "--cache-dir", str(cache)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if verified.returncode:
            told.wrong.append(f"verify: {verified.stderr[-200:]}")


def said_of(expected: list[Any]) -> int:
    """Return how many images there are."""
    return sum(one[1][0] for one in expected[4:] if isinstance(one, tuple) and one[0] == "<f4")


def main() -> None:
    """Print one line a pass, and what came of all; exit 1 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="dask,dask-nanny,ray")
    parser.add_argument("--store", choices=("disk", "folder", "server"), default="disk")
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="a folder for all that is made")
    options = parser.parse_args()
    rng, told = random.Random(options.seed), []
    with ExitStack() as stack:
        root = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = root / "images"
        if not images.exists():
            cifar10_folders(images, train=200, test=50)
        good, bad = stack.enter_context(store_of(options.store, images, root))
        alone = root / f"alone-{options.store}"
        line = command(good.images, alone, size=options.size)
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        expected = contents(alone)
        for kind in options.only.split(","):
            cluster = (
                Ray(root / kind, workers=2, environment=bad.environment)
                if kind == "ray"
                else Dask(
                    root / kind, workers=2, nanny=kind == "dask-nanny", environment=bad.environment
                )
            )
            try:
                attack, kills = Attack(kind, cluster, rng, options.size, bad), 0
                while kills < options.kills:
                    cache = Path(tempfile.mkdtemp(dir=root)) / "cache"
                    one = attack.once(cache, expected)
                    told.append(one)
                    kills += sum(one.done.values())
                    print(one, flush=True)
            finally:
                cluster.close()
    total = sum((one.done for one in told), Counter())
    wrong = sum(bool(one.wrong) for one in told)
    print(f"{len(told)} entries, {sum(total.values())} kills ({dict(total)}): {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
