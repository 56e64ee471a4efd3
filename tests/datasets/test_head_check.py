"""What is said beforehand of datasets that no head can be fitted to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from probe.datasets import load_dataset
from probe.datasets.head_check import why_no_head, why_no_head_for


def test_why_no_head_can_be_fitted(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    def of(*paths: str) -> str | None:
        root = make_folder(*paths, root=str(np.random.default_rng().integers(2**60)))
        return why_no_head(load_dataset(str(root), cache_dir=tmp_path / "cache"))

    assert of("a/1.png", "a/2.png", "b/1.png") is None
    assert of("train/a/1.png", "train/b/2.png", "val/b/1.png") is None
    assert "all 2 training images are of one class, 'a': features can be" in str(
        of("train/a/1.png", "train/a/2.png", "val/a/1.png")
    )
    assert "there are no training images, only val, test" in str(
        of("test/a/1.png", "test/b/1.png", "val/a/1.png")
    )
    assert str(of("1.png", "2.png")).startswith("the images have no labels, so no head can be")
    few = str(of("a/1.png", "b/1.png"))
    assert "2 training images are too few for `probe head` as it stands: every class has" in few
    assert few.endswith("train on all with --val-size 0")


def test_images_of_several_labels(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder("1.png", "2.png")
    for second, word in (("x|y", "have the same labels"), ("y|x", "have the same labels")):
        (root / "list.csv").write_text(f"image,labels\n1.png,x|y\n2.png,{second}\n")
        said = why_no_head(load_dataset(str(root / "list.csv"), cache_dir=tmp_path / "cache"))
        assert word in str(said)
    (root / "list.csv").write_text("image,labels\n1.png,x|y\n2.png,\n")
    assert why_no_head(load_dataset(str(root / "list.csv"), cache_dir=tmp_path / "cache")) is None


def test_copies_of_one_picture_cannot_be_divided() -> None:
    labels = {"train": np.repeat([0, 1], 12)}
    content = {"train": np.repeat(np.arange(2, dtype=np.uint8), 12)[:, None] * np.ones(16, "u1")}
    assert why_no_head_for(labels, ("a", "b"), None) is None
    said = str(why_no_head_for(labels, ("a", "b"), content))
    assert "24 training images are too few for `probe head` as it stands" in said
    assert "belong together" in said
    each = {"train": np.arange(24, dtype=np.uint8)[:, None] * np.ones(16, "u1")}
    assert why_no_head_for(labels, ("a", "b"), each) is None
