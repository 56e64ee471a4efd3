"""ONNX files have a known answer, too: their publisher's, or that of their first use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe
from probe.errors import WeightsError
from tests.backbones.foreign_graphs import SIZE, convolutions, saved

RIGHT = {
    "name": "right", "size": SIZE, "resize": "crop", "crop_fraction": 0.875,
    "interpolation": "bicubic", "antialias": True, "channels": "RGB", "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
}  # fmt: skip
WRONG: dict[str, dict[str, Any]] = {
    "mean": {"mean": [0.5, 0.5, 0.5]},
    "std": {"std": [0.5, 0.5, 0.5]},
    "scale": {"scale": 1 / 200},
    "channels": {"channels": "BGR"},
    "interpolation": {"interpolation": "bilinear"},
    "antialias": {"antialias": False},
    "crop_fraction": {"crop_fraction": 1.0},
    "resize": {"resize": "squash"},
}
PUBLISHED = {  # the same, in transformers' words
    "do_resize": True, "size": {"shortest_edge": 36}, "do_center_crop": True, "resample": 3,
    "crop_size": {"height": SIZE, "width": SIZE}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": RIGHT["mean"], "image_std": RIGHT["std"],
    "image_processor_type": "CLIPImageProcessor",
}  # fmt: skip


def extract(place: Path, folder: Path, *, seed: int = 0, **change: Any) -> Any:
    """Extract two images with a preprocessing, other images a seed."""
    spec = folder / f"{len(change)}-{'-'.join(change)}.json"
    spec.write_text(json.dumps(RIGHT | change))
    pixels = np.random.default_rng(seed).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    given = (pixels, [0, 1])
    return probe.extract(
        given, str(place), preprocess=str(spec), cache_dir=folder / "cache", quiet=True
    )


@pytest.mark.parametrize("field", WRONG)
def test_another_preprocessing_than_that_of_the_first_use_is_refused(
    field: str, tmp_path: Path
) -> None:
    place = saved(convolutions()[0], tmp_path / "net.onnx")
    for seed in range(2):  # the second use finds an answer, and remembers that it agrees
        extract(place, tmp_path, seed=seed)
    with pytest.raises(WeightsError, match=rf"{field} is .*, not .*give the known one.*--record"):
        extract(place, tmp_path, **WRONG[field])


@pytest.mark.parametrize("field", WRONG)
def test_another_preprocessing_than_the_published_is_refused_on_first_use(
    field: str, tmp_path: Path
) -> None:
    place = saved(convolutions()[0], tmp_path / "net" / "model.onnx")
    (place.parent / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))
    with pytest.raises(WeightsError, match=rf"{field} is .*, not .*leave --preprocess out"):
        extract(place, tmp_path, **WRONG[field])
    extract(place, tmp_path)


def test_retrained_arrays_beside_the_file_have_another_answer(tmp_path: Path) -> None:
    from onnx import TensorProto, numpy_helper

    model, _ = convolutions()
    kernel = model.graph.initializer[0]
    numbers = numpy_helper.to_array(kernel).copy()
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="kernel")
    place = saved(model, tmp_path / "net.onnx")
    made = []
    for factor in (1, 2):
        (tmp_path / "kernel").write_bytes((numbers * np.float32(factor)).tobytes())
        made.append(extract(place, tmp_path)["train"].as_xy()[0])
    assert np.abs(made[1] - made[0]).max() > 0.1
