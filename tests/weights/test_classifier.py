"""Weights that were fine-tuned: their last layer has another name, another width, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.bundle import Bundle
from probe.bundle.make import own_top, read_classes
from probe.errors import BundleError, UsageError
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import GLUON
from probe.weights.fit import fit_classifier, fit_file, fitting_backbones, holds_layers, shapes_of
from probe.weights.safetensors_file import write_safetensors
from tests.weights import published
from tests.weights.helpers import pretend

Shapes = dict[str, tuple[int, ...]]


def torch_with(head: Shapes, name: str = "resnet18", top: str = "fc.") -> Shapes:
    names = published.torchvision(name)
    return {one: shape for one, shape in names.items() if not one.startswith(top)} | head


def named_by(format_: str, name: str, head: Shapes) -> Shapes:
    """The names of a naming of that format, without the classifier's, and a head."""
    from probe.weights.fit import _namings

    naming = next(one for one in _namings(name) if format_ in one.formats)
    found = {}
    for canonical, source in naming.sources.items():
        if not canonical.startswith("output."):
            found |= dict(zip(source.names, source.shapes, strict=True))
    return found | head


RESNET_HEADS: dict[str, Shapes] = {
    "two classes": {"fc.weight": (2, 512), "fc.bias": (2,)},
    "renamed": {"classifier.weight": (7, 512), "classifier.bias": (7,)},
    "renamed, as many": {"head.weight": (1000, 512), "head.bias": (1000,)},
    "a sequence": {"fc.1.weight": (2, 512), "fc.1.bias": (2,)},
    "no bias": {"last.weight": (2, 512)},
    "two layers and a norm": {
        "fc.0.weight": (64, 512), "fc.0.bias": (64,), "fc.1.weight": (64,), "fc.1.bias": (64,),
        "fc.1.running_mean": (64,), "fc.1.running_var": (64,), "fc.1.num_batches_tracked": (),
        "fc.3.weight": (2, 64), "fc.3.bias": (2,),
    },
}  # fmt: skip


@pytest.mark.parametrize("format_", ["torch", "safetensors", "onnx"])
@pytest.mark.parametrize("head", RESNET_HEADS.values(), ids=RESNET_HEADS)
def test_a_head_of_its_own_is_left_out_with_a_note(head: Shapes, format_: str) -> None:
    file = pretend(torch_with(head), format_)
    fit = fit_file(file, BACKBONES["resnet18"])
    assert fit is not None
    assert not fit.unknown
    assert "resnet18" in fitting_backbones(file)
    assert holds_layers(file, BACKBONES["resnet18"])[-1] == "gap"
    (note,) = [one for one in fit.omitted if "classifier" in one]
    assert "left out" in note
    assert "no classifier" not in note


@pytest.mark.parametrize(
    ("format_", "name", "head"),
    [
        ("caffe", "caffenet", {"fc8_flickr/0": (20, 4096), "fc8_flickr/1": (20,)}),
        ("caffe", "caffenet", {"fc8/0": (20, 4096), "fc8/1": (20,)}),
        ("caffe", "vgg16", {"fc8-cats/0": (2, 4096), "fc8-cats/1": (2,)}),
        ("keras", "vgg16", {"dense_1/kernel": (4096, 2), "dense_1/bias": (2,)}),
        ("keras", "vgg16", {"predictions/kernel": (4096, 2), "predictions/bias": (2,)}),
        ("keras", "resnet50_v1", {"top/kernel": (2048, 2), "top/bias": (2,)}),
        ("gluon", "resnet18_v2", {"classifier.weight": (2, 512), "classifier.bias": (2,)}),
        ("gluon", "resnet18_v2", {"output.weight": (2, 512), "output.bias": (2,)}),
        ("torch", "squeezenet1_1", {"final.weight": (2, 512, 1, 1), "final.bias": (2,)}),
    ],
)
def test_in_every_format(format_: str, name: str, head: Shapes) -> None:
    file = pretend(named_by(format_, name, head), format_)
    backbone = BACKBONES[name]
    fit = fit_file(file, backbone)
    assert fit is not None
    assert not fit.problems(backbone, backbone.layers[-1])
    assert any("classifier" in one and "left out" in one for one in fit.omitted)
    own = fit_classifier(file, backbone)
    assert own is not None
    assert own[1] == min(next(iter(head.values()))[:2])
    assert not own[0].problems(backbone, backbone.classifier(own[1]))


@pytest.mark.parametrize("head", [
    {"features.9.weight": (512, 512, 3, 3)},  # no dense layer
    {"extra.weight": (2, 300), "extra.bias": (2,)},  # takes nothing that the network gives
    {"fc.weight": (1000, 512), "fc.bias": (1000,), "attention.weight": (512, 512)},
    {"scale": (512,)},
], ids="+".join)  # fmt: skip
def test_what_is_no_head_is_left_over_as_ever(head: Shapes) -> None:
    fit = fit_file(pretend(torch_with(head)), BACKBONES["resnet18"])
    assert fit is not None
    assert fit.unknown
    assert fitting_backbones(pretend(torch_with(head))) == ()


@pytest.fixture(scope="module")
def cats(
    tmp_path_factory: pytest.TempPathFactory, mx: Any
) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Two files of a network of three classes, an image, and MXNet's own answer."""
    folder = tmp_path_factory.mktemp("cats")
    mx.random.seed(3)
    net = mx.gluon.model_zoo.vision.get_model("squeezenet1.1", classes=3)
    net.initialize(mx.init.Xavier(magnitude=10))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    scaled = (resize_image(image, GLUON) / 255 - np.array(GLUON.mean)) / np.array(GLUON.std)
    logits = net(mx.nd.array(scaled.transpose(2, 0, 1)[None].astype("f4")))
    net.save_parameters(str(folder / "cats.params"))
    arrays = {name: one.data().asnumpy() for name, one in net._collect_params_with_prefix().items()}
    tops = [name for name in arrays if name.startswith("output.")]
    renamed = {f"mine.{one.rpartition('.')[2]}" if one in tops else one: a
               for one, a in arrays.items()}  # fmt: skip
    write_safetensors(
        folder / "renamed.safetensors", renamed, {n: a.shape for n, a in renamed.items()}, {}
    )
    expected = mx.nd.softmax(logits)[0].asnumpy()
    assert expected.max() - expected.min() > 0.1
    return folder / "cats.params", folder / "renamed.safetensors", image, expected


def test_its_own_classifier_answers(
    cats: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    *files, image, expected = cats
    names = ("cat", "dog", "owl")
    for file in files:
        top = own_top(
            "squeezenet1_1", cache_dir=tmp_path, weights=str(file), preprocess="gluon",
            classes=names,
        )  # fmt: skip
        top.bundle(tmp_path / file.stem)
        for bundle in (top.load(), Bundle.load(tmp_path / file.stem)):
            assert bundle.about.classes == names
            assert bundle.about.dataset == file.stem
            found = bundle.probabilities(bundle.features(bundle.pack(image)[None]))
            np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_names_have_to_be_as_many_as_its_classes(
    cats: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    def top(classes: tuple[str, ...] | None) -> None:
        own_top(
            "squeezenet1_1", cache_dir=tmp_path, weights=str(cats[0]), preprocess="gluon",
            classes=classes,
        )  # fmt: skip

    with pytest.raises(BundleError, match=r"2 names, and the classifier of cats.params has 3"):
        top(("cat", "dog"))
    with pytest.raises(BundleError, match="has 3 classes of its own; name them"):
        top(None)


def test_class_names_come_from_a_line_or_a_file(tmp_path: Path) -> None:
    assert read_classes("cat, dog") == ("cat", "dog")
    file = tmp_path / "classes.txt"
    file.write_text("Cat, domestic\n\ndog\n", encoding="utf-8-sig")
    assert read_classes(str(file)) == ("Cat, domestic", "dog")
    for wrong in ("", "cat,,dog", "cat,cat"):
        with pytest.raises(UsageError, match="--classes"):
            read_classes(wrong)


@pytest.mark.parametrize("name", ["resnet18", "caffenet", "efficientnet_lite0", "densenet121",
                                  "vgg11", "mobilenet_v2", "inception_v3_keras"])  # fmt: skip
def test_a_network_has_as_many_outputs_as_asked_for(name: str) -> None:
    published_, own = shapes_of(name), shapes_of(name, 7)
    assert {one for one in own if own[one] != published_[one]} == {
        one for one in own if one.startswith("output.")
    }
    assert all(own[one][0] == 7 for one in own if one.startswith("output."))
