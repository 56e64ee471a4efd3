"""The catalog is complete, consistent and identifies files by digest."""

from __future__ import annotations

import hashlib
import re

import pytest

from probe.backbones.catalog import BACKBONES
from probe.weights import WEIGHTS, identify
from probe.weights.digest import Digests
from tests.weights.helpers import lite0_file, shared


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_entries_are_consistent(name: str) -> None:
    spec = WEIGHTS[name]
    backbone = BACKBONES[spec.backbone]
    assert name.startswith(spec.backbone + ".")
    assert all(backbone.layer(layer) for layer in spec.layers)
    stated = [(spec.sha256, "8}|[0-9a-f]{64"), (spec.md5, "32"), (spec.sha1, "40")]
    ((digest, digits),) = [pair for pair in stated if pair[0]]
    assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", digest)
    assert all(re.match("https?://", url) and url.endswith(spec.file_name) for url in spec.urls)
    assert list(spec.urls) == sorted(spec.urls, key=lambda url: url.startswith("http:"))
    assert (spec.top1 is None) == (spec.top1_by == "")
    assert spec.top1 is None or 0.5 < spec.top1 < 0.9
    assert spec.preprocess.size == backbone.input_size
    assert spec.licence


def test_every_backbone_that_somebody_publishes_is_there() -> None:
    published = {spec.backbone for spec in WEIGHTS.values()}
    missing = set(BACKBONES) - published
    assert missing == set()


def test_digests_identify_the_files_at_hand() -> None:
    for path, name in (
        (lite0_file(), "efficientnet_lite0.pytorch"),
        (shared("weights", "vgg16_imagenet_notop.h5"), "vgg16.keras1_notop"),
    ):
        data = path.read_bytes()
        assert WEIGHTS[name].size == len(data)
        assert identify(Digests(hashlib.sha256(data).hexdigest(), "", "")) is WEIGHTS[name]
    keras, zoo = WEIGHTS["vgg16.keras_notop"], WEIGHTS["resnet50_v2.gluon"]
    assert identify(Digests("0" * 64, "6d6bbae143d832006294945121d1f1fc", "0" * 40)) is keras
    assert identify(Digests("0" * 64, "0" * 32, zoo.sha1)) is zoo
    assert identify(Digests("0" * 64, "0" * 32, "0" * 40)) is None
    assert identify(Digests("", "", "")) is None


def test_first_choices_hold_the_whole_network() -> None:
    first = {spec.backbone: spec for spec in reversed(list(WEIGHTS.values()))}
    assert all(spec.layers == () for spec in first.values())
