"""Images decoded a second from one file of records, and from archives, against a plain folder.

    PROBE_TEST_DATA=... python -m benchmarks.records [--rounds 3]

The same JPEGs lie as class folders, as MXNet's records (`probe dataset index` and `pack`), and in a
tar and a zip, in the system's memory. Every image is read, hashed again and decoded on two threads,
as a pass does. One process has all forms open and decodes 250 images of each in turn, so that
whatever else the machine does meets all of them: `of the folder` is a form's rate by that of the
folder over a round, by time and by CPU seconds (all threads), which move less on a busy machine;
both are medians of the rounds.

Then each form has a process of its own, which lists the dataset, hashes it for the first time and
decodes it. Memory is what it holds beyond its start, after a tenth of the images and after all.

Seen on two otherwise idle cores, median of 3 rounds:

    CIFAR-10   images/s  of the folder, by CPU  list s  hash s  MB: a tenth, all
    folder        4,377           1.00     1.00    0.05    0.48          2.2  2.3
    rec           5,149           1.18     1.19    0.09    0.10          2.2  2.3
    tar           5,254           1.19     1.20    1.08    0.12          2.2  2.3
    zip           5,175           1.19     1.19    0.32    0.12          2.2  2.2
    500 x 375  images/s  of the folder, by CPU  list s  hash s  MB: a tenth, all
    folder        1,200           1.00     1.00    0.01    0.15          2.6  2.1
    rec           1,193           0.99     1.00    0.01    0.12          2.6  4.6
    tar           1,198           1.02     1.01    0.12    0.13          2.4  4.1
    zip           1,186           0.99     1.00    0.03    0.15          2.4  2.2

On cores that others used (load 7 to 11) it was 1.15, 1.19, 1.21 and 1.03, 1.08, 0.99 by time.
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
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import cifar10_folders
from probe.datasets import Images, load_dataset
from probe.datasets.forms.indexing import write_lists
from probe.datasets.forms.packing import pack_list
from probe.datasets.images.prefetch import load_batches

THREADS = 2
IN_TURN = 250  # images
CORNER = 32  # pixels that are kept of each side


def resident() -> float:
    """Return the megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def decode(images: Images, rows: NDArray[np.intp]) -> None:
    """Read and decode some images on two threads."""

    def corner(row: int) -> NDArray[np.uint8]:
        return images.image(row)[:CORNER, :CORNER].copy()

    for _ in load_batches(corner, np.array_split(rows, -(-len(rows) // 50)), workers=THREADS):
        pass


def rates(places: Mapping[str, Path], cache: Path) -> dict[str, tuple[float, float]]:
    """Return images a second of each form, by time and by CPU; the forms take turns."""
    forms = {
        form: load_dataset(str(place), cache_dir=cache, workers=THREADS).splits["train"].images
        for form, place in places.items()
    }
    for images in forms.values():
        images.content()
    spent = {form: np.zeros(2) for form in forms}
    count = len(forms["folder"])
    for start in range(0, count, IN_TURN):
        rows = np.arange(start, min(start + IN_TURN, count))
        turn = start // IN_TURN % len(forms)
        for form in [*forms, *forms][turn : turn + len(forms)]:
            before = np.array([time.perf_counter(), time.process_time()])
            decode(forms[form], rows)
            spent[form] += np.array([time.perf_counter(), time.process_time()]) - before
    return {form: (count / wall, count / busy) for form, (wall, busy) in spent.items()}


def alone(place: str, cache: str) -> dict[str, float]:
    """List, hash and decode one form; return seconds and memory."""
    started = time.perf_counter()
    images = load_dataset(place, cache_dir=Path(cache), workers=THREADS).splits["train"].images
    listed = time.perf_counter()
    images.content()
    hashed = time.perf_counter()
    before, first = resident(), len(images) // 10
    decode(images, np.arange(first))
    early = resident() - before
    decode(images, np.arange(first, len(images)))
    late = resident() - before
    return {"list": listed - started, "hash": hashed - listed, "early": early, "late": late}


def forms_of(folder: Path, out: Path) -> dict[str, Path]:
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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", nargs=2)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(*options.alone)))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        small = cifar10_folders(root / "cifar", train=2000, test=0) / "train"
        sets = {"CIFAR-10": small, "500 x 375": photographs(root / "photographs", 2000)}
        for title, folder in sets.items():
            places = forms_of(folder, root / title)
            rounds = [rates(places, root / f"cache {title}") for _ in range(options.rounds)]
            print(f"{title:10} images/s  of the folder, by CPU  list s  hash s  MB: a tenth, all")
            for form, place in places.items():
                cache = root / f"cache {title} {form}"
                command = ["benchmarks.records", "--alone", str(place), str(cache)]
                done = subprocess.run(
                    [sys.executable, "-m", *command], capture_output=True, text=True, check=True
                )
                own = json.loads(done.stdout)
                by_time, by_cpu = (
                    statistics.median(one[form][k] / one["folder"][k] for one in rounds)
                    for k in (0, 1)
                )
                rate = statistics.median(one[form][0] for one in rounds)
                print(
                    f"{form:10} {rate:8,.0f} {by_time:14.2f} {by_cpu:8.2f} {own['list']:7.2f} "
                    f"{own['hash']:7.2f} {own['early']:12.1f} {own['late']:4.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
