from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.core.text import counted
from probe.datasets import given_dataset


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (2000, ("image",), "2,000 images"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_one_thing_is_counted_in_the_singular(
    count: int, words: tuple[str, ...], told: str
) -> None:
    assert counted(count, *words) == told


def test_a_dataset_of_one_image_says_so(tmp_path: Path) -> None:
    one = np.zeros((1, 8, 8, 3), np.uint8)
    dataset = given_dataset((one, ["cat"]), cache_dir=tmp_path, name="mine")
    assert repr(dataset) == "<Dataset mine: train 1 image, 1 class>"
