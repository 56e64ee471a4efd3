from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.datasets import Dataset, load_dataset
from probe.datasets.images import files
from probe.errors import DataError, ImageError
from tests.datasets.conftest import LONG_AGO

Make = Callable[..., Path]


def load(root: Path, *, skip_bad: bool = False, workers: int = 1) -> Dataset:
    cache = root.parent / "cache"
    return load_dataset(str(root), cache_dir=cache, skip_bad=skip_bad, workers=workers)


@pytest.fixture
def damaged(make_folder: Make) -> Path:
    root = make_folder("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    (root / "cat" / "2.png").write_bytes(b"")
    (root / "dog" / "1.png").write_bytes((root / "dog" / "1.png").read_bytes()[:60])
    for path in root.rglob("*.png"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


def test_content_is_the_hash_of_the_bytes(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "dog/1.png")
    found = load(root, workers=3).splits["train"].images.content()
    wanted = [
        hashlib.blake2b((root / name).read_bytes(), digest_size=16).digest()
        for name in ("cat/1.png", "dog/1.png")
    ]
    assert [row.tobytes() for row in found] == wanted


def test_unchanged_files_are_not_read_again(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder("cat/1.png", "dog/1.png")
    before = load(root).splits["train"].images.content()
    read: list[str] = []
    digest = files._digest
    monkeypatch.setattr(files, "_digest", lambda path: (read.append(path), digest(path))[1])
    np.testing.assert_array_equal(load(root).splits["train"].images.content(), before)
    assert read == []
    (root / "dog" / "1.png").write_bytes(b"other")
    after = load(root).splits["train"].images.content()
    assert (after != before).any(axis=1).tolist() == [False, True]
    assert read == [str(root / "dog" / "1.png")]


def test_a_bad_image_raises_with_its_path(damaged: Path) -> None:
    images = load(damaged).splits["train"].images
    assert images.image(0).shape == (5, 7, 3)
    with pytest.raises(ImageError, match=r"pictures/cat/2\.png: is empty.*--skip-bad"):
        images.image(1)
    (damaged / "cat" / "2.png").unlink()
    with pytest.raises(ImageError, match=r"cat/2\.png: cannot be opened.*--skip-bad"):
        images.content()


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_images_are_left_out_and_listed(damaged: Path, workers: int) -> None:
    dataset = load(damaged, skip_bad=True, workers=workers)
    assert list(dataset.splits["train"].ids) == ["cat/1.png", "dog/2.png"]
    assert dataset.splits["train"].labels.tolist() == [0, 1]
    assert [bad.id for bad in dataset.skipped] == ["cat/2.png", "dog/1.png"]
    assert dataset.skipped[0].reason == "is empty (0 bytes)"


def test_good_images_are_decoded_once(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(damaged, skip_bad=True)
    decoded: list[str] = []
    decode = files.decode_file
    monkeypatch.setattr(files, "decode_file", lambda path: (decoded.append(path), decode(path))[1])
    assert len(load(damaged, skip_bad=True).skipped) == 2
    assert sorted(os.path.basename(path) for path in decoded) == ["1.png", "2.png"]


def test_a_class_of_bad_images_only_is_an_error(damaged: Path) -> None:
    (damaged / "cat" / "1.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="no image of 'cat' in train can be read"):
        load(damaged, skip_bad=True)
