"""Peak memory of `probe extract` does not grow with the dataset.

    PROBE_TEST_DATA=... python -m benchmarks.memory

EfficientNet-Lite0 at 32x32 over 10,000 and over 60,000 images of CIFAR-10, as class folders of JPEG
and in both official layouts; peak resident memory of the whole process as the kernel counted it.

Seen on two cores: folders 427 and 441 MB, binary 449 and 450 MB, pickled 693 and 727 MB (two
unpickled batches are kept at a time).
"""

from __future__ import annotations

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


def peak_mb(*arguments: str) -> float:
    """Return one command's peak resident memory in MB; a fresh parent counts one child only."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *PROBE, *arguments, "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout) / 1024


def main() -> None:
    unpack = [sys.executable, str(material() / "cifar10" / "unpack.py")]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        subprocess.run([*unpack, str(root / "official")], check=True)
        subprocess.run([*unpack, str(root / "folders"), "--folders"], check=True)
        (root / "pickled").mkdir()
        (root / "official" / "cifar-10-batches-py").rename(root / "pickled" / "cifar-10-batches-py")
        layouts = {
            "folders": ("--dataset", str(root / "folders")),
            "binary": ("--dataset", "cifar10", "--dataset-root", str(root / "official")),
            "pickled": ("--dataset", "cifar10", "--dataset-root", str(root / "pickled")),
        }
        for layout, dataset in layouts.items():
            peaks = []
            for limit in ("5000", "50000"):
                cache = str(root / f"cache-{layout}-{limit}")
                peaks.append(
                    peak_mb(
                        "extract",
                        "--backbone",
                        "efficientnet_lite0",
                        "--weights",
                        "random:0",
                        "--size",
                        "32",
                        *dataset,
                        "--limit",
                        limit,
                        "--cache-dir",
                        cache,
                    )
                )
            print(
                f"{layout}: 10,000 images {peaks[0]:.0f} MB, 60,000 images {peaks[1]:.0f} MB, "
                f"ratio {peaks[1] / peaks[0]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
