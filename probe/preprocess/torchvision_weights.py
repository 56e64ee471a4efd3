"""The preprocessing of torchvision's weights, by the names of its enums.

``ResNet50_Weights.IMAGENET1K_V2`` is the shorter side to 232, of which the central 224 are used, by
an antialiased bilinear kernel. The table holds what ``transforms()`` of each member says, for all
of torchvision's networks that classify images but for Inception v3 (see `weights_transforms`).

References
----------
torchvision 0.29.1, models/*.py: classes *_Weights; transforms/_presets.py: ImageClassification.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import get_args

from probe.errors import UsageError
from probe.preprocess.spec import TORCHVISION, Interpolation, PreprocessSpec

ENUM = "_Weights."  # what every such name has in it
_MEMBER = f"{ENUM}IMAGENET1K_"

_TABLE: tuple[tuple[int, int, str, str, str], ...] = (
    # size of the crop, shorter side before it, kernel, end of the member's name, networks
    (224, 224, "bicubic", "SWAG_LINEAR_V1",
     "RegNet_Y_128GF RegNet_Y_16GF RegNet_Y_32GF ViT_B_16 ViT_H_14 ViT_L_16"),
    (224, 224, "bicubic", "V1", "MaxVit_T"),
    (224, 230, "bilinear", "V1", "ConvNeXt_Small"),
    (224, 232, "bicubic", "V1", "Swin_T"),
    (224, 232, "bilinear", "V1",
     ("ConvNeXt_Base ConvNeXt_Large MNASNet0_75 MNASNet1_3 ResNeXt101_64X4D ShuffleNet_V2_X1_5 "
      "ShuffleNet_V2_X2_0")),
    (224, 232, "bilinear", "V2",
     ("MobileNet_V2 MobileNet_V3_Large RegNet_X_16GF RegNet_X_1_6GF RegNet_X_32GF "
      "RegNet_X_3_2GF RegNet_X_400MF RegNet_X_800MF RegNet_X_8GF RegNet_Y_16GF RegNet_Y_1_6GF "
      "RegNet_Y_32GF RegNet_Y_3_2GF RegNet_Y_400MF RegNet_Y_800MF RegNet_Y_8GF ResNet101 "
      "ResNet152 ResNet50 ResNeXt101_32X8D ResNeXt50_32X4D Wide_ResNet101_2 Wide_ResNet50_2")),
    (224, 236, "bilinear", "V1", "ConvNeXt_Tiny"),
    (224, 238, "bicubic", "V1", "Swin_B"),
    (224, 242, "bilinear", "V1", "ViT_L_16"),
    (224, 246, "bicubic", "V1", "Swin_S"),
    (224, 256, "bicubic", "V1", "EfficientNet_B0"),
    (224, 256, "bilinear", "V1",
     ("AlexNet DenseNet121 DenseNet161 DenseNet169 DenseNet201 GoogLeNet MNASNet0_5 MNASNet1_0 "
      "MobileNet_V2 MobileNet_V3_Large MobileNet_V3_Small RegNet_X_16GF RegNet_X_1_6GF "
      "RegNet_X_32GF RegNet_X_3_2GF RegNet_X_400MF RegNet_X_800MF RegNet_X_8GF RegNet_Y_16GF "
      "RegNet_Y_1_6GF RegNet_Y_32GF RegNet_Y_3_2GF RegNet_Y_400MF RegNet_Y_800MF RegNet_Y_8GF "
      "ResNet101 ResNet152 ResNet18 ResNet34 ResNet50 ResNeXt101_32X8D ResNeXt50_32X4D "
      "ShuffleNet_V2_X0_5 ShuffleNet_V2_X1_0 SqueezeNet1_0 SqueezeNet1_1 VGG11 VGG11_BN VGG13 "
      "VGG13_BN VGG16 VGG16_BN VGG19 VGG19_BN ViT_B_16 ViT_B_32 ViT_L_32 Wide_ResNet101_2 "
      "Wide_ResNet50_2")),
    (240, 255, "bilinear", "V2", "EfficientNet_B1"),
    (240, 256, "bicubic", "V1", "EfficientNet_B1"),
    (256, 260, "bicubic", "V1", "Swin_V2_S Swin_V2_T"),
    (256, 272, "bicubic", "V1", "Swin_V2_B"),
    (288, 288, "bicubic", "V1", "EfficientNet_B2"),
    (300, 320, "bicubic", "V1", "EfficientNet_B3"),
    (380, 384, "bicubic", "V1", "EfficientNet_B4"),
    (384, 384, "bicubic", "SWAG_E2E_V1", "RegNet_Y_128GF RegNet_Y_16GF RegNet_Y_32GF ViT_B_16"),
    (384, 384, "bilinear", "V1", "EfficientNet_V2_S"),
    (456, 456, "bicubic", "V1", "EfficientNet_B5"),
    (480, 480, "bilinear", "V1", "EfficientNet_V2_M"),
    (512, 512, "bicubic", "SWAG_E2E_V1", "ViT_L_16"),
    (518, 518, "bicubic", "SWAG_E2E_V1", "ViT_H_14"),
    (528, 528, "bicubic", "V1", "EfficientNet_B6"),
    (600, 600, "bicubic", "V1", "EfficientNet_B7"),
)  # fmt: skip


def _transforms() -> dict[str, PreprocessSpec]:
    """Return the preprocessing of every member."""
    found = {}
    for size, short, kernel, member, networks in _TABLE:
        interpolation = next(one for one in get_args(Interpolation) if one == kernel)
        for network in networks.split():
            name = f"{network}{_MEMBER}{member}"
            found[name] = replace(
                TORCHVISION, name=name, size=size, crop_fraction=size / short,
                interpolation=interpolation,
            )  # fmt: skip
    large, features = f"EfficientNet_V2_L{_MEMBER}V1", f"VGG16{_MEMBER}FEATURES"
    found[large] = replace(
        TORCHVISION, name=large, size=480, crop_fraction=1.0, interpolation="bicubic",
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    found[features] = replace(  # without its classifier: grey levels minus Caffe's means
        TORCHVISION, name=features, mean=(0.48235, 0.45882, 0.40784), std=(1 / 255,) * 3
    )
    return found


WEIGHTS_TRANSFORMS = _transforms()


def weights_transforms(name: str) -> PreprocessSpec:
    """Return the preprocessing of a member of torchvision's weight enums.

    Raises
    ------
    UsageError
        There is no such member, or it is that of Inception v3: torchvision's network turns
        ImageNet's normalisation into another one itself, and whether the network in a file does so
        is not known from the name.
    """
    if name in WEIGHTS_TRANSFORMS:
        return WEIGHTS_TRANSFORMS[name]
    if name.startswith(f"Inception_V3{ENUM}"):
        raise UsageError(
            f"--preprocess {name}: torchvision's network normalises its input a second time; give "
            "torchvision_inception for weights, or for an exported network that holds that step a "
            "JSON file with size 299, crop_fraction 0.8742 and ImageNet's mean and std"
        )
    network = name.partition(ENUM)[0]
    same = sorted(one for one in WEIGHTS_TRANSFORMS if one.startswith(f"{network}{ENUM}"))
    close = same or difflib.get_close_matches(name, WEIGHTS_TRANSFORMS, n=3, cutoff=0.5)
    raise UsageError(
        f"--preprocess {name}: not the name of weights that torchvision has for classifying images"
        + (f"; did you mean {' or '.join(close)}?" if close else "")
    )
