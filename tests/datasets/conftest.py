"""Real CIFAR-10 in its official formats, small ones made up here, and a network that is off."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.datasets.serving import server as server  # noqa: PLC0414 - a fixture
from tests.thorough import THOROUGH

CIFAR10_CLASSES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]
LONG_AGO = 1_000_000_000  # a time stamp that the memo believes


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both official layouts of the 60,000 images."""
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there is no real CIFAR-10")
    if not THOROUGH:
        pytest.skip("unpacking 60,000 images takes a minute: make test-thorough")
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent  # of all processes of this run: unpacking takes half a minute
    out = base / "cifar10 of all"
    with FileLock(f"{out}.lock"):
        if not out.exists():
            made = tmp_path_factory.mktemp("cifar10")
            unpack = Path(data) / "cifar10" / "unpack.py"
            subprocess.run([sys.executable, unpack, made], check=True)
            for path in made.rglob("*"):
                os.utime(path, (LONG_AGO, LONG_AGO))
            made.rename(out)
    return out


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def write_cifar10(root: Path, *, rows: int = 4, seed: int = 0) -> None:
    """Write both layouts of the same made-up images, `rows` a file."""
    random = np.random.default_rng(seed)
    py, raw = root / "cifar-10-batches-py", root / "cifar-10-batches-bin"
    py.mkdir(parents=True)
    raw.mkdir(parents=True)
    for stem in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (rows, 3072), np.uint8)
        labels = random.integers(0, 10, rows)
        batch = {b"data": data, b"labels": labels.tolist(), b"batch_label": stem.encode()}
        (py / stem).write_bytes(pickle.dumps(batch, protocol=2))
        records = np.concatenate([labels.astype(np.uint8)[:, None], data], axis=1)
        (raw / f"{stem}.bin").write_bytes(records.tobytes())
    meta = {b"label_names": [name.encode() for name in CIFAR10_CLASSES]}
    (py / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    (raw / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n\n")


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """Both layouts with four images a file."""
    write_cifar10(tmp_path / "official")
    return tmp_path / "official"


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write small images at the given relative paths; return the folder."""

    def make(*paths: str, root: str = "pictures") -> Path:
        random = np.random.default_rng(len(paths))
        for path in paths:
            target = tmp_path / root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (5, 7, 3), np.uint8)
            Image.fromarray(pixels).save(target, format="PNG")
            os.utime(target, (LONG_AGO, LONG_AGO))
        return tmp_path / root

    return make


@pytest.fixture(scope="session")
def cifar_jpegs() -> dict[str, bytes]:
    """The first three JPEGs of each class of CIFAR-10's test images, by ``CLASS/NUMBER.jpg``."""
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there is no real CIFAR-10")
    found = {}
    with tarfile.open(Path(data) / "cifar10" / "test.tar") as tar:
        for member in tar:
            name, number = member.name.split("/")
            if name in CIFAR10_CLASSES and int(number.removesuffix(".jpg")) < 3:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    assert len(found) == 30
    return found
