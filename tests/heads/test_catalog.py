"""Which head is meant where none is named."""

from __future__ import annotations

from typing import Any

import pytest

from probe.errors import UsageError
from probe.heads.catalog import choose_head
from probe.heads.spec import PowersOfTen


@pytest.mark.parametrize(
    ("given", "more", "name", "penalty"),
    [
        ({}, {}, "path", "grid"),
        ({"C": None, "epochs": None}, {}, "path", "grid"),
        ({"normalize": "l2"}, {}, "path", "grid"),
        ({"C": "0.1"}, {}, "path", "0.1"),
        ({}, {"held_out": False}, "path", None),  # nothing to choose on
        ({"epochs": 50}, {}, "dense", None),
        ({"hidden": "64", "normalize": "l2"}, {}, "dense", None),
        ({}, {"seeds": True}, "dense", None),
        ({"alpha": "grid"}, {}, "ridge", None),
        ({"k": "5"}, {}, "knn", None),
    ],
)
def test_an_option_names_its_head_and_path_with_its_grid_is_the_default(
    given: dict[str, Any], more: dict[str, bool], name: str, penalty: str | None
) -> None:
    chosen, filled, why = choose_head(given, **more)
    assert (chosen, filled.get("C")) == (name, penalty)
    assert name in why


def test_options_of_two_heads_together_are_refused() -> None:
    with pytest.raises(UsageError, match="no head takes --epochs, --alpha together"):
        choose_head({"epochs": 3, "alpha": "1"})


def test_a_grids_powers_of_ten_are_the_same_doubles_on_every_machine() -> None:
    grid = PowersOfTen(low=-6, high=5, count=45).values()
    assert grid[::4] == tuple(float(f"1e{power}") for power in range(-6, 6))
    # the doubles next to 10 ** 0.25, 10 ** 0.5 and 10 ** 0.75, from 30 digits of each
    assert grid[25:28] == (
        float("1.77827941003892280122542119519"), float("3.16227766016837933199889354443"),
        float("5.62341325190349080394951039776"),
    )  # fmt: skip
