"""Peak memory of `probe extract` does not grow with the dataset.

    PROBE_TEST_DATA=... python -m benchmarks.memory [--layouts folders,binary,pickled]

EfficientNet-Lite0 at 32x32 over CIFAR-10; peak resident memory of the whole process as the kernel
counted it. 10,000 images of test and 200,000 (each image of train four times under other names) as
class folders of JPEG, and 10,000 and 60,000 in both official layouts.

Seen on two cores, by the kernel's count within the process (VmHWM), of 10,000 and all 200,000
images in folders of their own: 194 and 212 MB, 1.09 times, 95 bytes an image: its name twice (25
bytes each), labels and hash (20), folds of the checksums (16), row numbers (9). By this script,
which counts the whole process: 200 and 218 MB. Official layouts
with MXNet as the engine: binary 450 and 449 MB, pickled 693 and 727 MB (two unpickled batches are
kept at a time).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import PROBE, material

MEASURE = (
    "import resource, subprocess, sys;"
    "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
NETWORK = ("--backbone", "efficientnet_lite0", "--weights", "random:0", "--size", "32")
COPIES = 4


def peak_mb(*arguments: str) -> float:
    """Return one command's peak resident memory in MB; a fresh parent counts one child only."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *PROBE, "extract", *NETWORK, *arguments, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout) / 1024


def write_folders(unpack: list[str], root: Path) -> list[tuple[str, ...]]:
    subprocess.run([*unpack, str(root / "folders"), "--folders"], check=True)
    for path in list((root / "folders" / "train").rglob("*.jpg")):
        target = root / "many" / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for copy in range(COPIES):
            os.link(path, target / f"{copy}-{path.name}")
    for path in sorted((root / "folders" / "test").rglob("*.jpg")):
        target = root / "few" / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        os.link(path, target / path.name)
    return [("--dataset", str(root / name)) for name in ("few", "many")]


def write_binary(unpack: list[str], root: Path) -> list[tuple[str, ...]]:
    subprocess.run([*unpack, str(root / "binary")], check=True)
    (root / "binary" / "cifar-10-batches-py").rename(root / "pickled")
    return limited(root / "binary")


def write_pickled(unpack: list[str], root: Path) -> list[tuple[str, ...]]:
    subprocess.run([*unpack, str(root / "official")], check=True)
    (root / "pickled").mkdir()
    (root / "official" / "cifar-10-batches-py").rename(root / "pickled" / "cifar-10-batches-py")
    return limited(root / "pickled")


def limited(root: Path) -> list[tuple[str, ...]]:
    """Return the options that read some of the official files' images, and all."""
    dataset = ("--dataset", "cifar10", "--dataset-root", str(root))
    return [(*dataset, "--limit", limit) for limit in ("5000", "50000")]


# what writes each, and how many images are read
LAYOUTS = {
    "folders": (write_folders, "10,000 and 200,000"),
    "binary": (write_binary, "10,000 and 60,000"),
    "pickled": (write_pickled, "10,000 and 60,000"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    unpack = [sys.executable, str(material() / "cifar10" / "unpack.py")]
    for layout in parser.parse_args().layouts.split(","):
        write, counts = LAYOUTS[layout]
        with tempfile.TemporaryDirectory() as name:
            peaks = [
                peak_mb(*dataset, "--cache-dir", str(Path(name) / f"cache{number}"))
                for number, dataset in enumerate(write(unpack, Path(name)))
            ]
        print(
            f"{layout}: {counts} images, {peaks[0]:.0f} and {peaks[1]:.0f} MB, ratio "
            f"{peaks[1] / peaks[0]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
