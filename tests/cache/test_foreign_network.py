"""Entries of networks from outside the catalog, whose files are moved, renamed and replaced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.errors import CacheError, WeightsNotFoundError
from tests.backbones.foreign_graphs import SIZE, convolutions, saved
from tests.commands import probe as command


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """Return a cache with an entry of a folder of images, and the file of its network."""
    rng = np.random.default_rng(5)
    for number in range(6):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        place = tmp_path / "images" / f"class {number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    file = saved(convolutions()[0], tmp_path / "net.onnx")
    probe.extract(
        tmp_path / "images", str(file), preprocess="torchvision", cache_dir=tmp_path / "cache",
        quiet=True,
    )  # fmt: skip
    return tmp_path / "cache", file


def sync(cache: Path, *more: Any) -> str:
    return command("cache", "sync", "--cache-dir", cache, *more)


def test_a_renamed_file_keeps_the_rows_of_its_entry(made: tuple[Path, Path]) -> None:
    cache, file = made
    moved = file.rename(file.with_name("other name.onnx"))
    with pytest.raises(WeightsNotFoundError, match="name the network's file with --weights"):
        sync(cache)
    (cache.parent / "images" / "class 0" / "0.png").unlink()
    assert "0 images forwarded" in sync(cache, "--weights", moved)
    assert "in step" in sync(cache)  # the new place was recorded
    assert len(list((cache / "features").glob("*-net.onnx-*.h5"))) == 1
    command("cache", "verify", "--sample", "2", "--cache-dir", cache)


def test_another_network_in_the_files_place_is_refused(made: tuple[Path, Path]) -> None:
    cache, file = made
    saved(convolutions(seed=1)[0], file)
    (cache.parent / "images" / "class 0" / "0.png").unlink()
    with pytest.raises(CacheError, match="no row can be kept"):
        sync(cache)
