"""The weights at hand: what they hold, and that they still know what a palace looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import WeightsError
from probe.weights import default_layer, held_layers, load_parameters, open_tensors
from tests.weights.helpers import lite0_file, shared


def test_the_real_vgg16_loads_without_its_top(tmp_path: Path) -> None:
    path = shared("weights", "vgg16_imagenet_notop.h5")
    backbone, memo = BACKBONES["vgg16"], Memo(tmp_path / "memo.sqlite")
    held = held_layers(path, backbone, memo)
    assert held[-1] == "pool5"
    assert default_layer(backbone, held, 32).name == "pool5"
    loaded = load_parameters(path, backbone, backbone.layer("pool5"))
    assert loaded.omitted == ("no classifier", "no fully connected layers")
    assert loaded.digest == "5296c22039ee0054cad659e3525d7713"
    with pytest.raises(
        WeightsError,
        match=r"2 missing .fc1/kernel, fc1/bias.; it holds the layers up to --layer pool5",
    ):
        load_parameters(path, backbone, backbone.layer("fc6"))
    with pytest.raises(WeightsError, match=r"fits --backbone vgg16$"):
        load_parameters(path, BACKBONES["resnet50"], BACKBONES["resnet50"].layer("gap"))


def test_lite0_recognises_palace_and_daisy() -> None:
    """ImageNet's classes 698 and 985, on scikit-learn's photographs of a palace and a flower."""
    from sklearn.datasets import load_sample_image

    from probe.engines import forward
    from probe.preprocess.resize import resize_image
    from probe.preprocess.spec import EFFICIENTNET_LITE
    from probe.weights.fit import fit_file

    backbone = BACKBONES["efficientnet_lite0"]
    fit = fit_file(open_tensors(lite0_file()), backbone)
    assert fit is not None
    assert fit.omitted == ("49 batch counters left out",)
    parameters = {
        name: source.convert([fit.tensors[one] for one in source.names])
        for name, source in fit.naming.sources.items()
    }
    images = [
        resize_image(load_sample_image(f"{one}.jpg"), EFFICIENTNET_LITE)
        for one in ("china", "flower")
    ]
    assert (EFFICIENTNET_LITE.mean, EFFICIENTNET_LITE.std) == ((127,) * 3, (128,) * 3)
    cuts = [(backbone.logits, "none")]
    (y,) = forward(backbone, parameters, cuts, EFFICIENTNET_LITE, np.stack(images))
    top = [[int(i) for i in np.argsort(-row)[:5]] for row in y]
    assert top[0] == [698, 442, 663, 975, 449]  # palace, bell cote, monastery, lakeside, boathouse
    assert top[1][:2] == [985, 309]  # daisy, bee
