from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.datasets import Split
from probe.datasets.sample import sample


class NoImages:
    """Stands for images; only their number matters here."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def content(self) -> np.ndarray:
        raise AssertionError

    def image(self, _row: int) -> np.ndarray:
        raise AssertionError

    def take(self, rows: np.ndarray) -> NoImages:
        return NoImages(len(rows))


def split_of(**counts: int) -> tuple[Split, tuple[str, ...]]:
    classes = tuple(counts)
    ids = [f"{name}/{row}" for name in classes for row in range(counts[name])]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), list(counts.values()))
    return Split(ids=ids, labels=labels, images=NoImages(len(ids))), classes


def chosen(
    n: int | None, limit: int | None = None, *, seed: int = 42, name: str = "train", **counts: int
) -> list[str]:
    split, classes = split_of(**counts)
    return list(sample(name, split, classes, per_class=n, limit=limit, seed=seed).ids)


def test_five_are_among_the_ten() -> None:
    assert set(chosen(5, a=50, b=30)) < set(chosen(10, a=50, b=30))


def test_another_class_changes_nothing() -> None:
    one, both = chosen(5, b=50), chosen(5, a=20, b=50, c=3)
    assert [id_ for id_ in both if id_.startswith("b/")] == one


def test_the_seed_and_the_split_decide() -> None:
    assert chosen(5, a=50) == chosen(5, a=50)
    assert chosen(5, a=50) != chosen(5, a=50, seed=43)
    assert chosen(5, a=50) != chosen(5, a=50, name="test")


def test_the_choice_is_the_same_for_good() -> None:
    """Cached features depend on it: a change here is a break."""
    assert chosen(3, a=100) == ["a/55", "a/90", "a/99"]


def test_a_small_class_keeps_all_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(5, a=3, b=9)[:3] == ["a/0", "a/1", "a/2"]
    assert "fewer than 5 images, all kept: a (3)" in caplog.text


def test_rows_stay_in_the_order_of_the_dataset() -> None:
    split, _classes = split_of(a=30, b=30)
    order = list(split.ids)
    found = chosen(7, a=30, b=30)
    assert found == sorted(found, key=order.index)


counts_of = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@given(counts_of, st.integers(1, 40), st.integers(1, 9) | st.none())
def test_a_limit_is_spread_over_the_classes(sizes: list[int], limit: int, n: int | None) -> None:
    counts = {chr(97 + place): size for place, size in enumerate(sizes)}
    found = chosen(n, limit, **counts)
    left = {name: min(size, n or size) for name, size in counts.items()}
    assert len(found) == min(limit, sum(left.values()))
    taken = {name: sum(id_.startswith(name) for id_ in found) for name in counts}
    most = max(taken.values())
    assert all(taken[name] >= min(left[name], most - 1) for name in counts)
    assert set(chosen(n, limit, **counts)) <= set(chosen(n, limit + 1, **counts))
