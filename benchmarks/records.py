"""Images decoded a second from one file of records, and from archives, against a plain folder.

    PROBE_TEST_DATA=... python -m benchmarks.records [--rounds 5]

The same JPEGs lie as class folders, as MXNet's records (`probe dataset index` and `pack`), and in a
tar and a zip. A process lists the dataset, hashes it, and then decodes every image on two threads,
as a pass does; each image is hashed again as it is decoded. The forms take turns, each time in a
process of its own, with the files in the system's memory, so that whatever else the machine does
meets all of them. `of the folder` is the median over the rounds of a form's rate by that of the
folder in the same round, by time and by CPU seconds (all threads), which move less on a busy
machine.

Memory is what the process holds beyond its start, after a tenth of the images and after all.

Seen on two cores (median of 5 rounds):

SEEN
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import cifar10_folders
from probe.datasets import load_dataset
from probe.datasets.indexing import write_lists
from probe.datasets.packing import pack_list
from probe.datasets.prefetch import load_batches

THREADS = 2
BATCH = 256


def resident() -> float:
    """Return the megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measure(place: str, cache: str, side: int) -> dict[str, float]:
    """Decode every image of a dataset; return seconds and memory."""
    started = time.perf_counter()
    images = load_dataset(place, cache_dir=Path(cache), workers=THREADS).splits["train"].images
    listed = time.perf_counter()
    images.content()
    hashed = time.perf_counter()
    before, early, done, busy = resident(), 0.0, 0, time.process_time()
    rows = np.array_split(np.arange(len(images)), -(-len(images) // BATCH))

    def corner(row: int) -> NDArray[np.uint8]:
        return images.image(row)[:side, :side]

    for some, _ in load_batches(corner, rows, workers=THREADS):
        done += len(some)
        if not early and done >= len(images) / 10:
            early = resident() - before
    seconds, busy = time.perf_counter() - hashed, time.process_time() - busy
    return {
        "rate": len(images) / seconds, "by CPU": len(images) / busy, "list": listed - started,
        "hash": hashed - listed,
        "early": early, "late": resident() - before,
    }  # fmt: skip


def forms(folder: Path, out: Path) -> dict[str, Path]:
    """Write a folder in every form."""
    out.mkdir()
    (listed,) = write_lists(load_dataset(str(folder), cache_dir=out / "c"), out / folder.name)
    records = pack_list(listed.path, root=folder, workers=THREADS).path
    tar, zipped = out / f"{folder.name}.tar", out / f"{folder.name}.zip"
    files = sorted(path for path in folder.rglob("*.jpg"))
    with tarfile.open(tar, "w") as archive, zipfile.ZipFile(zipped, "w") as other:
        for path in files:
            archive.add(path, path.relative_to(folder))
            other.write(path, path.relative_to(folder))
    return {"folder": folder, "rec": records, "tar": tar, "zip": zipped}


def photographs(out: Path, count: int) -> Path:
    """Write JPEGs of 500 x 375 pixels with as much detail as photographs, in two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (24, 32, 3), np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noise = random.normal(0, 12, (375, 500, 1))
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
        path = out / f"class {number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
    return out


def main() -> None:
    """Compare the forms."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=3)
    options = parser.parse_args()
    if options.measure:
        place, cache, side = options.measure
        print(json.dumps(measure(place, cache, int(side))))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        small = cifar10_folders(root / "cifar", train=2000, test=0) / "train"
        sets = {"CIFAR-10": (small, 32), "500 x 375": (photographs(root / "photographs", 3000), 64)}
        for title, (folder, side) in sets.items():
            places = forms(folder, root / title)
            found: dict[str, list[dict[str, float]]] = {form: [] for form in places}
            for number in range(options.rounds):
                for form, place in places.items():
                    cache = root / f"cache {title} {number} {form}"
                    words = ["--measure", str(place), str(cache), str(side)]
                    command = [sys.executable, "-m", "benchmarks.records", *words]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[form].append(json.loads(done.stdout))
            report(title, found)


def report(title: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians of a set of images."""
    print(f"{title:10} images/s  of the folder, by CPU  list s  hash s  MB at a tenth, at the end")
    for form, rounds in found.items():
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        by_time, by_cpu = (
            statistics.median(a[key] / b[key] for a, b in zip(rounds, found["folder"], strict=True))
            for key in ("rate", "by CPU")
        )
        print(
            f"{form:10} {middle['rate']:8,.0f} {by_time:14.2f} {by_cpu:8.2f} {middle['list']:7.2f} "
            f"{middle['hash']:7.2f} {middle['early']:14.1f} {middle['late']:11.1f}"
        )


if __name__ == "__main__":
    main()
