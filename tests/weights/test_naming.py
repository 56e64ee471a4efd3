"""Every published naming meets every canonical parameter once, in the same order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from probe.backbones.catalog import BACKBONES
from probe.weights.fit import fit_file, fitting_backbones, holds_layers, shapes_of
from tests.weights import published
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
    # Gluon's MobileNet v2 has a classifier without bias, which torchvision's cannot become
    lacking = {"output.0.weight"} if name == "mobilenet_v2" else set()
    assert (set(fit.missing), fit.misshapen, fit.unknown) == (lacking, {}, ())
    assert set(fit.naming.sources) | lacking == set(shapes_of(name))
    used = [one for source in fit.naming.sources.values() for one in source.names]
    assert len(used) == len(set(used))
    spare = {one for one in names if not one.endswith("num_batches_tracked")} - set(used)
    tops = ("classifier.1.weight", "classifier.1.bias") if lacking else ()
    assert all(one.startswith("AuxLogits.") or one in tops for one in spare)


@pytest.mark.parametrize("name", TORCH)
def test_torch_names_keep_the_order_of_the_network(name: str) -> None:
    """What shapes cannot tell apart, the order of the modules does."""
    fit = fit_file(pretend(published.torchvision(name)), BACKBONES[name])
    assert fit is not None
    sources = fit.naming.sources
    mapped = [one for name in shapes_of(name) if name in sources for one in sources[name].names]
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


@pytest.mark.parametrize("name", [one for one in BACKBONES if one.startswith("vgg")])
def test_timms_vgg_has_convolutions_for_its_dense_layers(name: str) -> None:
    fit = fit_file(pretend(published.timm_vgg(name)), BACKBONES[name])
    assert fit is not None
    assert fit.naming.name == "timm"
    assert not fit.problems(BACKBONES[name], BACKBONES[name].logits)
    tops = [fit.naming.sources[one].names[0] for one in ("output.weight", "output.bias")]
    assert tops == ["head.fc.weight", "head.fc.bias"]


@pytest.mark.parametrize("depth", [18, 50])
def test_transformers_resnet_fits(depth: int) -> None:
    names, backbone = published.transformers_resnet(depth), BACKBONES[f"resnet{depth}"]
    fit = fit_file(pretend(names, "safetensors"), backbone)
    assert fit is not None
    assert (fit.naming.name, fit.problems(backbone, backbone.logits)) == ("transformers", [])


def test_transformers_resnet_without_its_classifier_fits() -> None:
    """ResNetModel's own state dict has no prefix, and no classifier."""
    names = {
        one.removeprefix("resnet."): shape
        for one, shape in published.transformers_resnet(50).items()
        if not one.startswith("classifier")
    }
    file = pretend(names, "safetensors")
    fit = fit_file(file, BACKBONES["resnet50"])
    assert fit is not None
    assert (fit.unknown, fit.misshapen, fit.omitted[1:]) == ((), {}, ("no classifier",))
    assert holds_layers(file, BACKBONES["resnet50"])[-1] == "gap"
    assert fitting_backbones(file) == ("resnet50",)


def test_timms_lite0_needs_a_file_name_since_its_padding_cannot_be_told() -> None:
    backbone, layer = BACKBONES["efficientnet_lite0"], BACKBONES["efficientnet_lite0"].layers[-1]
    file = pretend(published.timm_lite0())
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
    file = pretend(published.keras_inception_v3(first), "keras")
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
