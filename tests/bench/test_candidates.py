"""What a person types, and what it is taken for."""

from __future__ import annotations

from typing import Any

import pytest

from probe.bench.candidates import (
    Candidate,
    Defaults,
    assignments,
    candidates,
    dataset_labels,
    feature_name,
    matching,
    parse_candidate,
)
from probe.errors import UnknownNameError, UsageError


def defaults(**given: Any) -> Defaults:
    return Defaults(**{"weights": {}, "preprocess": {}, **given})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("vgg16", Candidate(backbone="vgg16")),
        ("vgg16@64", Candidate(backbone="vgg16", size=64)),
        ("vgg16@64:pad=a.pth", Candidate(backbone="vgg16", size=64, resize="pad", weights="a.pth")),
        (
            "vgg16/pool4+pool5@64",
            Candidate(backbone="vgg16", layers=("pool4", "pool5"), size=64),
        ),
        (
            "vgg16/conv5_3:flatten@32",
            Candidate(backbone="vgg16", layers=("conv5_3",), pool="flatten", size=32),
        ),
        (
            "resnet18@32=random:0",
            Candidate(backbone="resnet18", size=32, weights="random:0"),
        ),
        (
            "resnet18=/a folder/x@2=y.pth",
            Candidate(backbone="resnet18", weights="/a folder/x@2=y.pth"),
        ),
    ],
)
def test_a_candidate_is_read(text: str, wanted: Candidate) -> None:
    assert parse_candidate(text) == wanted


@pytest.mark.parametrize("text", ["vgg16@", "vgg16@big", "@32", "vgg16/", "a b", "vgg16/pool5:@3"])
def test_what_is_no_candidate_shows_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="expected BACKBONE"):
        parse_candidate(text)


def test_an_unknown_way_to_resize_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match="to resize by stretch: expected crop, squash, pad, or the"
    ):
        parse_candidate("vgg16@64:stretch")


def test_a_side_to_crop_from_is_read_back() -> None:
    name = feature_name("vgg16", "pool5", "avg", 227, "auto", resize="256")
    assert name == "vgg16/pool5@227:256"
    assert (parse_candidate(name).size, parse_candidate(name).resize) == (227, "256")


def test_a_misspelt_backbone_or_layer_is_refused_at_once() -> None:
    with pytest.raises(UnknownNameError, match="vgg16"):
        parse_candidate("vgg61")
    with pytest.raises(UnknownNameError, match="pool5"):
        parse_candidate("vgg16/pool9")


def test_options_fill_what_candidates_leave_open() -> None:
    found = candidates(
        ["vgg16", "resnet18@32=random:0", "vgg16@64"],
        defaults(
            sizes=(64, 128),
            layers=("pool4", "gap"),
            weights={"vgg16": "f.h5"},
            mean={"vgg16": "m.binaryproto"},
        ),
    )
    assert [one.mean for one in found] == ["m.binaryproto", "m.binaryproto", None]
    assert [(one.backbone, one.size, one.layers, one.weights) for one in found] == [
        ("vgg16", 64, ("pool4",), "f.h5"),
        ("vgg16", 128, ("pool4",), "f.h5"),
        ("resnet18", 32, ("gap",), "random:0"),
    ]  # the last was asked for already


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": {"resnet50": "f"}}, "resnet50 is not among --backbones"),
        ({"mean": {"resnet50": "f"}}, "--mean resnet50=...: resnet50 is not among --backbones"),
        ({"layers": ("pool9",)}, "--layer pool9: none of vgg16 has it"),
    ],
)
def test_an_option_that_speaks_of_nothing_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        candidates(["vgg16"], defaults(**given))


def test_assignments_need_a_name_unless_there_is_one_backbone() -> None:
    two = ["vgg16@32", "resnet18"]
    assert assignments("--weights", ["vgg16=b=c"], two) == {"vgg16": "b=c"}
    assert assignments("--weights", ["a folder/f=1.h5"], two[:1]) == {"vgg16": "a folder/f=1.h5"}
    for texts in (["f.h5"], ["vgg16=1", "vgg16=2"]):
        with pytest.raises(UsageError, match="--weights"):
            assignments("--weights", texts, two)


def test_a_features_name_reads_back_as_a_candidate() -> None:
    name = feature_name("vgg16", "conv5_3", "flatten", 32, "random:3")
    assert name == "vgg16/conv5_3:flatten@32=random:3"
    one = parse_candidate(name)
    assert (one.layers, one.pool, one.size, one.weights) == (
        ("conv5_3",),
        "flatten",
        32,
        "random:3",
    )


def test_features_resized_by_a_policy_say_so() -> None:
    name = feature_name("vgg16", "pool5", "avg", 64, "random:0", resize="pad")
    assert parse_candidate(name).resize == "pad"
    assert matching("vgg16@64:pad", [name, "vgg16/pool5@64"]) == name


def test_a_short_text_means_the_features_it_fits_if_they_are_one() -> None:
    names = ["vgg16/pool5@32", "vgg16/pool5@64", "resnet18/gap@32=random:0"]
    assert matching("resnet18", names) == names[2]
    assert matching("vgg16@64", names) == names[1]
    with pytest.raises(UsageError, match="several of the features"):
        matching("vgg16/pool5", names)
    with pytest.raises(UsageError, match="none of the features"):
        matching("vgg16@128", names)


def test_the_slash_that_begins_a_values_name_goes_without_saying() -> None:
    name = feature_name("net.onnx", "/layer.1/Add_output_0", "cls", 32, "net.onnx")
    assert name == "net.onnx/layer.1/Add_output_0:cls@32"
    names = [name, "net.onnx/layer.2/Add_output_0:cls@32"]
    for text in (name, "net.onnx//layer.1/Add_output_0", "net.onnx/layer.1/Add_output_0@32"):
        assert matching(text, names) == name


def test_folders_of_one_name_keep_their_paths() -> None:
    assert dataset_labels(["digits", "/a/cats", "/b/dogs"]) == ["digits", "cats", "dogs"]
    assert dataset_labels(["/a/cats", "/b/cats"]) == ["/a/cats", "/b/cats"]
    several = ["/a/data-{000..099}.tar", "/b/lists/{train,val}.txt"]
    assert dataset_labels(several) == ["data", "lists"]  # as the datasets are called


@pytest.mark.parametrize(
    ("texts", "defaults", "message"),
    [
        (["vgg16@32", "resnet18@64"], {"sizes": (48,)}, "--size: every backbone has its own"),
        (["vgg16/pool4"], {"layers": ("pool5",)}, "--layer: every backbone has its own"),
        (
            ["vgg16@32=a.h5", "vgg16@64=b.h5"],
            {"weights": {"vgg16": "c.h5"}},
            "--weights vgg16=...: every vgg16 has its own",
        ),
    ],
)
def test_a_default_that_no_candidate_leaves_open_is_refused(
    texts: list[str], defaults: dict[str, Any], message: str
) -> None:
    made = Defaults(**{"weights": {}, "preprocess": {}, **defaults})
    with pytest.raises(UsageError, match=message):
        candidates(texts, made)
