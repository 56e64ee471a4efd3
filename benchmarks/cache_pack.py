"""Size and read speed of packed entries, on real VGG16 and EfficientNet-Lite0 features.

    PROBE_TEST_DATA=../shared python -m benchmarks.cache_pack [--root CIFAR10] [--limit 4000]

CIFAR-10 at 32 pixels (VGG16, the ImageNet-trained convolution layers; averaged, and the 2 x 2 map
before `pool5`) and at 64 (EfficientNet-Lite0). Reading is `features` of a file that is in the
page cache, every block checked; the best of three. The plain numbers are a map that is checked.

Seen on two busy cores, size against plain float32, at the speed of packing:

    codec        vgg16 averaged    vgg16 2 x 2 map    efficientnet_lite0    packs at (MB/s)
    blosc-lz4    0.46-0.49         0.24-0.25          0.81                  30 to 200
    blosc-zstd   0.29-0.30         0.15-0.16          0.53-0.55             9 to 33
    zstd         0.30              0.16               0.53                  20 to 120
    the same with --dtype float16: zstd 0.16, 0.08, 0.27; no codec 0.50

float16 moves a row by 2.4e-4 to 3.6e-4 of its norm; the largest error of a feature is 0.11 (VGG16,
whose features go into the hundreds) and 0.002. zstd after HDF5's own shuffle is the default: as
small as blosc-zstd and two to four times as fast to pack; all unpack at 0.1 to 3 GB/s, varying more
with the machine's other work than with the codec.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.common import run_json, vgg16_weights
from probe.cache.features import FeatureSet
from probe.cache.pack import CODECS, pack
from probe.cache.store import Store


def read_seconds(path: Path) -> float:
    """Return the best time to get all rows of an entry."""
    best = float("inf")
    for _ in range(3):
        entry = FeatureSet.open(path)
        started = time.perf_counter()
        for split in entry.splits.values():
            _ = split.features
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Print one line a codec."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=4000)
    arguments = parser.parse_args()
    cases = {
        "vgg16 conv5_3, averaged": ("vgg16", "32", "conv5_3", "avg"),
        "vgg16 conv5_3, 2 x 2 map": ("vgg16", "32", "conv5_3", "none"),
        "efficientnet_lite0 head": ("efficientnet_lite0", "64", "gap", "none"),
    }
    with tempfile.TemporaryDirectory() as cache:
        store = Store(Path(cache))
        for title, (backbone, size, layer, pool) in cases.items():
            weights = ["--weights", str(vgg16_weights())] if backbone == "vgg16" else []
            done, _ = run_json(
                "extract", "--backbone", backbone, "--dataset", "cifar10",
                "--dataset-root", str(arguments.root), "--split", "train",
                "--limit", str(arguments.limit), "--size", size, "--layer", layer,
                "--pool", pool, "--cache-dir", cache, *weights,
            )  # fmt: skip
            measure(title, Path(done["entries"][0]["path"]), store)


def measure(title: str, path: Path, store: Store) -> None:
    """Pack an entry in every way and print what each came to."""
    entry = FeatureSet.open(path)
    size = path.stat().st_size
    print(f"{title}: {size / 1e6:.1f} MB plain, read at {size / read_seconds(path) / 1e9:.2f} GB/s")
    for dtype in ("float32", "float16"):
        for codec in CODECS:
            if (codec, dtype) == ("none", "float32"):
                continue
            started = time.perf_counter()
            done = pack(entry, store, codec=codec, dtype=dtype)
            seconds = time.perf_counter() - started
            rate = size / read_seconds(done.entry.path) / 1e9
            print(
                f"  {dtype} {codec:<10} {done.after / size:.2f} of the size, packed at "
                f"{size / seconds / 1e6:.0f} MB/s, read at {rate:.2f} GB/s of plain float32; "
                f"largest error {done.largest:.2g}, relative {done.relative:.2g}"
            )


if __name__ == "__main__":
    main()
