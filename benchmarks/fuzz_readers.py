"""Thousands of damaged inputs for every reader: none may end otherwise than read or a ProbeError.

    nice python -m benchmarks.fuzz_readers [--count 250] [--seed 1] [--only NAME] [--keep DIR]

Each reader has a process of its own, which is ended after ten minutes: a hang is a finding, and so
is more than 1 GB of memory. `--keep` saves what ended in another exception.

Seen with 250 inputs each (10,500 over 42 readers, in two runs on a busy machine): no other
exception and no hang; one finding, 2,051 MB for an HDF5 feature file in which a flipped bit claims
a text of 2 GB, mended (77 MB). The readers took 73 to 142 MB otherwise. With seed 2, 14,500 inputs
over 58 readers: one other exception (a column of an Arrow file whose name is not UTF-8, mended), no
hang, 148 MB at most. Of five readers that were added then, Arrow's had ended the process before (an
offset that leads out of the file, mended).
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from tests.fuzzing import READERS, attack

LIMIT = 600  # seconds a reader
MOST = 1 << 20  # kB


def work(name: str, folder: Path, count: int, seed: int, results: Any) -> None:
    """Attack one reader and put what was found into the queue."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    found = attack(READERS[name], folder, count, seed)
    results.put((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def main() -> int:
    """Attack all readers and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    tried = bad = 0
    context = multiprocessing.get_context("spawn")
    for name in (one for one in READERS if asked.only in one):
        with tempfile.TemporaryDirectory() as folder:
            started, results = time.perf_counter(), context.Queue()
            process = context.Process(
                target=work, args=(name, Path(folder), asked.count, asked.seed, results)
            )
            process.start()
            try:
                found, memory = results.get(timeout=LIMIT)
            except Exception:  # no answer: it hangs, or died
                found, memory = [(b"", f"no answer, exit code {process.exitcode}")], 0
                process.kill()
            process.join()
        if memory > MOST:
            found.append((b"", f"{memory // 1024} MB"))
        tried, bad = tried + asked.count, bad + len(found)
        seconds = time.perf_counter() - started
        print(f"{name:22} {len(found):3} {seconds:6.1f} s {memory // 1024:5} MB", flush=True)
        for number, (data, error) in enumerate(found):
            print("   ", error, flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{name.replace(' ', '_')}_{number}").write_bytes(data)
    print(f"{tried:,} inputs, {bad} that ended otherwise")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
