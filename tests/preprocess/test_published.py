"""Published preprocessing gives the pixels of the program that wrote it.

The goldens hold the files as transformers, OpenCLIP and timm write them, and what those programs
make of seven photographs (benchmarks/goldens/preprocess_goldens.py).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import UsageError
from probe.preprocess.load import load_preprocess
from probe.preprocess.published import published_in, read_published
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec
from tests.preprocess.photographs import photographs

GOLDENS = json.loads(Path(__file__).with_name("goldens.json").read_text())
FILES = {
    name: one
    for group in ("transformers", "open_clip", "timm")
    for name, one in GOLDENS[group].items()
}


def assert_same_pixels(spec: PreprocessSpec, golden: dict[str, Any]) -> None:
    gain, shift = (one.ravel() for one in spec.arithmetic())
    np.testing.assert_allclose(-shift, golden["black"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(255 * gain - shift, golden["white"], rtol=1e-5, atol=1e-6)
    for name, image in photographs().items():
        pixels = resize_image(image, spec).transpose(2, 0, 1)[
            :: -1 if spec.channels == "BGR" else 1
        ]
        expected = golden[name]
        if isinstance(expected, str):
            found = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8)
            assert found.hexdigest() == expected, name
        else:
            assert np.abs(pixels.ravel()[::997] - np.array(expected)).max() <= 1, name


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_gives_the_pixels_of_its_program(name: str, tmp_path: Path) -> None:
    path = tmp_path / "some name.json"
    path.write_text(json.dumps(FILES[name]["file"]))
    spec = read_published(path)
    assert_same_pixels(spec, FILES[name])
    assert load_preprocess(str(path)) == spec


@pytest.mark.parametrize("name", GOLDENS["torchvision"])
def test_a_name_of_torchvision_gives_the_pixels_of_its_transforms(name: str) -> None:
    assert_same_pixels(load_preprocess(name), GOLDENS["torchvision"][name])


@pytest.mark.parametrize("name", GOLDENS["torchvision transforms"])
def test_every_name_of_torchvision_means_its_transforms(name: str) -> None:
    if name.startswith("Inception_V3"):
        with pytest.raises(UsageError, match="second time; give torchvision_inception"):
            load_preprocess(name)
        return
    spec = load_preprocess(name)
    found = [spec.size, spec.short_side, spec.interpolation, [*spec.mean], [*spec.std]]
    assert found == GOLDENS["torchvision transforms"][name][:-1]
    assert (spec.resize, spec.scale, spec.antialias) == ("crop", 1 / 255, True)


VIT = FILES["vit"]["file"]
CLIP = FILES["clip"]["file"]
CONVNEXT = FILES["resnet"]["file"]
TIMM = FILES["resnet50.a1_in1k"]["file"]


def timm(**fields: object) -> dict[str, Any]:
    return TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | fields}


OPEN_CLIP = FILES["ViT-B-32"]["file"]


def open_clip(**fields: object) -> dict[str, Any]:
    return OPEN_CLIP | {"preprocess_cfg": OPEN_CLIP["preprocess_cfg"] | fields}


def without(file: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name != field}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (VIT | {"resample": 1}, r"resample is 1, lanczos, .* \(bicubic\); choose a preproc"),
        (VIT | {"resample": 4}, "resample is 4, box, and probe"),
        (without(VIT, "resample"), "resample is missing"),
        (VIT | {"resample": True}, "resample is True"),
        (VIT | {"size": {"height": 224, "width": 192}}, "size is .* neither a square nor"),
        (VIT | {"size": {"longest_edge": 224}}, "size is .* neither a square nor"),
        (VIT | {"size": {"shortest_edge": 224, "longest_edge": 500}}, "size is .* neither"),
        (VIT | {"size": {"shortest_edge": 224}}, "no do_center_crop makes the images square"),
        (VIT | {"size": 0}, "size is {'height': 0"),
        (VIT | {"size": "224"}, "size is '224'"),
        (VIT | {"size": {}}, "size is {}"),
        (without(VIT, "size"), "size is missing"),
        (VIT | {"do_resize": False}, "do_resize is False"),
        (VIT | {"auto_map": {"AutoImageProcessor": "own.Own"}}, "auto_map is .* does not know"),
        (VIT | {"do_pad": True}, "do_pad is True, which probe does not know of ViTImageProcessor"),
        (VIT | {"do_flip_channel_order": True}, "do_flip_channel_order is True, which"),
        (VIT | {"crop_size": 224}, "do_center_crop is missing, and versions of transformers"),
        (without(FILES["deit"]["file"], "do_center_crop"), "do_center_crop is missing"),
        (without(FILES["poolformer"]["file"], "crop_pct"), "crop_pct is missing"),
        (VIT | {"size": 224, "default_to_square": False}, "size is 224, and default_to_square"),
        (VIT | {"do_normalize": None}, "do_normalize is null, and versions of transformers"),
        (VIT | {"do_normalize": 1}, "do_normalize is 1, expected true or false"),
        (VIT | {"image_mean": 0.5}, "image_mean is 0.5, expected three numbers"),
        (VIT | {"image_std": [0.5, 0.5]}, "image_std is .*, expected three numbers"),
        (VIT | {"image_std": [0.5, 0, 0.5]}, "preprocessing field std is"),
        (VIT | {"rescale_factor": 10**400}, "rescale_factor is 1000"),
        (VIT | {"rescale_factor": -1}, "preprocessing field scale is -1"),
        (without(VIT, "image_mean"), "image_mean is missing"),
        (without(VIT, "image_processor_type"), "image_processor_type is missing"),
        (VIT | {"image_processor_type": "PerceiverImageProcessor"}, "that probe does not know"),
        (VIT | {"image_processor_type": "Siglip2ImageProcessor"}, "that probe does not know"),
        (CLIP | {"crop_size": {"height": 256, "width": 256}}, "more than the 224 pixels"),
        (CLIP | {"crop_size": {"height": 224, "width": 200}}, "crop_size is .* side of a square"),
        (CLIP | {"do_center_crop": False}, "no do_center_crop makes the images square"),
        (CONVNEXT | {"crop_pct": 1.2}, "crop_pct is 1.2, .* black border"),
        (CONVNEXT | {"crop_pct": 1e-320}, "crop_pct is 1e-320"),
        (without(CONVNEXT, "crop_pct"), "crop_pct is missing"),
        (CONVNEXT | {"size": {"height": 224, "width": 224}}, "needs shortest_edge"),
        (FILES["dinov3"]["file"] | {"resample": 3}, "resample is 3, and probe does DINOv3ViT's"),
        (FILES["dinov3"]["file"] | {"resample": 0}, "resample is 0, and probe does DINOv3ViT's"),
        (FILES["mobilevit"]["file"] | {"do_normalize": True}, "do_normalize is True"),
        (timm(interpolation="lanczos"), "interpolation is 'lanczos', and probe resizes by"),
        (timm(input_size=[3, 224, 192]), "input_size is .* square images of 3 channels"),
        (timm(input_size=[1, 28, 28]), "input_size is .* square images of 3 channels"),
        (timm(input_size=224), "input_size is 224"),
        (timm(crop_pct=1.15), "crop_pct is 1.15, .* black border"),
        (timm(crop_mode="border"), "crop_mode is 'border', and probe does as center and squash"),
        (timm(mean=[0.5]), "mean is .0.5., expected three numbers"),
        (open_clip(resize_mode="longest"), r"resize_mode is 'longest', .* \(longest adds a border"),
        (open_clip(interpolation="nearest"), "interpolation is 'nearest', and OpenCLIP has"),
        (open_clip(interpolation=["bicubic"]), r"interpolation is \['bicubic'\], and OpenCLIP has"),
        (open_clip(mode="L"), "mode is 'L', expected RGB"),
        (open_clip(mean=[0.5]), "mean is .0.5., expected three numbers"),
        (open_clip(gamma=2.2), "gamma is 2.2, which probe does not know of OpenCLIP"),
        ({"model_cfg": {"vision_cfg": {"image_size": [224, 160]}}}, "image_size is .224, 160."),
        ({"model_cfg": {"vision_cfg": {"image_size": None}}}, "image_size is missing, expected"),
        ({"model_cfg": {"embed_dim": 512}}, "model_cfg is .*, expected an object with vision_cfg"),
        ({"model_cfg": {"vision_cfg": {}}, "preprocess_cfg": 3}, "preprocess_cfg is 3, expected"),
        ({"pretrained_cfg": "resnet50"}, "pretrained_cfg is 'resnet50', expected an object"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_said_exactly_is_refused(
    file: dict[str, Any], message: str, tmp_path: Path
) -> None:
    telling = {"pretrained_cfg": "config.json", "model_cfg": "open_clip_config.json"}
    named = [name for field, name in telling.items() if field in file]
    path = tmp_path / (named or ["preprocessor_config.json"])[0]
    path.write_text(json.dumps(file))
    reads = (
        read_published,
        lambda one: published_in(one.parent),
        lambda one: load_preprocess(str(one)),
    )
    for read in reads:
        with pytest.raises(UsageError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_fields_that_are_null_where_nothing_is_done_are_as_if_missing() -> None:
    nulls = {"crop_size": None, "do_center_crop": None, "do_pad": None, "do_convert_rgb": None}
    fast = VIT | nulls | {"image_processor_type": "ViTImageProcessorFast", "device": None}
    assert decode(fast).identity() == decode(VIT).identity()
    mobilevit = FILES["mobilevit"]["file"]
    assert decode(mobilevit | {"do_normalize": None}) == decode(mobilevit)


def test_timms_larger_test_input_is_left_alone_as_timm_does(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TIMM))
    assert TIMM["pretrained_cfg"]["test_input_size"] == [3, 288, 288]
    assert read_published(path).size == 224
    path.write_text(json.dumps(TIMM["pretrained_cfg"]))  # as timm wrote it before version 0.9
    assert read_published(path).identity() == decode(TIMM).identity()


def test_the_side_is_that_of_open_clips_network_and_the_rest_has_its_defaults() -> None:
    bare = {"model_cfg": {"vision_cfg": {"image_size": [336, 336]}, "text_cfg": {}}}
    other_size = bare | {"preprocess_cfg": {"size": 224, "resize_mode": None}}
    for file in (bare, other_size):
        assert decode(file).identity() == decode(FILES["ViT-L-14-336"]["file"]).identity()


def decode(file: dict[str, Any]) -> PreprocessSpec:
    from probe.preprocess.published import decode_published

    spec = decode_published(file, Path("x.json"))
    assert spec is not None
    return spec


def test_a_folder_is_read_whichever_of_its_files_tells(tmp_path: Path) -> None:
    assert published_in(tmp_path) is None
    with pytest.raises(UsageError, match="this folder has no preprocessor_config"):
        load_preprocess(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit", "image_size": 224}')
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert published_in(tmp_path) is None
    (tmp_path / "config.json").write_text("not JSON, and another program's")
    assert published_in(tmp_path) is None
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": CLIP}))
    assert published_in(tmp_path) == decode(CLIP)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    assert load_preprocess(str(tmp_path)) == decode(CLIP)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP))
    assert load_preprocess(str(tmp_path)) == decode(CLIP)  # but for how they round a crop
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    with pytest.raises(UsageError, match=r"preprocessor_config.json says .*, and config.json says"):
        published_in(tmp_path)


@pytest.mark.parametrize("kind", GOLDENS["transformers models"])
def test_where_no_processor_is_named_the_model_type_decides(kind: str, tmp_path: Path) -> None:
    files = [one["file"] for one in FILES.values()]
    named = f"{kind}ImageProcessor"
    file = next(one for one in files if one.get("image_processor_type") == named)
    path, config = tmp_path / "preprocessor_config.json", tmp_path / "config.json"
    path.write_text(json.dumps(without(file, "image_processor_type")))
    for model in GOLDENS["transformers models"][kind]:
        config.write_text(json.dumps({"model_type": model}))
        assert read_published(path) == decode(file)
    for unclear in (
        {"model_type": "perceiver"},
        {"model_type": model, "auto_map": {"AutoImageProcessor": "own.Own"}},
        {"model_type": model, "image_processor_type": "Other"},
    ):
        config.write_text(json.dumps(unclear))
        with pytest.raises(UsageError, match=r"_type is missing, and no config\.json beside it"):
            read_published(path)


def test_a_nested_processor_goes_by_the_model_type_and_another_file_does_not(
    tmp_path: Path,
) -> None:
    nested, other = tmp_path / "processor_config.json", tmp_path / "my.json"
    for path in (nested, other):
        path.write_text(json.dumps({"image_processor": without(CLIP, "image_processor_type")}))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert published_in(tmp_path) == decode(CLIP)
    with pytest.raises(UsageError, match="image_processor_type is missing"):
        read_published(other)


def test_two_files_that_differ_only_in_how_they_round_a_crop_agree(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    processor = CLIP | {"size": {"shortest_edge": 235}, "image_mean": [0.485, 0.456, 0.406],
                        "image_std": [0.229, 0.224, 0.225]}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert published_in(tmp_path) == decode(processor)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ResNet50_Weights.DEFAULT", "did you mean ResNet50_Weights.IMAGENET1K_V1 or .*_V2"),
        ("ResNet5_Weights.IMAGENET1K_V1", "did you mean ResNet50_Weights.IMAGENET1K_V1"),
        ("FasterRCNN_ResNet50_FPN_Weights.COCO_V1", "not the name of weights"),
    ],
)
def test_another_name_of_torchvision_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_preprocess(name)


def test_of_a_preset_there_is_one_key_under_every_name(tmp_path: Path) -> None:
    alike = [
        decode(FILES["resnet50.tv_in1k"]["file"]),
        load_preprocess("AlexNet_Weights.IMAGENET1K_V1"),
    ]
    for one in alike:
        assert one.identity() == load_preprocess("torchvision").identity()
