"""Functions of Python as backbones: cached, compared and refused as networks are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import probe
from probe.errors import BundleError, CacheError, EngineError, UsageError, WeightsError
from probe.preprocess.spec import PRESETS

SIZE = 16


def means(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the means of 4 x 4 squares of each channel."""
    assert batch.dtype == np.uint8
    assert batch.shape[1:] == (SIZE, SIZE, 3)
    squares = batch.reshape(len(batch), 4, 4, 4, 4, 3)
    rows: NDArray[np.float64] = squares.mean((2, 4)).reshape(len(batch), -1)
    return rows


class Images:
    """Seeded images with labels, and a function that counts the images it is given."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.pixels = rng.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
        self.labels = np.arange(40) % 2
        self.pixels[self.labels == 1, :, :8] //= 3
        self.seen = 0

    def rows(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        self.seen += len(batch)
        return means(batch)


@pytest.fixture
def images() -> Images:
    return Images()


def backbone(function: Any, version: str = "1") -> Any:
    return probe.Backbone.from_callable(function, name="means", version=version, size=SIZE)


def test_rows_are_those_of_the_function_and_are_computed_once(
    images: Images, tmp_path: Path
) -> None:
    own = backbone(images.rows)
    given = (images.pixels, images.labels)
    made = probe.extract(given, own, cache_dir=tmp_path, quiet=True)
    rows, labels = made["train"].as_xy()
    np.testing.assert_allclose(rows, means(images.pixels), rtol=1e-6)
    assert labels.tolist() == images.labels.tolist()
    seen = images.seen
    again = probe.extract(given, backbone(images.rows), cache_dir=tmp_path, quiet=True)
    assert again.name == made.name
    assert images.seen == seen + 6  # the two photographs: together, again, and each alone
    other = probe.extract(given, backbone(images.rows, "2"), cache_dir=tmp_path, quiet=True)
    assert other.name != made.name  # of another version nothing is known


def test_a_function_may_take_normalised_floats(images: Images, tmp_path: Path) -> None:
    spec = PRESETS["caffe_bgr"].with_size(SIZE)

    def rows(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (3, SIZE, SIZE)
        found: NDArray[np.float32] = batch.mean((2, 3))
        return found

    own = probe.Backbone.from_callable(rows, name="floats", version="1", preprocess=spec)
    made = probe.extract((images.pixels, images.labels), own, cache_dir=tmp_path, quiet=True)
    found, _ = made["train"].as_xy()
    expected = images.pixels[..., ::-1].mean((1, 2)) - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_it_is_compared_with_networks_and_used_in_a_pipeline(
    images: Images, tmp_path: Path
) -> None:
    given = (images.pixels, images.labels)
    bench = probe.bench(
        given, [backbone(means), "squeezenet1_1/fire2@32=random:0"], heads="ridge",
        cache_dir=tmp_path, quiet=True,
    )  # fmt: skip
    names = {row.name for row in bench.record.rows}
    assert names == {"means/output@16", "squeezenet1_1/fire2@32=random:0"}
    frozen = probe.FrozenBackbone(backbone(means), cache_dir=tmp_path)
    rows = frozen.fit_transform(list(images.pixels[:3]))
    np.testing.assert_allclose(rows, means(images.pixels[:3]), rtol=1e-6)


def test_rows_of_another_width_later_stop_the_pass(images: Images, tmp_path: Path) -> None:
    def fewer(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        rows = means(batch)
        return rows[:, :3] if len(batch) == 8 else rows  # 8 are the last of 40

    given = (images.pixels, images.labels)
    with pytest.raises(EngineError, match=r"output of 8 images is \(8, 3\), and was \(48,\)"):
        probe.extract(given, backbone(fewer), batch_size=16, cache_dir=tmp_path, quiet=True)
    assert not list((tmp_path / "features").glob("*.h5"))


def test_a_function_may_write_into_what_it_is_given(images: Images, tmp_path: Path) -> None:
    def clearing(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        rows = means(batch)
        batch[:] = 0
        return rows

    given = (images.pixels, images.labels)
    found = probe.extract(given, backbone(clearing), cache_dir=tmp_path, quiet=True)
    np.testing.assert_allclose(found["train"].as_xy()[0], means(images.pixels), rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (lambda x: np.random.default_rng().random((len(x), 3)), WeightsError, "each time"),
        (lambda x: x.mean((1, 2)) - x.mean(), WeightsError, "other images of its batch"),
        (lambda x: x, EngineError, "one row of numbers each, \\(2, D\\)"),
        (lambda x: x.mean((1, 2))[:1], EngineError, "for 2 images"),
        (lambda x: np.full((len(x), 2), np.nan), WeightsError, "NaN or infinity"),
        (lambda x: 1 / 0, EngineError, "ZeroDivisionError division by zero"),
        ("no function", UsageError, "is no function"),
    ],
)
def test_a_function_that_is_no_backbone_is_refused_at_once(
    function: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        backbone(function)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "m", "version": "1"},
        {"name": "m", "version": "1", "size": 16, "preprocess": "torchvision"},
        {"name": "vgg16", "version": "1", "size": 16},
        {"name": "a/b", "version": "1", "size": 16},
        {"name": "m", "version": " ", "size": 16},
    ],
)
def test_what_nobody_can_know_has_to_be_given(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="from_callable"):
        probe.Backbone.from_callable(means, **options)


def test_what_a_function_cannot_do_is_said(images: Images, tmp_path: Path) -> None:
    given, own = (images.pixels, images.labels), backbone(means)
    made = probe.extract(given, own, cache_dir=tmp_path, quiet=True)
    with pytest.raises(UsageError, match="brings its own"):
        probe.extract(given, own, weights="random:0", cache_dir=tmp_path, quiet=True)
    with pytest.raises(UsageError, match="--size 32: means takes images of 16 x 16"):
        probe.extract(given, own, size=32, cache_dir=tmp_path, quiet=True)
    with pytest.raises(UsageError, match="runs where it likes"):
        probe.extract(given, own, device="cuda", overwrite=True, cache_dir=tmp_path, quiet=True)
    run = probe.fit(made, "ridge", cache_dir=tmp_path, quiet=True)
    with pytest.raises((BundleError, CacheError), match="function of Python"):
        run.bundle(tmp_path / "model.probe")
