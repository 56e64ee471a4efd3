"""Every published naming meets every canonical parameter once, in the same order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from probe.backbones.catalog import BACKBONES
from probe.weights.fit import fit_file, fitting_backbones, holds_layers, shapes_of
from tests.weights import published, published_more
from tests.weights.helpers import pretend

TORCH = [
    name for name, spec in BACKBONES.items()
    if spec.family not in (
        "resnet_v1", "resnet_v2", "mobilenet_v1", "inception_v3_keras", "caffenet",
    )
]  # fmt: skip
BASIC = ["resnet18", "resnet34"]
CONSTANT_PREFIX = ("features.3.out.0.", "features.3.out.1.")  # mobilenet_v2's identity


@pytest.mark.parametrize("name", TORCH)
def test_torch_names_fill_a_backbone_exactly(name: str) -> None:
    names = published.torchvision(name)
    fit = fit_file(pretend(names), BACKBONES[name])
    assert fit is not None
    assert (fit.missing, fit.misshapen, fit.unknown) == ({}, {}, ())
    assert set(fit.naming.sources) == set(shapes_of(name))
    used = [one for source in fit.naming.sources.values() for one in source.names]
    assert len(used) == len(set(used))
    spare = {one for one in names if not one.endswith("num_batches_tracked")} - set(used)
    assert all(one.startswith("AuxLogits.") or one == "classifier.1.bias" for one in spare)


@pytest.mark.parametrize("name", TORCH)
def test_torch_names_keep_the_order_of_the_network(name: str) -> None:
    """What shapes cannot tell apart, the order of the modules does."""
    fit = fit_file(pretend(published.torchvision(name)), BACKBONES[name])
    assert fit is not None
    mapped = [one for canonical in shapes_of(name) for one in fit.naming.sources[canonical].names]
    expected = [one for one in published.torchvision(name) if one in set(mapped)]
    assert mapped == expected


@pytest.mark.parametrize("name", [*TORCH, "resnet18_v1", "resnet34_v1"])
def test_safetensors_hold_the_same_names(name: str) -> None:
    fit = fit_file(
        pretend(published.torchvision(name.removesuffix("_v1")), "safetensors"), BACKBONES[name]
    )
    assert fit is not None
    assert not fit.problems(BACKBONES[name], BACKBONES[name].layers[-1])


@pytest.mark.parametrize("name", list(published.DENSENET))
def test_densenet_files_with_old_names_fit(name: str) -> None:
    fit = fit_file(pretend(published.densenet(name, old=True)), BACKBONES[name])
    assert fit is not None
    assert fit.naming.name == "torchvision (old)"
    assert not fit.problems(BACKBONES[name], BACKBONES[name].layers[-1])


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_keras_vgg_fits_with_top_and_without(name: str) -> None:
    backbone = BACKBONES[name]
    names = published.keras_vgg(name)
    fit = fit_file(pretend(names, "keras"), backbone)
    assert fit is not None
    assert (fit.missing, fit.misshapen, fit.unknown, fit.omitted) == ({}, {}, (), ())
    headless = {one: shape for one, shape in names.items() if one.startswith("block")}
    assert holds_layers(pretend(headless, "keras"), backbone)[-1] == "pool5"


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_keras_resnet_fits_the_zoos_v1_and_no_other(depth: int) -> None:
    file = pretend(published.keras_resnet(depth), "keras")
    assert fitting_backbones(file) == (f"resnet{depth}_v1",)
    for other in (f"resnet{depth}", f"resnet{depth}_v2"):
        fit = fit_file(file, BACKBONES[other])
        assert fit is not None
        (problem,) = fit.problems(BACKBONES[other], BACKBONES[other].layers[-1])
        assert "strides in" in problem


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_torchvisions_bottlenecks_are_refused_by_the_zoos_v1(depth: int) -> None:
    """Every shape would fit, and the features would be wrong."""
    file = pretend(published.resnet(depth))
    fit = fit_file(file, BACKBONES[f"resnet{depth}_v1"])
    assert fit is not None
    (problem,) = fit.problems(
        BACKBONES[f"resnet{depth}_v1"], BACKBONES[f"resnet{depth}_v1"].layers[-1]
    )
    assert "strides in the 3x3" in problem
    assert problem.endswith(f"it is the backbone resnet{depth}")
    assert holds_layers(file, BACKBONES[f"resnet{depth}_v1"]) == ()
    assert fitting_backbones(file) == (f"resnet{depth}",)


@pytest.mark.parametrize("name", TORCH)
def test_each_file_fits_its_own_backbone_only(name: str) -> None:
    expected = {name, f"{name}_v1"} if name in BASIC else {name}
    assert set(fitting_backbones(pretend(published.torchvision(name)))) == expected


@pytest.mark.parametrize("name", list(BACKBONES))
def test_gluons_structural_names_fill_every_backbone(name: str) -> None:
    fit = fit_file(pretend(shapes_of(name), "gluon"), BACKBONES[name])
    assert fit is not None
    assert (fit.naming.name, fit.missing, fit.unknown) == ("gluon", {}, ())


def test_timms_vgg_has_convolutions_for_its_dense_layers() -> None:
    rename = {
        "classifier.0": "pre_logits.fc1",
        "classifier.3": "pre_logits.fc2",
        "classifier.6": "head.fc",
    }
    names = {}
    for one, shape in published.vgg("vgg16_bn").items():
        module, _, leaf = one.rpartition(".")
        if leaf == "weight" and module in ("classifier.0", "classifier.3"):
            side = 7 if module == "classifier.0" else 1
            shape = (4096, shape[1] // side**2, side, side)  # noqa: PLW2901
        names[f"{rename.get(module, module)}.{leaf}"] = shape
    fit = fit_file(pretend(names), BACKBONES["vgg16_bn"])
    assert fit is not None
    assert fit.naming.name == "timm"
    assert not fit.problems(BACKBONES["vgg16_bn"], BACKBONES["vgg16_bn"].layers[-1])


def test_transformers_resnet_fits() -> None:
    def rename(one: str) -> str:
        module, _, leaf = one.rpartition(".")
        if module in ("conv1", "bn1"):
            kind = {"conv1": "convolution", "bn1": "normalization"}[module]
            return f"resnet.embedder.embedder.{kind}.{leaf}"
        if module == "fc":
            return f"classifier.1.{leaf}"
        stage, block, *inner = module.split(".")
        at = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}"
        if inner[0] == "downsample":
            return f"{at}.shortcut.{('convolution', 'normalization')[int(inner[1])]}.{leaf}"
        kind = "convolution" if inner[0].startswith("conv") else "normalization"
        return f"{at}.layer.{int(inner[0][-1]) - 1}.{kind}.{leaf}"

    for depth in (18, 50):
        names = {rename(one): shape for one, shape in published.resnet(depth).items()}
        backbone = BACKBONES[f"resnet{depth}"]
        fit = fit_file(pretend(names, "safetensors"), backbone)
        assert fit is not None
        assert (fit.naming.name, fit.problems(backbone, backbone.layers[-1])) == (
            "transformers",
            [],
        )


def test_timms_lite0_needs_a_file_name_since_its_padding_cannot_be_told() -> None:
    backbone, layer = BACKBONES["efficientnet_lite0"], BACKBONES["efficientnet_lite0"].layers[-1]
    file = pretend(published_more.timm_lite0())
    fit = fit_file(file, backbone)
    assert fit is not None
    assert "pads another way" in fit.problems(backbone, layer)[0]
    assert holds_layers(file, backbone) == ()
    named = replace(file, path=Path("tf_efficientnet_lite0-0aa007d2.pth"))
    fit = fit_file(named, backbone)
    assert fit is not None
    assert (fit.missing, fit.misshapen, fit.unknown) == ({}, {}, ())
    assert fitting_backbones(named) == ("efficientnet_lite0",)


@pytest.mark.parametrize("first", [0, 1])
def test_keras_inception_is_a_backbone_of_its_own_since_its_pools_differ(first: int) -> None:
    """Keras 3 counts its layers from 0, Keras 2 from 1."""
    file = pretend(published_more.keras_inception_v3(first), "keras")
    own = BACKBONES["inception_v3_keras"]
    fit = fit_file(file, own)
    assert fit is not None
    assert (fit.missing, fit.misshapen, fit.unknown) == ({}, {}, ())
    assert set(fit.naming.sources) == set(shapes_of("inception_v3_keras"))
    assert fitting_backbones(file) == ("inception_v3_keras",)
    zoo = fit_file(file, BACKBONES["inception_v3"])
    torch = fit_file(pretend(published.inception_v3()), own)
    assert zoo is not None
    assert torch is not None
    assert "average pools" in zoo.problems(BACKBONES["inception_v3"], own.layers[-1])[0]
    assert "average pools" in torch.problems(own, own.layers[-1])[0]
