"""Weights by the names of torchvision and timm are the catalog's entry of the same file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from probe.backbones.catalog import BACKBONES
from probe.bench.candidates import parse_candidate
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError, WeightsNotFoundError
from probe.preprocess.torchvision_weights import weights_transforms
from probe.weights import (
    WEIGHTS,
    backbone_called,
    backbone_for,
    fetch,
    find_weights,
    resolve_weights,
)
from tests.commands import probe_json
from tests.preprocess.test_published import GOLDENS

ALIASES = {alias: spec for spec in WEIGHTS.values() for alias in spec.aliases}
TORCHVISION = {name: facts[-1] for name, facts in GOLDENS["torchvision transforms"].items()}


def test_no_alias_means_two_entries_or_is_another_ones_name() -> None:
    every = [one for spec in WEIGHTS.values() for one in (spec.name, *spec.aliases)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_names_the_publishers_file(alias: str) -> None:
    spec = ALIASES[alias]
    assert find_weights(alias) is spec
    if alias in TORCHVISION:
        assert spec.file_name == TORCHVISION[alias]
        if spec.backbone != "inception_v3":
            assert spec.preprocess.identity() == weights_transforms(alias).identity()
    elif alias in GOLDENS["timm files"]:
        assert spec.file_name == GOLDENS["timm files"][alias]
    else:  # timm keeps its own copies of these
        assert re.fullmatch(r"(vgg|densenet)\w+\.tv_in1k", alias)


def test_every_file_of_torchvision_that_the_catalog_has_goes_by_its_name() -> None:
    files = {spec.file_name: spec for spec in WEIGHTS.values()}
    for name, file in {**TORCHVISION, **GOLDENS["timm files"]}.items():
        assert (file in files) == (name in ALIASES), name


@pytest.mark.parametrize(
    "name",
    ["resnet18.tv_in1k", "timm/resnet18.tv_in1k", "hf-hub:timm/resnet18.tv_in1k",
     "hf_hub:timm/resnet18.tv_in1k", "ResNet18_Weights.IMAGENET1K_V1"],
)  # fmt: skip
def test_weights_are_found_by_any_of_their_names(name: str, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    assert backbone_for(name, memo).name == "resnet18"
    with pytest.raises(WeightsNotFoundError, match=r"resnet18.torchvision_v1 is not on this mach"):
        resolve_weights(BACKBONES["resnet18"], name, cache_dir=tmp_path, memo=memo, preprocess=None)
    with pytest.raises(WeightsError, match="torchvision_v1 are weights of resnet18, not of vgg16"):
        resolve_weights(BACKBONES["vgg16"], name, cache_dir=tmp_path, memo=memo, preprocess=None)
    here = tmp_path / "weights" / "resnet18-f37072fd.pth"
    here.parent.mkdir()
    here.write_bytes(b"")
    assert fetch(name, tmp_path) == here


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet50.a1_in1k", "resnet50.a1_in1k", "ResNet50_Weights.IMAGENET1K_V9"]
)
def test_of_other_weights_it_is_said_how_to_get_them(name: str, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    with pytest.raises(
        WeightsNotFoundError, match=r"has resnet50.torchvision_v1, .* download that file and name"
    ):
        resolve_weights(BACKBONES["resnet50"], name, cache_dir=tmp_path, memo=memo, preprocess=None)
    with pytest.raises(WeightsNotFoundError, match=r"`probe weights list`\); download that file"):
        backbone_for(name, memo)


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "hf-hub:timm/resnet18.tv_in1k"])
def test_where_a_network_is_asked_for_its_weights_are_told_from_it(
    name: str, tmp_path: Path
) -> None:
    told = "is the name of weights; give --backbone resnet18 --weights"
    with pytest.raises(UsageError, match=told):
        backbone_called(name, Memo(tmp_path / "memo.sqlite"))
    with pytest.raises(UsageError, match=told):
        parse_candidate(f"{name}@64")


def test_the_default_of_torchvision_has_to_be_named(tmp_path: Path) -> None:
    memo, name = Memo(tmp_path / "memo.sqlite"), "ResNet50_Weights.DEFAULT"
    with pytest.raises(WeightsNotFoundError, match=r"has resnet50.torchvision_v1.* name the membe"):
        resolve_weights(BACKBONES["resnet50"], name, cache_dir=tmp_path, memo=memo, preprocess=None)


def test_the_list_shows_them() -> None:
    listed = {one["name"]: one["aliases"] for one in probe_json("weights", "list")["weights"]}
    assert listed["resnet50.torchvision_v2"] == [
        "ResNet50_Weights.IMAGENET1K_V2",
        "resnet50.tv2_in1k",
    ]
    assert listed["vgg16.keras"] == []
