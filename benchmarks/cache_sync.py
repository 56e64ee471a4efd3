"""`probe cache sync` of 100,000 image files: unchanged, a few changed, and strictly.

    python -m benchmarks.cache_sync [--files 100000] [--folder DIR]

Tiny random PNG files in 10 class folders, SqueezeNet with random weights at 32 pixels: the first
pass is not what this measures.

Seen on two busy cores with the files in the page cache: first pass 32 s, unchanged 1.4 s,
unchanged with --strict 6.4 s, 10 files replaced 3.4 s with 10 forwarded. With a load of 16 on the
two cores: 181 s, 19.7 s, 37.8 s and 45.7 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import run_json

CHANGED = 10


def lay_out(folder: Path, count: int) -> None:
    """Write the files, with times long ago."""
    base = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = base.copy()
        pixels[0] = np.frombuffer(number.to_bytes(24, "little"), np.uint8).reshape(8, 3)
        Image.fromarray(pixels).save(path, compress_level=0)
        os.utime(path, (1e9, 1e9))


def main() -> None:
    """Print seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        images, cache = Path(name) / "images", str(Path(name) / "cache")
        lay_out(images, arguments.files)
        _, seconds = run_json(
            "extract", "--backbone", "squeezenet1_1", "--weights", "random:0", "--size", "32",
            "--dataset", str(images), "--cache-dir", cache,
        )  # fmt: skip
        print(f"{arguments.files:,} files; first pass {seconds:.0f} s")
        for title, options in (("unchanged", ()), ("unchanged, --strict", ("--strict",))):
            done, seconds = run_json("cache", "sync", *options, "--cache-dir", cache)
            assert done["changes"] == []
            print(f"{title}: {seconds:.1f} s")
        for path in sorted(images.rglob("*.png"))[:: arguments.files // CHANGED][:CHANGED]:
            Image.new("RGB", (8, 8), (200, 100, 7)).save(path)
            with path.open("ab") as file:
                file.write(path.name.encode())  # each another content
        done, seconds = run_json("cache", "sync", "--cache-dir", cache)
        print(f"{done['new']} replaced: {seconds:.1f} s, {done['forwarded']} forwarded")


if __name__ == "__main__":
    main()
