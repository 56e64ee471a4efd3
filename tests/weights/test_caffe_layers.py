"""What a `.caffemodel` says of its layers: another network is refused, and the layer is named."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.errors import WeightsError
from probe.weights import load_parameters, open_tensors
from probe.weights.architecture import Graph, difference
from probe.weights.caffe_file import CaffeLayer, caffe_graph
from probe.weights.fit import fit_file, holds_layers
from probe.weights.symbol_graph import own_graph
from tests.weights.published import caffe_vgg, caffenet
from tests.weights.writers_proto import block, caffe_blob, number, varint

Spec = tuple[str, str, str, str, Mapping[int, Any]]  # name, kind, bottom, top, settings
Net = list[Spec]
Change = Callable[[Net], Net]


def conv(
    name: str, bottom: str, kernel: int, *, stride: int = 1, pad: int = 0, group: int = 1
) -> Net:
    settings = {4: kernel, 6: stride, 3: pad, 5: group}
    return [
        (name, "Convolution", bottom, name, settings),
        (name.replace("conv", "relu"), "ReLU", name, name, {}),
    ]


LRN = {1: 5, 2: 1e-4, 3: 0.75}


def bvlc_caffenet() -> Net:
    """BVLC/caffe, models/bvlc_reference_caffenet/deploy.prototxt, up to pool5."""
    return [
        *conv("conv1", "data", 11, stride=4),
        ("pool1", "Pooling", "conv1", "pool1", {1: 0, 2: 3, 3: 2}),
        ("norm1", "LRN", "pool1", "norm1", LRN),
        *conv("conv2", "norm1", 5, pad=2, group=2),
        ("pool2", "Pooling", "conv2", "pool2", {1: 0, 2: 3, 3: 2}),
        ("norm2", "LRN", "pool2", "norm2", LRN),
        *conv("conv3", "norm2", 3, pad=1),
        *conv("conv4", "conv3", 3, pad=1, group=2),
        *conv("conv5", "conv4", 3, pad=1, group=2),
        ("pool5", "Pooling", "conv5", "pool5", {1: 0, 2: 3, 3: 2}),
    ]


TOPS: Net = [
    ("fc6", "InnerProduct", "pool5", "fc6", {1: 4096}),
    ("relu6", "ReLU", "fc6", "fc6", {}),
    ("drop6", "Dropout", "fc6", "fc6", {1: 0.5}),
    ("fc7", "InnerProduct", "fc6", "fc7", {1: 4096}),
    ("relu7", "ReLU", "fc7", "fc7", {}),
    ("drop7", "Dropout", "fc7", "fc7", {1: 0.5}),
    ("fc8", "InnerProduct", "fc7", "fc8", {1: 1000}),
    ("prob", "Softmax", "fc8", "prob", {}),
]
V2 = {"Convolution": 106, "Pooling": 121, "LRN": 118, "ReLU": 123, "Power": 122, "Scale": 142}
V1 = {"Convolution": 10, "Pooling": 19, "LRN": 18, "ReLU": 30, "Power": 21}
V1_KINDS = {"Convolution": 4, "Pooling": 17, "LRN": 15, "ReLU": 18, "Power": 26, "Data": 5}


def setting(field: int, value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(setting(field, one) for one in value)
    if isinstance(value, float):
        return varint(field << 3 | 5) + struct.pack("<f", value)
    return number(field, value)


def write(path: Path, net: Net, *, old: bool = False, shapes: Mapping[str, Any]) -> Path:
    """A whole model: kinds, bottoms, tops, settings and blobs of zeros."""
    out = [block(1, b"net")]
    for name, kind, bottom, top, settings in net:
        held = [np.zeros(shapes[f"{name}/{i}"], "f4") for i in (0, 1) if f"{name}/{i}" in shapes]
        blobs = [caffe_blob(one, old=old) for one in held]
        message = b"".join(setting(*pair) for pair in settings.items())
        body = [
            block(4 if old else 1, name.encode()),
            number(5, V1_KINDS[kind]) if old else block(2, kind.encode()),
            *(block(2 if old else 3, one.encode()) for one in bottom.split()),
            *(block(3 if old else 4, one.encode()) for one in top.split()),
            *(block(6 if old else 7, *one) for one in blobs),
        ]
        if settings:
            body.append(block((V1 if old else V2)[kind], message))
        out.append(block(2 if old else 100, *body))
    path.write_bytes(b"".join(out))
    return path


def kept(name: str) -> dict[str, Any]:
    names = caffenet() if name == "caffenet" else caffe_vgg(name)
    return {one: shape for one, shape in names.items() if "fc" not in one}


def graph_of(net: Net, shapes: Mapping[str, Any]) -> Graph:
    """Of layers whose blobs need not be written: only their shapes are looked at."""
    layers = [
        CaffeLayer(
            name, kind, tuple(bottom.split()), tuple(top.split()),
            {field: list(np.ravel(one)) for field, one in settings.items()},
            tuple(shapes[f"{name}/{i}"] for i in (0, 1) if f"{name}/{i}" in shapes),
        )
        for name, kind, bottom, top, settings in net
    ]  # fmt: skip
    graph = caffe_graph(layers)
    assert graph is not None
    return graph


def verdict(net: Net, backbone: str = "caffenet") -> str | None:
    shapes = caffenet() if backbone == "caffenet" else caffe_vgg(backbone)
    fit = fit_file(open_tensors_of_shapes(backbone), BACKBONES[backbone])
    assert fit is not None
    canonical = {source.names[0]: name for name, source in fit.naming.sources.items()}
    return difference(
        graph_of(net, shapes), backbone=backbone, own=own_graph(backbone),
        size=BACKBONES[backbone].input_size, canonical=canonical, absent=frozenset(),
    )  # fmt: skip


def open_tensors_of_shapes(backbone: str) -> Any:
    from probe.weights.tensors import LazyTensor, TensorFile

    names = caffenet() if backbone == "caffenet" else caffe_vgg(backbone)
    tensors = {one: LazyTensor(shape, "float32", lambda a, b: np.empty(0)) for one, shape in
               names.items()}  # fmt: skip
    return TensorFile(Path("m.caffemodel"), "caffe", tensors)


def edit(name: str, **changes: Any) -> Change:
    """Change the settings of one layer; `kind`, `bottom` and `top` are its own."""

    def change(net: Net) -> Net:
        assert name in [one[0] for one in net]
        return [
            (
                one[0], changes.get("kind", one[1]), changes.get("bottom", one[2]),
                changes.get("top", one[3]), {**one[4], **changes.get("settings", {})},
            )
            if one[0] == name else one
            for one in net
        ]  # fmt: skip

    return change


def without(name: str) -> Change:
    """Leave a layer out, and give what takes its top its bottom."""

    def change(net: Net) -> Net:
        (gone,) = [one for one in net if one[0] == name]
        return [
            (one[0], one[1], gone[2] if one[2] == gone[3] else one[2], *one[3:])
            for one in net
            if one[0] != name
        ]

    return change


def before(name: str, *more: Spec) -> Change:
    def change(net: Net) -> Net:
        at = [one[0] for one in net].index(name)
        return [*net[:at], *more, *net[at:]]

    return change


@pytest.mark.parametrize("old", [True, False])
def test_caffenets_own_layers_are_read(old: bool, tmp_path: Path) -> None:
    backbone = BACKBONES["caffenet"]
    shapes = kept("caffenet")
    path = write(tmp_path / "m.caffemodel", bvlc_caffenet(), old=old, shapes=shapes)
    file = open_tensors(path)
    assert file.graph is not None
    assert "pool5" in holds_layers(file, backbone)
    load_parameters(path, backbone, backbone.layer("pool5"))
    net = edit("conv2", settings={6: 2})(bvlc_caffenet())
    write(path, net, old=old, shapes=shapes)
    with pytest.raises(WeightsError, match=r"conv2 \(.*\) has stride 2 where caffenet has 1") as at:
        load_parameters(path, backbone, backbone.layer("pool5"))
    assert "\n" not in str(at.value)


def test_the_whole_networks_are_their_own() -> None:
    assert verdict([*bvlc_caffenet(), *TOPS]) is None
    data: Spec = ("data", "Data", "", "data label", {})
    loss: Spec = ("loss", "SoftmaxWithLoss", "fc8 label", "loss", {})
    split: Spec = ("s", "Split", "conv5", "conv5_0 conv5_1", {})
    trained = edit("pool5", bottom="conv5_1")([*bvlc_caffenet(), *TOPS[:-1], loss])
    assert verdict([data, *before("pool5", split)(trained)]) is None


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_vggs_layers_are_their_own(name: str) -> None:
    net: Net = []
    last = "data"
    for layer in dict.fromkeys(one.rpartition("/")[0] for one in kept(name)):
        if net and layer.endswith("_1"):
            stage = last.removeprefix("conv").partition("_")[0]
            net.append((f"pool{stage}", "Pooling", last, f"pool{stage}", {1: 0, 2: 2, 3: 2}))
            last = f"pool{stage}"
        net += conv(layer, last, 3, pad=1)
        last = layer
    net += [("pool5", "Pooling", last, "pool5", {1: 0, 2: 2, 3: 2}), *TOPS]
    assert verdict(net, name) is None
    assert "2x2 avg pool" in str(verdict(edit("pool5", settings={1: 1})(net), name))
    told = str(verdict(edit("fc6", settings={6: 1})(net), name))
    assert "fc6 (dense layer" in told
    assert "transpose 1 where" in told


VARIANTS: dict[str, tuple[Change, str]] = {
    "a stride": (edit("conv1", settings={6: 2}), "conv1 .* stride 2 where caffenet has 4"),
    "a stride of each axis": (edit("conv1", settings={6: [4, 2]}), "conv1 .* stride 4x2"),
    "a stride by name": (edit("conv3", settings={14: 2}), "conv3 .* stride 1x2 where"),
    "a pad": (edit("conv3", settings={3: 0}), "conv3 .* pads 0 where caffenet has 1"),
    "a pad by name": (edit("conv3", settings={9: 0}), "conv3 .* pads 0x1x0x1 where"),
    "a kernel": (edit("conv3", settings={4: 5}), "conv3 .* kernel 5 where caffenet has 3"),
    "groups": (edit("conv4", settings={5: 1}), "conv4 .* groups 1 where caffenet has 2"),
    "a dilation": (edit("conv5", settings={18: 2, 3: 2}), "conv5 .* dilation 2 where"),
    "a pool's kind": (edit("pool2", settings={1: 1}), r"pool2 \(3x3 avg pool"),
    "a stochastic pool": (edit("pool2", settings={1: 2}), r"pool2 \(3x3 stochastic pool"),
    "a pool's stride": (edit("pool1", settings={3: 1}), r"pool1 \(3x3 max pool, stride 1"),
    "a pool over all": (edit("pool5", settings={1: 1, 12: 1}), r"pool5 \(global average\)"),
    "a pool's pad": (edit("pool1", settings={4: 1}), r"pool1 \(3x3 max pool, stride 2, pads 1"),
    "a norm's alpha": (edit("norm1", settings={2: 2e-5}), "norm1 .*alpha 2e-05.*stands where"),
    "a norm's size": (edit("norm2", settings={1: 3}), "norm2 .*size 3"),
    "a norm's k": (edit("norm2", settings={5: 2.0}), "norm2 .*bias 2"),
    "a norm within channels": (edit("norm1", settings={4: 1}), "norm1 .*within channels"),
    "a leaky relu": (edit("relu3", settings={1: 0.1}), "relu3 .*leaky ReLU.* caffenet has ReLU"),
    "another activation": (edit("relu3", kind="Sigmoid"), r"relu3 \(Sigmoid\) stands where"),
    "no relu": (without("relu3"), "conv4 .* takes convolution features.6, where .* takes ReLU"),
    "no last relu": (without("relu7"), "fc8 .* takes dense layer .* where .* takes ReLU"),
    "no pool": (without("pool2"), "norm2 .* stands where"),
    "no norm": (without("norm1"), "conv2 .* takes 3x3 max pool.*, where .* response norm"),
    "a pool more": (
        before("conv4", ("more", "Pooling", "conv3", "conv3", {1: 0, 2: 3, 3: 1, 4: 1})),
        r"more \(3x3 max pool, stride 1, pads 1.*\) stands where",
    ),
    "a scale inside": (
        before("conv1", ("scaled", "Power", "data", "data", {2: 0.017})),
        r"scaled .*preprocessing inside a graph is not read",
    ),
    "a squared map": (
        before("conv4", ("square", "Power", "conv3", "conv3", {1: 2.0})), r"square \(power\) stands"
    ),
    "other wiring": (edit("conv4", bottom="norm2"), "conv4 .* takes|conv4 .* stands"),
    "norms before pools": (
        lambda net: edit("conv2", bottom="pool1")(
            before("pool1", ("norm1", "LRN", "conv1", "norm1", LRN))(
                edit("pool1", bottom="norm1")([one for one in net if one[0] != "norm1"])
            )
        ),
        "norm1 .* stands where",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS)
def test_each_variant_is_refused_and_its_layer_named(case: str) -> None:
    change, message = VARIANTS[case]
    told = verdict(change([*bvlc_caffenet(), *TOPS]))
    assert told is not None
    assert re.search(message, told), told


def test_a_norm_and_its_scale_are_one(tmp_path: Path) -> None:
    shapes = {"bn/0": (4,), "bn/1": (4,), "bn/2": (1,), "scale/0": (4,), "scale/1": (4,)}
    kinds: Sequence[tuple[str, str, Mapping[int, Any]]] = (
        ("bn", "BatchNorm", {3: 1e-3}), ("scale", "Scale", {5: 1})
    )  # fmt: skip
    layers = [
        CaffeLayer(
            name, kind, ("data",), ("data",),
            {field: [one] for field, one in settings.items()},
            tuple(shape for one, shape in shapes.items() if one.startswith(f"{name}/")),
        )
        for name, kind, settings in kinds
    ]  # fmt: skip
    graph = caffe_graph(layers)
    assert graph is not None
    (norm,) = graph.nodes
    assert norm.op == "norm"
    assert norm.tensors == ("scale/0", "scale/1", "bn/0", "bn/1")
    assert norm.settings == {"epsilon": 1e-3}


def test_a_file_without_wiring_says_nothing(tmp_path: Path) -> None:
    net: Net = [(name, kind, "", "", {}) for name, kind, *_ in bvlc_caffenet()]
    file = open_tensors(write(tmp_path / "m.caffemodel", net, shapes=kept("caffenet")))
    assert file.graph is None
