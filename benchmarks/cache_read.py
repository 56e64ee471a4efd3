"""Reading an entry, against the plainest ways to read the same bytes.

    python -m benchmarks.cache_read [--gb 4] [--folder DIR] [--rounds 5]

Peers: `np.memmap` over the same rows, h5py's own fancy indexing on the same contiguous file and on
a chunked, compressed one. Rounds are interleaved and the best of each counts, since other work
runs on the same machine. `cold` drops the file from the page cache first (posix_fadvise).

Seen with --gb 4 on two idle cores, two runs. A million rows open in 9 and 7 ms. Of memmap's rate,
warm: once checked 1.19 and 1.13, the first read with its check 0.69 and 0.75 by `blocks()`, 0.71 by
`features`, which checks all before it returns; cold: 1.28 and 1.05 by `blocks()`, 1.11 and 1.01 by
`features`. Shuffled mini-batches of 256 rows of 8 KB are 4.3 and 4.4 times as fast as h5py's on the
same file, and 2,900 times as fast as on a chunked, compressed one.

Once more with --gb 2, since each row has a fold: warm once checked 1.26, first read 0.78 and 0.75;
cold 0.95 and 0.94.

With other work on both cores `features`, which checks on several threads, falls to 0.53 of memmap's
rate warm and 0.76 to 0.95 cold: there is no idle core left to check on.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.cache_toys import toy_entry
from probe.cache.features import FeatureSet

BATCH = 256
MINI_BATCHES = 40


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gb", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        opening(Path(folder), arguments.rounds)
        rows = int(arguments.gb * 1e9) // (2048 * 4)
        entry = toy_entry(Path(folder), rows=rows, width=2048)
        sequential(entry.path, arguments.rounds)
        shuffled(entry.path, Path(folder), arguments.rounds)


def best(
    rounds: int, ways: dict[str, Callable[[], Any]], *, before: Callable[[], Any] = int
) -> Any:
    """Return the best seconds of each way, taken in turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            before()
            started = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def opening(folder: Path, rounds: int) -> None:
    """Open an entry of a million rows."""
    path = toy_entry(folder, rows=1_000_000, width=8).path
    warm = best(rounds, {"open": lambda: FeatureSet.open(path)})["open"]
    cold = best(rounds, {"open": lambda: FeatureSet.open(path)}, before=lambda: drop(path))["open"]
    print(f"open 1,000,000 rows: {1e3 * warm:.0f} ms warm, {1e3 * cold:.0f} ms cold")
    path.unlink()


def drop(path: Path) -> None:
    """Drop a file from the page cache; no map of it may be left."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def consume(blocks: Iterable[Any]) -> float:
    """Touch every byte."""
    return float(sum(int(block.reshape(-1).view(np.uint64).sum()) & 0xFF for block in blocks))


def sequential(path: Path, rounds: int) -> None:
    """Read all rows in order."""
    region = FeatureSet.open(path).header.features["train"]
    checked = {"split": FeatureSet.open(path)["train"]}
    checked["split"].verify()

    def memmap() -> None:
        rows = np.memmap(path, region.dtype, "r", region.start, region.shape)
        consume(rows[i : i + 128] for i in range(0, len(rows), 128))

    def once_checked() -> None:
        rows = checked["split"].features
        consume(rows[i : i + 128] for i in range(0, len(rows), 128))

    ways = {
        "memmap": memmap,
        "once checked": once_checked,
        "first read, blocks()": lambda: consume(FeatureSet.open(path)["train"].blocks()),
        "first read, features": lambda: consume([FeatureSet.open(path)["train"].features]),
    }
    report("warm", best(rounds, ways), region)
    del ways["once checked"]
    checked.clear()  # its map would keep the file in memory
    report("cold", best(min(rounds, 3), ways, before=lambda: drop(path)), region)


def report(title: str, seconds: dict[str, float], region: Any) -> None:
    """Print rates, and the part of memmap's rate."""
    size = region.shape[0] * region.row_bytes
    for name, taken in seconds.items():
        ratio = seconds["memmap"] / taken
        print(f"{title}: {name:<22} {size / taken / 1e9:6.2f} GB/s  {ratio:.2f} of memmap's rate")


def shuffled(path: Path, folder: Path, rounds: int) -> None:
    """Read random mini-batches of 256 rows, all blocks checked before."""
    entry = FeatureSet.open(path)
    split, count = entry["train"], min(len(entry["train"]), 100_000)
    split.verify()
    dice = np.random.default_rng(0)
    batches = [np.sort(dice.choice(count, BATCH, replace=False)) for _ in range(MINI_BATCHES)]
    chunked = folder / "chunked.h5"
    with h5py.File(chunked, "w") as file:
        file.create_dataset("x", data=split.features[:count], compression="lzf", shuffle=True)
    with h5py.File(path, "r") as plain, h5py.File(chunked, "r") as packed:
        seconds = best(
            rounds,
            {
                "this cache": lambda: [split.rows(batch) for batch in batches],
                "np.memmap": lambda: [split.features[batch] for batch in batches],
                "h5py, same file": lambda: [plain["train/features"][b] for b in batches],
                "h5py, chunked lzf": lambda: [packed["x"][b] for b in batches[:2]],
            },
        )
    seconds["h5py, chunked lzf"] *= MINI_BATCHES / 2
    for name, taken in seconds.items():
        each = 1e3 * taken / MINI_BATCHES
        slower = taken / seconds["this cache"]
        print(f"shuffled batch of 256: {name:<18} {each:8.2f} ms  {slower:.1f} x this cache's time")


if __name__ == "__main__":
    main()
