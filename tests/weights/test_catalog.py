"""The catalog is complete, consistent and identifies files by digest."""

from __future__ import annotations

import hashlib
import re

import pytest

from probe.backbones.catalog import BACKBONES
from probe.weights import WEIGHTS, identify
from tests.weights.helpers import lite0_file, shared


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_entries_are_consistent(name: str) -> None:
    spec = WEIGHTS[name]
    backbone = BACKBONES[spec.backbone]
    assert name.startswith(spec.backbone + ".")
    assert all(backbone.layer(layer) for layer in spec.layers)
    assert bool(spec.sha256) != bool(spec.md5)
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", spec.sha256) or re.fullmatch(
        r"[0-9a-f]{32}", spec.md5
    )
    assert spec.urls or spec.package or spec.size
    assert all(url.startswith("https://") and url.endswith(spec.file_name) for url in spec.urls)
    assert (spec.top1 is None) == (spec.top1_by == "")
    assert spec.top1 is None or 0.5 < spec.top1 < 0.9
    assert spec.preprocess.size == backbone.input_size
    assert spec.licence


def test_every_backbone_that_somebody_publishes_is_there() -> None:
    published = {spec.backbone for spec in WEIGHTS.values()}
    missing = set(BACKBONES) - published
    assert missing == {
        "resnet18_v1", "resnet34_v1",  # share the files of v1b
        "mobilenet_v1", "caffenet",  # the second's publisher states a SHA1
        "resnet18_v2", "resnet34_v2", "resnet50_v2", "resnet101_v2", "resnet152_v2",
    }  # fmt: skip


def test_digests_identify_the_files_at_hand() -> None:
    for path, name in (
        (lite0_file(), "efficientnet_lite0.pytorch"),
        (shared("weights", "vgg16_imagenet_notop.h5"), "vgg16.keras1_notop"),
    ):
        data = path.read_bytes()
        assert WEIGHTS[name].size == len(data)
        assert identify(hashlib.sha256(data).hexdigest(), "") is WEIGHTS[name]
    assert identify("0" * 64, "6d6bbae143d832006294945121d1f1fc") is WEIGHTS["vgg16.keras_notop"]
    assert identify("0" * 64, "0" * 32) is None
    assert identify("", "") is None


def test_first_choices_hold_the_whole_network() -> None:
    first = {spec.backbone: spec for spec in reversed(list(WEIGHTS.values()))}
    assert all(spec.layers == () for spec in first.values())
