from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.texts import Texts, taken_texts

TEXT = st.text(st.characters(), max_size=8) | st.just("\udcff")  # a name that is not UTF-8


@given(st.lists(TEXT, max_size=12))
def test_texts_are_the_same_as_in_a_list(texts: list[str]) -> None:
    kept = Texts.of(iter(texts))
    assert list(kept) == texts
    assert kept == texts
    assert texts == kept
    assert kept == Texts.of(texts)
    assert len(kept) == len(texts)
    assert [kept[row] for row in range(-len(texts), len(texts))] == texts + texts
    assert kept[1:5] == texts[1:5]
    assert kept[::-2] == texts[::-2]
    assert pickle.loads(pickle.dumps(kept)) == texts
    for row in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            kept[row]


def test_other_texts_are_not_equal() -> None:
    kept = Texts.of(["ab", "c"])
    for other in (["a", "bc"], ["ab"], ["ab", "c", ""], "abc", ["ab", 1], Texts.of(["a", "bc"])):
        assert kept != other


def test_rows_that_are_taken_are_kept_alike() -> None:
    texts, rows = ["a", "b", "c"], np.array([2, 0, 0])
    assert taken_texts(texts, rows) == ["c", "a", "a"]
    taken = taken_texts(Texts.of(texts), rows)
    assert isinstance(taken, Texts)
    assert taken == ["c", "a", "a"]


def test_a_name_takes_little_more_than_its_characters() -> None:
    names = [f"class{number % 10}/{number:08d}.jpg" for number in range(1000)]  # 19 bytes each
    kept = Texts.of(names)
    size = sys.getsizeof(kept._data) + kept._ends.nbytes
    assert size < 24 * len(names)
