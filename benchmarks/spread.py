"""What handing blocks to workers costs, against one process on the same cores.

    python -m benchmarks.spread [--rounds 2] [--count 1536]

ResNet-18 at 224 over photographs of 500 x 375 pixels, files to a sealed entry. Ways take turns,
each with workers of its own that have done the pass once before, and the best of all rounds counts.
CPU seconds are those of the command and of its workers together. The bar is 0.95 of one process's
rate on the same cores.

Seen on two cores that little else used, 1,536 photographs, best of 2 rounds:

    one process    38.7 images/s,   50.4 ms of CPU an image
    loky:2         40.1 images/s,   47.7 ms of CPU an image: 1.04 by time, 1.06 by CPU
    dask           37.3 images/s,   51.3 ms of CPU an image: 0.96 by time, 0.98 by CPU

Both meet the bar. With 512 photographs, 13 seconds, loky:2 had 0.93 by time and 0.96 by CPU, Dask
0.93 and 0.94, since one worker waits at the end for the last batch of the other, of 1.6 seconds
there. Dask's workers, nannies and scheduler take CPU while they sleep, most of it for its profiler
and the tick of its event loops: 190 ms a second, of which `probe.schedulers.dask.QUIET` leaves 40
to 65. Ray was not measured, nor the growth from one worker to two.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
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


def spreading(folder: Path, state: Path, workers: Workers) -> Callable[[], int]:
    """Return a function that makes an entry on workers, in a fresh cache folder each time."""
    first = prepared_pass(CASE, folder, state / "0", "onnx")
    network = first.network_for([(cut.layer, cut.pool) for cut in first.job.cuts])

    def run() -> int:
        cache = Path(tempfile.mkdtemp(dir=state))
        shutil.copy(state / "0" / "memo.sqlite", cache)
        made = prepared_pass(CASE, folder, cache, "onnx")
        there = Elsewhere(workers, lambda _: network)
        extract_features(
            made.job, Store(cache), made.engine_for, Silent(), workers=2, elsewhere=there
        )
        return int(made.job.count)

    return run


def main() -> None:
    """Print the best rate and CPU seconds of each way, and their ratios to one process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--count", type=int, default=1536)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        folder = write_photographs(state / "photographs", options.count)
        alone = passing(CASE, folder, state)
        ways = options.only.split(",")
        best = {way: [float("inf"), float("inf")] for way in ways}
        for way in ways * options.rounds:
            with workers_called(None if way == WAYS[0] else way) as workers:
                run = alone if workers is None else spreading(folder, state, workers)
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
