"""Golden pixels of the image processors of transformers, OpenCLIP, timm and torchvision.

    python -m venv pv && pv/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 \
        transformers==5.24.0 open_clip_torch==3.3.0 Pillow==13.0.0 scikit-learn==1.9.1
    pv/bin/python -m benchmarks.goldens.preprocess_goldens         # in the repository's root

writes tests/preprocess/goldens.json: the file that each program writes about a preprocessing
(``save_pretrained``, ``save_config_for_hf``), what it makes of a black and of a white image, and a
digest of its pixels for seven photographs in grey levels, or every 997th of them where the program
does not round them to whole ones; which files the weights of torchvision's and timm's names are;
and for which ``model_type`` transformers takes which processor. It also prints how far its
processors of torch tensors are from those of Pillow. In three minutes on two busy cores.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL
import timm
import torchvision
import transformers
from numpy.typing import NDArray
from open_clip.push_to_hf_hub import save_config_for_hf as save_open_clip
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models._hub import save_config_for_hf
from torchvision import models
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from tests.preprocess.photographs import photographs

OUT = Path(__file__).parents[2] / "tests/preprocess/goldens.json"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
EDGE = "shortest_edge"


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


# as the networks are published: name -> processor, what differs from its defaults
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {}),
    "swin": ("ViT", {"resample": 3, **IMAGENET}),
    "vit not normalised": ("ViT", {"do_normalize": False}),
    "vit not rescaled": ("ViT", {"do_rescale": False, "image_mean": [127.5] * 3,
                                 "image_std": [127.5, 127.0, 126.0]}),
    "deit": ("DeiT", IMAGENET),
    "deit, odd margin": ("DeiT", {"size": square(255), **IMAGENET}),
    "beit": ("Beit", {}),
    "pvt": ("Pvt", {}),
    "blip": ("Blip", {}),
    "segformer": ("Segformer", {}),
    "dinov3": ("DINOv3ViT", {}),
    "clip": ("CLIP", {}),
    "clip 336": ("CLIP", {"size": {EDGE: 336}, "crop_size": square(336)}),
    "chinese clip": ("ChineseCLIP", {}),
    "dinov2": ("Bit", {"size": {EDGE: 256}, **IMAGENET}),
    "siglip": ("Siglip", {}),
    "siglip 384": ("Siglip", {"size": square(384)}),
    "mobilenet v1": ("MobileNetV1", {}),
    "mobilenet v2": ("MobileNetV2", {}),
    "mobilevit": ("MobileViT", {"size": {EDGE: 288}, "resample": 2}),
    "resnet": ("ConvNext", {"size": {EDGE: 224}, **IMAGENET}),
    "convnext 384": ("ConvNext", {"size": {EDGE: 384}, "crop_pct": 1.0, **IMAGENET}),
    "poolformer": ("PoolFormer", {"crop_pct": 0.95}),
    "levit": ("Levit", {}),
    "efficientnet": ("EfficientNet", {
        "size": square(224), "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.47853944, 0.4732864, 0.47434163],
    }),
    "efficientnet b0": ("EfficientNet", {  # as google publishes it
        "size": square(224), "resample": 0, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.47853944, 0.4732864, 0.47434163],
    }),
    "efficientnet b5": ("EfficientNet", {
        "size": square(456), "resample": 0, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.47853944, 0.4732864, 0.47434163],
    }),
    "bit, nearest": ("Bit", {"size": {EDGE: 255}, "resample": 0, **IMAGENET}),
    "efficientnet b7": ("EfficientNet", {"do_center_crop": True, "include_top": False}),
    "efficientnet, offset": ("EfficientNet", {
        "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False,
        "include_top": False, "size": square(240),
    }),
}  # fmt: skip
# as earlier versions of transformers wrote them, when a size was a number
OLD: dict[str, dict[str, Any]] = {
    "old vit": {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 224,
    },
    "old deit": {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor", "resample": 3, "size": 256, **IMAGENET,
    },
    "old clip": {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "old convnext": {
        "crop_pct": 0.875, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3, "size": 224,
        **IMAGENET,
    },
    "old mobilevit": {
        "crop_size": 256, "do_center_crop": True, "do_flip_channel_order": True, "do_resize": True,
        "feature_extractor_type": "MobileViTFeatureExtractor", "resample": 2, "size": 288,
    },
}  # fmt: skip
TIMM = (
    "resnet50.a1_in1k", "resnet50.tv_in1k", "tf_efficientnet_lite0.in1k", "efficientnet_b1.ft_in1k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_siglip_224.webli", "deit3_small_patch16_384.fb_in22k_ft_in1k",
    "convnext_tiny.fb_in22k_ft_in1k_384", "eva02_tiny_patch14_336.mim_in22k_ft_in1k",
    "mobilenetv3_large_100.ra_in1k", "dpn68.mx_in1k", "levit_128s.fb_dist_in1k",
    "inception_v3.tf_in1k", "hrnet_w18_small.ms_in1k", "coatnet_0_rw_224.sw_in1k",
)  # fmt: skip
# name -> side of the input, and how OpenCLIP's own list of weights has them preprocessed
OPEN_CLIP: dict[str, tuple[int, dict[str, Any]]] = {
    "ViT-B-32": (224, {}),
    "ViT-L-14-336": (336, {}),
    "ViT-B-16-SigLIP-256": (256, open_clip.get_pretrained_cfg("ViT-B-16-SigLIP-256", "webli")),
    "ViT-L-14-CLIPA": (224, open_clip.get_pretrained_cfg("ViT-L-14-CLIPA", "datacomp1b")),
    "MobileCLIP-S1": (256, open_clip.get_pretrained_cfg("MobileCLIP-S1", "datacompdr")),
    "random in training": (97, {"interpolation": "random", "resize_mode": "squash"}),
}
TORCHVISION = (
    "ResNet50_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2",
    "EfficientNet_B1_Weights.IMAGENET1K_V2", "Swin_V2_T_Weights.IMAGENET1K_V1",
    "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", "EfficientNet_V2_L_Weights.IMAGENET1K_V1",
    "VGG16_Weights.IMAGENET1K_FEATURES", "ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
)  # fmt: skip
Program = Callable[[Image.Image], NDArray[np.float32]]  # of an image, (3, size, size)


def golden(run: Program) -> dict[str, Any]:
    """Return what a program makes of black, of white, and of the photographs."""
    flat = [run(Image.new("RGB", (600, 600), (level,) * 3))[:, 0, 0] for level in (0, 255)]
    found: dict[str, Any] = {
        "black": [float(one) for one in flat[0]], "white": [float(one) for one in flat[1]],
    }  # fmt: skip
    for name, image in photographs().items():
        levels = grey_levels(run(Image.fromarray(image)), *flat)
        whole = np.round(levels).astype(np.uint8)
        if np.abs(levels - whole).max() < 0.01:
            found[name] = hashlib.blake2b(whole.tobytes(), digest_size=8).hexdigest()
        else:
            found[name] = [round(float(one), 2) for one in levels.ravel()[::997]]
    return found


def grey_levels(
    out: NDArray[np.float32], black: NDArray[np.float32], white: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return a program's output, (3, size, size), in grey levels of 0 to 255."""
    low, high = (one.astype(np.float64)[:, None, None] for one in (black, white))
    return (out - low) / (high - low) * 255


def of_transformers(processor: Any) -> Program:
    return lambda image: np.asarray(processor(image, return_tensors="np")["pixel_values"][0])


def processors() -> Iterator[tuple[str, str, Any, Any]]:
    """Yield a name, the file's text, the processor of Pillow and that of tensors."""
    for name, (kind, options) in SAVED.items():
        tensors = getattr(transformers, f"{kind}ImageProcessor")(**options)
        pillow = getattr(transformers, f"{kind}ImageProcessorPil", type(tensors))(**options)
        with tempfile.TemporaryDirectory() as folder:
            pillow.save_pretrained(folder)
            yield name, Path(folder, "preprocessor_config.json").read_text(), pillow, tensors
    for name, fields in OLD.items():
        kind = fields["feature_extractor_type"].removesuffix("FeatureExtractor")
        pillow, tensors = (
            getattr(transformers, f"{kind}ImageProcessor{end}").from_dict(fields)
            for end in ("Pil", "")
        )
        yield name, json.dumps(fields), pillow, tensors


def of_open_clip() -> Iterator[tuple[str, str, Program]]:
    """Yield a name, the text of ``open_clip_config.json``, and what OpenCLIP does by this file."""
    for name, (side, stated) in OPEN_CLIP.items():
        small = {"layers": 1, "width": 64, "head_width": 32, "patch_size": side // 7}
        model_cfg = {
            "embed_dim": 32, "vision_cfg": small | {"image_size": side},
            "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "layers": 1,
                         "heads": 1},
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "open_clip_config.json")
            path.write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": stated}))
            for _ in range(2):  # the second time from the file that OpenCLIP writes
                model, _, transform = open_clip.create_model_and_transforms(
                    f"local-dir:{folder}", load_weights=False
                )
                save_open_clip(model, path, model_cfg)
            run = lambda image, one=transform: one(image).numpy()  # noqa: E731
            yield name, path.read_text(), run


def main() -> None:
    goldens: dict[str, Any] = {"transformers": {}, "open_clip": {}, "timm": {}, "torchvision": {}}
    for name, text, pillow, tensors in processors():
        found = golden(of_transformers(pillow))
        goldens["transformers"][name] = {"file": json.loads(text), **found}
        ends = [np.array(found[one], np.float32) for one in ("black", "white")]
        far = [
            np.abs(grey_levels(a, *ends) - grey_levels(b, *ends))
            for image in map(Image.fromarray, photographs().values())
            for a, b in [[of_transformers(one)(image) for one in (pillow, tensors)]]
        ]
        most, several = max(one.max() for one in far), max((one > 1.01).mean() for one in far)
        print(f"{name}: tensors differ by up to {most:.2f}, {several:.1e} by more than 1")
    for name, text, run in of_open_clip():
        goldens["open_clip"][name] = {"file": json.loads(text), **golden(run)}
    for name in TIMM:
        model = timm.create_model(name, pretrained=False)
        transform = create_transform(**resolve_model_data_config(model))
        with tempfile.TemporaryDirectory() as folder:
            save_config_for_hf(model, str(Path(folder, "config.json")))
            file = json.loads(Path(folder, "config.json").read_text())
        found = golden(lambda image, one=transform: one(image).numpy())
        goldens["timm"][name] = {"file": file, **found}
    facts = {}
    for network in models.list_models(module=models):
        for member in models.get_model_weights(network):
            t = member.transforms()
            facts[str(member)] = [
                t.crop_size[0], t.resize_size[0], t.interpolation.value, [*t.mean], [*t.std],
                member.url.rpartition("/")[2],
            ]  # fmt: skip
            if str(member) in TORCHVISION:
                run = lambda image, one=t: one(image).numpy()  # noqa: E731
                goldens["torchvision"][str(member)] = golden(run)
    goldens["torchvision transforms"] = facts
    urls = {name: timm.get_pretrained_cfg(name).url or "" for name in timm.list_pretrained()}
    goldens["timm files"] = {
        name: url.rpartition("/")[2]
        for name, url in urls.items()
        if "download.pytorch.org" in url or "lite0" in url
    }
    goldens["transformers models"] = {
        kind: sorted(
            model
            for model, names in IMAGE_PROCESSOR_MAPPING_NAMES.items()
            if f"{kind}ImageProcessor" in names.values()
        )
        for kind in dict.fromkeys(one for one, _ in SAVED.values())
    }
    goldens["made with"] = {
        "python": sys.version.split()[0], "transformers": transformers.__version__,
        "open_clip": open_clip.__version__, "timm": timm.__version__,
        "torchvision": torchvision.__version__, "Pillow": PIL.__version__,
    }  # fmt: skip
    lines = [
        f" {json.dumps(group)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in of.items())
        + "\n }"
        for group, of in goldens.items()
    ]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
