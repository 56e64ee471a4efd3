"""What it takes to forward, keep and fit 1.28 million, 14 million and 400 million images.

    OMP_NUM_THREADS=1 python -m benchmarks.scale [--most 1000000] [--core-price 0.0408] ...

Measures on this machine, in CPU seconds since other work may share it: images that a core forwards
at 224 pixels (JPEGs of 500 x 375, decoding included), bytes of an entry's row and seconds to open
one, memory and seconds that an image costs where a folder is listed and hashed, and a head's fit by
rows. Multiplies that to three datasets and two fleets, for the tables of docs/scale.md. What a GPU
forwards is not measured but given (`--gpu-rate`, images a second of ResNet-50); how fast the cores
beside it decode is measured, and the slower of the two counts.

What was seen is on that page: 12 min 10 s on two cores with a load of 11 to 18, the heads once more
with OMP_NUM_THREADS=1. Without it idle BLAS threads count too, and path's CPU seconds mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cache_toys import toy_entry
from benchmarks.common import PROBE
from benchmarks.records import photographs
from probe.datasets import load_dataset
from probe.heads import PathHead, RidgeHead

NETWORKS = {"efficientnet_lite0": 1280, "resnet18": 512, "resnet50": 2048}  # their widths
IMAGES = (64, 320)  # forwarded; the difference is what images cost without the start
ROWS = (10_000, 100_000, 1_000_000)
FITTED = (10_000, 20_000, 40_000)
CLASSES, WIDTH = 10, 1280
SETS = {"ImageNet-1k": 1_281_167, "ImageNet-21k": 14_197_122, "LAION-400M": 413_000_000}
CORES, GPUS = 64, 8  # of the fleets
LINKS = 30_000  # names of one file; ext4 allows 65,000


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds by the clock and of all cores, and the most megabytes that were held."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True, kw_only=True)
class Prices:
    """USD an hour of a core and of a GPU with its cores; what that GPU forwards is assumed."""

    core: float
    gpu: float
    gpu_rate: float
    gpu_cores: int


def spent(*command: str) -> Spent:
    """Run a command in a process of its own."""
    script = (
        "import json, resource, subprocess, sys, time; started = time.perf_counter();"
        "none = subprocess.DEVNULL;"
        "subprocess.run(sys.argv[1:], check=True, stdout=none, stderr=none);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([time.perf_counter() - started, used.ru_utime + used.ru_stime,"
        "used.ru_maxrss / 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], stdout=subprocess.PIPE, check=True
    )
    wall, cpu, peak = json.loads(done.stdout)
    return Spent(wall=wall, cpu=cpu, peak=peak)


def passes(folder: Path) -> dict[str, float]:
    """Return the images that a core forwards in a second, by network."""
    photographs(folder / "photographs", max(IMAGES))
    found = {}
    for name in NETWORKS:
        used = [
            spent(
                *PROBE, "extract", "--backbone", name, "--weights", "random:0", "--size", "224",
                "--dataset", str(folder / "photographs"), "--limit", str(count),
                "--cache-dir", str(folder / f"{name}-{count}"), "--json",
            )
            for count in IMAGES
        ]  # fmt: skip
        found[name] = (IMAGES[1] - IMAGES[0]) / (used[1].cpu - used[0].cpu)
        print(f"{name:20} {found[name]:7.1f} images/s a core, decoding included", flush=True)
    return found


def decoding(folder: Path) -> float:
    """Return the images that a core decodes in a second; print what it hashes, too."""
    found = load_dataset(str(folder / "photographs"), cache_dir=folder / "c")
    images = found.splits["train"].images
    started = time.process_time()
    images.content()
    hashed = time.process_time() - started
    started = time.process_time()
    for row in range(len(images)):
        images.image(row)
    decoded = time.process_time() - started
    rates = (len(images) / decoded, len(images) / hashed)
    print(f"a core decodes {rates[0]:,.0f} images/s and hashes {rates[1]:,.0f}", flush=True)
    return len(images) / decoded


def entries(folder: Path, most: int) -> float:
    """Print what entries of so many rows take; return bytes a row beside the features."""
    beside = 0.0
    for rows in (one for one in ROWS if one <= most):
        entry = toy_entry(folder / f"entry{rows}", rows=rows, width=64)
        beside = entry.path.stat().st_size / rows - 64 * 4
        open_entry = (
            "import sys, time; "
            "from probe.cache.features import FeatureSet; started = time.perf_counter(); "
            "held = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20; "
            "before = held(); "
            "one = FeatureSet.open(sys.argv[1]); opened = time.perf_counter() - started; "
            "split = one.splits['train']; len(split.ids); split.labels; split.content; "
            "print(opened, time.perf_counter() - started, "
            "held() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", open_entry, str(entry.path)], stdout=subprocess.PIPE, check=True
        )
        opened, read, held = map(float, done.stdout.split())
        print(
            f"entry of {rows:9,} rows: {beside:.0f} bytes a row beside its features; opens in "
            f"{1000 * opened:.0f} ms, with ids, labels and hashes in {read:.2f} s, {held:.0f} MB",
            flush=True,
        )
    return beside


def listing(folder: Path, most: int) -> None:
    """Print what listing and hashing a folder takes."""
    source = next((folder / "photographs").rglob("*.jpg")).read_bytes()[:1000]
    code = (
        "import sys; from pathlib import Path; from probe.datasets import load_dataset; "
        "found = load_dataset(sys.argv[1], cache_dir=Path(sys.argv[2])).splits['train'].images; "
        "found.content() if sys.argv[3] == 'hash' else None"
    )
    none = spent(sys.executable, "-c", "from probe.datasets import load_dataset")
    for rows in (one for one in ROWS if one <= most):
        place = folder / f"list{rows}"
        make_files(place, rows, source)
        listed, hashed = (
            spent(sys.executable, "-c", code, str(place), str(folder / f"c{rows}{what}"), what)
            for what in ("list", "hash")
        )
        held = [1024**2 * (one.peak - none.peak) / rows for one in (listed, hashed)]
        print(
            f"folder of {rows:9,} files: listed in {listed.cpu - none.cpu:.1f} CPU s and "
            f"{held[0]:,.0f} bytes an image; with their hashes in {hashed.cpu - none.cpu:.1f} s "
            f"and {held[1]:,.0f} bytes",
            flush=True,
        )


def make_files(place: Path, rows: int, source: bytes) -> None:
    """Give a few small files many names, in ten class folders."""
    for number in range(CLASSES):
        (place / f"{number}").mkdir(parents=True)
    first = None
    for row in range(rows):
        path = place / f"{row % CLASSES}" / f"{row:08d}.jpg"
        if first is None or row % LINKS == 0:
            path.write_bytes(source + row.to_bytes(8, "little"))
            first = path
        else:
            os.link(first, path)


def fits() -> None:
    """Print the CPU seconds that heads take by rows and classes; 1,280 features, one penalty."""
    for classes, kinds in ((CLASSES, (PathHead, RidgeHead)), (1000, (PathHead, RidgeHead))):
        random = np.random.default_rng(0)
        centres = random.standard_normal((classes, WIDTH), np.float32) / 25
        y = np.arange(max(FITTED)) % classes
        X = random.standard_normal((len(y), WIDTH), np.float32) + centres[y]
        for kind in kinds:
            used = []
            for rows in FITTED:
                head = kind()
                started = time.process_time()
                head.fit(X[:rows], y[:rows])
                used.append(time.process_time() - started)
            slope = float(np.polyfit(FITTED, used, 1)[0])
            words = ", ".join(
                f"{rows:,} rows {one:.1f} s" for rows, one in zip(FITTED, used, strict=True)
            )
            print(
                f"{kind.__name__}, {classes:,} classes: {words}; a million rows more "
                f"{1e6 * slope:,.0f} CPU s",
                flush=True,
            )


def fleets(rates: Mapping[str, float], decoded: float, beside: float, prices: Prices) -> None:
    """Print what the datasets take: core hours, storage, and both fleets' hours and cost."""
    print("\nnetwork, dataset: core hours; 64 cores take, at; 8 GPUs take, at; features")
    for name, width in NETWORKS.items():
        relative = rates[name] / rates["resnet50"]
        gpu = min(prices.gpu_rate * relative, decoded * prices.gpu_cores)
        bound = "decoding" if gpu == decoded * prices.gpu_cores else "the GPU"
        for dataset, images in SETS.items():
            hours = images / rates[name] / 3600
            gpu_hours = images / gpu / 3600
            size = images * (4 * width + beside) / 1e9
            print(
                f"{name}, {dataset}: {hours:,.0f}; {_short(hours / CORES)} h, "
                f"{_short(hours * prices.core)} USD; {_short(gpu_hours / GPUS)} h, "
                f"{_short(gpu_hours * prices.gpu)} USD (bound by {bound}); {_short(size)} GB"
            )


def _short(value: float) -> str:
    """Return a number with two digits that count."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> None:
    """Measure, then multiply."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=ROWS[-1], help="rows to go up to")
    parser.add_argument("--core-price", type=float, default=0.0408, help="USD an hour of a core")
    parser.add_argument("--gpu-price", type=float, default=1.006, help="USD an hour with its cores")
    parser.add_argument("--gpu-rate", type=float, default=1000, help="images/s of ResNet-50")
    parser.add_argument("--gpu-cores", type=int, default=4, help="cores beside a GPU")
    options = parser.parse_args()
    prices = Prices(
        core=options.core_price, gpu=options.gpu_price, gpu_rate=options.gpu_rate,
        gpu_cores=options.gpu_cores,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = passes(folder)
        decoded = decoding(folder)
        beside = entries(folder, options.most)
        listing(folder, options.most)
        fits()
        fleets(rates, decoded, beside, prices)


if __name__ == "__main__":
    main()
