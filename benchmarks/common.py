"""What the benchmarks share: the real material, and running the command line as a user does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

PROBE = [sys.executable, "-m", "probe"]


def material() -> Path:
    """Return the folder of real weights and images, or stop with the reason."""
    folder = os.environ.get("PROBE_TEST_DATA")
    if not folder:
        sys.exit("set PROBE_TEST_DATA to the folder with cifar10/ and weights/")
    return Path(folder)


def vgg16_weights() -> Path:
    """Return VGG16's ImageNet weights."""
    return material() / "weights" / "vgg16_imagenet_notop.h5"


def cifar10_folders(out: Path, *, train: int, test: int) -> Path:
    """Lay out the first images of each class and split, by file name, as class folders."""
    for split, count in (("train", train), ("test", test)):
        with tarfile.open(material() / "cifar10" / f"{split}.tar") as tar:
            taken: dict[str, int] = {}
            for member in sorted(tar.getmembers(), key=lambda one: one.name):
                label, name = member.name.split("/")
                taken[label] = taken.get(label, 0) + 1
                source = tar.extractfile(member)
                if taken[label] > count or source is None:
                    continue
                target = out / split / label / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    return out


def run_json(*arguments: str) -> tuple[dict[str, Any], float]:
    """Run `probe ... --json` and return its object and the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run([*PROBE, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), time.perf_counter() - started
