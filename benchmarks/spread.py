"""What handing blocks to workers costs, against one process on the same cores.

    python -m benchmarks.spread [--rounds 4] [--count 256]

ResNet-18 at 224 over photographs of 500 x 375 pixels, files to a sealed entry. Ways take turns,
each with workers of its own that have done the pass once before, and the best of all rounds counts.
CPU seconds are those of the command and of its workers together. The bar is 0.95 of one process's
rate on the same cores.

Seen on two cores that six others shared, 256 photographs, best of 4 rounds:

    one process    65.2 images/s,   19.8 ms of CPU an image
    loky:2         74.8 images/s,   20.2 ms of CPU an image: 1.15 by time, 0.98 by CPU
    loky:1         80.7 images/s,   20.4 ms of CPU an image: 1.24 by time, 0.97 by CPU
    dask           76.7 images/s,   21.4 ms of CPU an image: 1.18 by time, 0.92 by CPU

Ratios by time say little there: of busy cores more processes, and later ones, get more or less by
chance. By CPU loky meets the bar and Dask missed it. Dask's part does not grow with the images but
with time: its two workers, their nannies and its scheduler took 190 ms of CPU a second while the
workers slept, most of it for its profiler and the tick of its event loops, which are 2.5 ms an
image at 76 images/s. `probe.schedulers.dask.QUIET` leaves 40 to 65 ms. Its ratio was not measured
since on cores that were free enough: where others take most of them, the pass takes longer and that
part of it grows. Neither Ray was measured nor the growth from one worker to two, for loky:1 has
both cores.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from benchmarks.pipeline import CASES, passing, prepared_pass, write_photographs
from probe.cache.store import Store
from probe.extraction.extract import extract_features
from probe.extraction.forward import Elsewhere
from probe.schedulers import Workers, workers_called
from tests.fakes import Silent

CASE = next(one for one in CASES if one.name == "resnet18 at 224")
WAYS = ("one process", "loky:2", "loky:1", "dask")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and all its workers."""
    me = psutil.Process()
    times = [one.cpu_times() for one in [me, *me.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def spread_pass(folder: Path, state: Path, workers: Workers) -> int:
    """Make an entry on workers, in a fresh cache folder."""
    cache = Path(tempfile.mkdtemp(dir=state))
    shutil.copy(state / "0" / "memo.sqlite", cache)
    made = prepared_pass(CASE, folder, cache, "onnx")
    there = Elsewhere(workers, made.network_for)
    extract_features(made.job, Store(cache), made.engine_for, Silent(), workers=2, elsewhere=there)
    return int(made.job.count)


def main() -> None:
    """Print the best rate and CPU seconds of each way, and their ratios to one process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--count", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        folder = write_photographs(state / "photographs", options.count)
        alone = passing(CASE, folder, state)
        ways = options.only.split(",")
        best = {way: [float("inf"), float("inf")] for way in ways}
        for way in ways * options.rounds:
            with workers_called(None if way == WAYS[0] else way) as workers:
                run = alone if workers is None else partial(spread_pass, folder, state, workers)
                run()  # each worker opens the network
                before, started = cpu_seconds(), time.perf_counter()
                images = run()
                seconds, used = time.perf_counter() - started, cpu_seconds() - before
            print(f"{way:12} {1e3 * used / images:6.1f} ms of CPU an image", flush=True)
            best[way] = [
                min(a, b / images) for a, b in zip(best[way], (seconds, used), strict=True)
            ]
    wall, cpu = best[WAYS[0]]
    for way, (seconds, used) in best.items():
        print(
            f"{way:12} {1 / seconds:6.1f} images/s, {used * 1e3:6.1f} ms of CPU an image: "
            f"{wall / seconds:.2f} by time, {cpu / used:.2f} by CPU"
        )


if __name__ == "__main__":
    main()
