from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from probe.core.text import counted, visible, visible_json
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


def test_what_a_terminal_acts_on_is_escaped() -> None:
    acting = "\x1b[2J \x07 \r\n\t \x7f \x9b31m \u202e \u2066 \u2028 \udce9"
    escaped = r"\x1b[2J \x07 \r\n\t \x7f \x9b31m \u202e \u2066 \u2028 \udce9"
    assert visible(acting) == escaped
    assert visible(escaped) == escaped
    joined = ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f52c")
    for plain in ("café", "日本\u3000猫", "[bold]x[/bold]", *joined):
        assert visible(plain) == plain


def test_json_is_the_same_with_its_own_escapes() -> None:
    value = {"\x9b": ["\x1b[2J\n\t", "\u202e\u2028", "\udce9", "é"]}
    shown = visible_json(json.dumps(value, indent=1, ensure_ascii=False))
    assert json.loads(shown) == value
    assert [line for line in shown.split("\n") if visible(line) != line] == []
