"""What a PCA learnt, as arrays and as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads.projection import Projection, load_projection, save_projection

RNG = np.random.default_rng(0)
MADE = Projection(
    mean=RNG.normal(size=6),
    scale=RNG.uniform(1, 9, 6),
    axes=np.linalg.qr(RNG.normal(size=(6, 3)))[0],
)


def test_rows_are_centred_scaled_and_turned(tmp_path: Path) -> None:
    X = RNG.normal(size=(9000, 6)).astype(np.float32)  # more than are taken at a time
    expected = ((X - MADE.mean) / MADE.scale) @ MADE.axes
    np.testing.assert_allclose(MADE.apply(X), expected, rtol=1e-5, atol=1e-6)
    save_projection(MADE, tmp_path / "p.safetensors")
    again = load_projection(tmp_path / "p.safetensors")
    assert (again.n_features, again.width) == (6, 3)
    np.testing.assert_array_equal(again.apply(X), MADE.apply(X))


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": MADE.mean[:5]},
        {"axes": MADE.axes[0]},
        {"axes": MADE.axes.astype(np.float32)},
        {"scale": np.zeros(6)},
        {"mean": np.full(6, np.nan)},
        {"basis": MADE.basis},
    ],
)
def test_arrays_that_do_not_go_together_are_refused(changed: dict[str, np.ndarray]) -> None:
    with pytest.raises(HeadError, match="projection"):
        Projection.from_arrays(MADE.arrays() | changed)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.safetensors").write_bytes(b"nothing of the kind")
    for name in ("p.safetensors", "q.safetensors"):
        with pytest.raises(HeadError, match=f"{name}: cannot be read"):
            load_projection(tmp_path / name)
