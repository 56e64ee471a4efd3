"""Heads on entries many times as large as the memory they may take.

    python -m benchmarks.heads_memory [--budget 400MB] [--times 4 6] [--folder DIR] [--solver ...]

A random entry of 1,024 features; each head is one `probe head --max-memory BUDGET`, and what counts
is the peak resident memory of that whole process (interpreter, MXNet or scikit-learn, and mapped
pages of the file) as the kernel counted it. A head that would not stay below the budget has to say
so before it starts, with the smallest one that would do.

Seen with 1.6 GB of features, 390,625 images, and 400 MB allowed (each run alone, by the kernel's
count; in brackets an earlier version's):

    dense, 1 epoch     380 and 389 MB (379)
    path, one C        312 and 327 MB (365)
    prototype          270 MB (301); with 3.2 GB, 781,250 images, and 420 MB allowed: (390)
    ridge, alpha grid  298 MB (342)
    knn, 64 queries    257 MB (280)
    logistic           refused: 8,280 MB, or path

Of these 175 MB are interpreter, NumPy and scikit-learn, and 95 MB MXNet. What grows with the images
is their ids, hashes and probabilities, 0.25 kB an image with ten classes; rows do not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cache_toys import toy_entry
from benchmarks.common import PROBE
from probe.core.options import read_bytes

WIDTH = 1024
HEADS = {
    "ridge": ("--alpha", "grid"),
    "prototype": (),
    "path": ("--C", "1e-4"),
    "dense": ("--epochs", "1"),
    "knn": ("--val-size", "64"),
    "logistic": (),
}
MEASURE = (
    "import resource, subprocess, sys;"
    "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
    "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def measure(solver: str, folder: str, budget: str) -> tuple[int, str]:
    """Fit one head; return its peak in bytes, 0 if it was refused, and a line about it."""
    command = [*PROBE, "head", "--head", solver, *HEADS[solver], "--cache-dir", folder]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command, "--max-memory", budget, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, peak = (int(one) for one in done.stdout.split())
    if code == 2:
        return 0, done.stderr.strip().splitlines()[-1]
    if code:
        raise SystemExit(done.stderr)
    return peak * 1024, f"{peak * 1024 / 1e6:6,.0f} MB  {time.perf_counter() - started:5.0f} s"


def main() -> None:
    """Print each head's peak, and fail if one is above the budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="400MB")
    parser.add_argument("--times", type=int, nargs="*", default=[4, 6], help="the budget")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--solver", nargs="*", default=list(HEADS))
    arguments = parser.parse_args()
    budget, above = read_bytes(arguments.budget), 0
    for times in arguments.times:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            entry = toy_entry(Path(folder), rows=times * budget // (4 * WIDTH), width=WIDTH)
            print(f"{entry.path.stat().st_size / 1e6:,.0f} MB of features, {arguments.budget}:")
            for solver in arguments.solver:
                peak, line = measure(solver, folder, arguments.budget)
                above += peak > budget
                print(f"  {solver:<10} {line}", flush=True)
    sys.exit(1 if above else 0)


if __name__ == "__main__":
    main()
