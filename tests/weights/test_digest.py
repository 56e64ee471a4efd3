"""The digest sees names, shapes and values, and nothing else."""

from __future__ import annotations

import numpy as np

from probe.weights import parameter_digest

ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def test_order_and_memory_layout_do_not_matter() -> None:
    other = {"b": ONE["b"], "a": np.asfortranarray(ONE["a"])}
    assert parameter_digest(other) == parameter_digest(ONE)
    assert parameter_digest({k: v.astype(">f4") for k, v in ONE.items()}) == parameter_digest(ONE)


def test_names_shapes_and_values_do() -> None:
    changed = [
        {"a": ONE["a"]},
        {"a": ONE["a"].reshape(3, 2), "b": ONE["b"]},
        {"a": ONE["a"] + 1, "b": ONE["b"]},
        {"a": ONE["a"], "c": ONE["b"]},
        {"a": ONE["a"], "b": -ONE["b"]},
    ]
    assert len({parameter_digest(one) for one in [ONE, *changed]}) == 6


def test_it_stays_what_it_was() -> None:
    """Cache keys hold it: a change here makes every entry stale."""
    assert parameter_digest(ONE) == "709af5124b71a66b9d2e9510da557eb6"
    assert parameter_digest({}) == "cae66941d9efbd404e4d88758ea67670"
