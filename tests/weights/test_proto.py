"""Caffe's and ONNX's files: read in place, under the layers' names, and never beyond their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.goldens.drawing import draw
from probe.backbones.catalog import BACKBONES
from probe.errors import UnsafeFileError, WeightsError
from probe.weights import load_parameters, open_tensors, random_parameters
from probe.weights.caffe_file import read_mean
from probe.weights.fit import fit_file, fitting_backbones
from tests.weights import published, writers
from tests.weights.helpers import pretend
from tests.weights.onnx_graphs import wired
from tests.weights.test_goldens import KERAS, TIMM, TORCH, agree
from tests.weights.writers_proto import (
    block,
    number,
    onnx_node,
    onnx_tensor,
    write_caffe,
    write_mean,
    write_onnx,
)

ARRAYS = {
    "conv1/0": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv1/1": np.ones(2, np.float32),
    "fc6/0": np.arange(6, dtype=np.float32).reshape(2, 3),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_both_generations_of_caffe_hold_the_same(old: bool, packed: bool, tmp_path: Path) -> None:
    file = open_tensors(write_caffe(tmp_path / "w", ARRAYS, old=old, packed=packed))
    assert file.format == "caffe"
    assert list(file.tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert file.tensors[name].shape == array.shape
        np.testing.assert_array_equal(file.tensors[name].read(), array)


@pytest.mark.parametrize("packed", [False, True])
def test_mean_images_are_read(packed: bool, tmp_path: Path) -> None:
    mean = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    read = read_mean(write_mean(tmp_path / "mean.binaryproto", mean, packed=packed))
    np.testing.assert_array_equal(read, mean)
    with pytest.raises(WeightsError, match="has three channels"):
        read_mean(write_mean(tmp_path / "grey.binaryproto", mean[:1]))


BAD_MEANS = {
    "empty": (b"", "has three channels"),
    "a shape that lies": (
        b"".join(number(i, 2**31 - 1) for i in range(1, 5)),
        "in 0 numbers|not packed",
    ),
    "a length beyond the end": (b"\x2a\xff\xff\xff\x7fx", "claims a field of"),
    "too few numbers": (number(2, 3) + number(3, 2) + number(4, 2) + block(5, b"\0" * 8), "in 8"),
    "parts of numbers": (
        b"".join(number(i, side) for i, side in enumerate((1, 3, 1, 1), start=1))
        + block(5, bytes(4))
        + block(5, bytes(7)),
        "7 bytes of numbers of 4 in 'the mean'",
    ),
}


@pytest.mark.parametrize("case", BAD_MEANS)
def test_bad_means_raise_one_line(case: str, tmp_path: Path) -> None:
    data, message = BAD_MEANS[case]
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(data)
    with pytest.raises((WeightsError, UnsafeFileError), match=message) as raised:
        read_mean(path)
    assert "\n" not in str(raised.value)
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_mean(missing)


def test_alexnet_is_not_taken_for_caffenet(tmp_path: Path) -> None:
    """Every name and shape is the same; the order of pool and norm is not."""
    names, backbone = published.caffenet(), BACKBONES["caffenet"]
    file = replace(
        pretend(names, "caffe"), metadata={"caffe.layers": " ".join(published.CAFFENET_ORDER)}
    )
    assert fitting_backbones(file) == ("caffenet",)
    order = "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2"
    fit = fit_file(replace(file, metadata={"caffe.layers": order}), backbone)
    assert fit is not None
    assert "BVLC's AlexNet" in fit.problems(backbone, backbone.layers[-1])[0]
    path = write_caffe(tmp_path / "w", ARRAYS, order=published.CAFFENET_ORDER)
    assert open_tensors(path).metadata["caffe.layers"].split() == published.CAFFENET_ORDER


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_caffes_vgg_fills_a_backbone_exactly(name: str) -> None:
    file = pretend(published.caffe_vgg(name), "caffe")
    fit = fit_file(file, BACKBONES[name])
    assert fit is not None
    assert (fit.missing, fit.misshapen, fit.unknown, fit.omitted) == ({}, {}, (), ())
    assert fitting_backbones(file) == (name,)


def torch_arrays(name: str) -> dict[str, NDArray[np.float32]]:
    names = published.torchvision(name)
    return {
        one: draw(one, shape)
        for one, shape in names.items()
        if not one.endswith("num_batches_tracked")
    }


NORM = ("weight", "bias", "running_mean", "running_var")


def test_torchs_onnx_keeps_the_names_of_the_state_dict(tmp_path: Path) -> None:
    arrays = torch_arrays("resnet18")
    nodes = []
    for module in dict.fromkeys(one.rpartition(".")[0] for one in arrays):
        held = [f"{module}.{leaf}" for leaf in NORM if f"{module}.{leaf}" in arrays]
        kind = {1: "Conv", 2: "Gemm", 4: "BatchNormalization"}[len(held)]
        nodes.append((kind, f"node_{len(nodes)}", held))
    nodes = wired("resnet18", arrays, nodes, tmp_path)
    extra = {"val_1": np.array([1, 2], np.int64)}  # a shape, which is no weight
    path = write_onnx(tmp_path / "w.onnx", arrays | extra, nodes=nodes)
    assert open_tensors(path).format == "onnx"
    agree("resnet18", path, TORCH["resnet18"])


def fold(
    arrays: dict[str, NDArray[np.float32]], conv: str, norm: str, epsilon: float = 1e-5
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    gamma, beta, mean, var = (arrays[f"{norm}.{leaf}"].astype(np.float64) for leaf in NORM)
    gain = gamma / np.sqrt(var + epsilon)
    weight = arrays[f"{conv}.weight"] * gain[:, None, None, None]
    bias = arrays.get(f"{conv}.bias", np.zeros_like(gain))
    return weight.astype(np.float32), (beta + (bias - mean) * gain).astype(np.float32)


def test_torchs_onnx_with_folded_norms_gives_the_same_features(tmp_path: Path) -> None:
    """Exporting a trained network folds its norms and counts the weights; the nodes have names."""
    arrays, out, nodes = torch_arrays("resnet18"), {}, []
    pairs = {"conv1": "bn1"}
    for one in arrays:
        module, _, leaf = one.rpartition(".")
        parent, _, last = module.rpartition(".")
        if leaf == "weight" and last in ("conv1", "conv2") and parent:
            pairs[module] = f"{parent}.bn{last[-1]}"
        if leaf == "weight" and parent.endswith("downsample") and last == "0":
            pairs[module] = f"{parent}.1"
    for i, (conv, norm) in enumerate(pairs.items()):
        out[f"onnx::Conv_{2 * i}"], out[f"onnx::Conv_{2 * i + 1}"] = fold(arrays, conv, norm)
        parts = conv.split(".")
        scope = [parts[0]]
        if len(parts) > 1:  # a Sequential's child repeats its name: /layer1/layer1.0/conv1
            scope += [".".join(parts[:2]), parts[2]]
            scope += [".".join(parts[2:])] * (len(parts) > 3)
        held = [f"onnx::Conv_{2 * i}", f"onnx::Conv_{2 * i + 1}"]
        nodes.append(("Conv", f"/{'/'.join(scope)}/Conv", held))
    nodes.append(("Gemm", "/fc/Gemm", ["fc.weight", "fc.bias"]))
    out |= {one: arrays[one] for one in ("fc.weight", "fc.bias")}
    nodes = wired("resnet18", out, nodes, tmp_path)
    path = write_onnx(tmp_path / "w.onnx", out, nodes=nodes)
    agree("resnet18", path, TORCH["resnet18"])


def test_timms_onnx_with_folded_norms_gives_the_same_features(tmp_path: Path) -> None:
    """Each convolution of timm's Lite0 is followed by its norm; only the file's name tells it."""
    arrays = {
        one: draw(one, shape)
        for one, shape in published.timm_lite0().items()
        if not one.endswith("num_batches_tracked")
    }
    modules = list(dict.fromkeys(one.rpartition(".")[0] for one in arrays))
    out, nodes = {}, []
    for conv, norm in zip(modules[:-1:2], modules[1::2], strict=True):
        held = [f"{conv}.weight", f"{conv}.bias"]
        out |= dict(zip(held, fold(arrays, conv, norm, 1e-3), strict=True))
        nodes.append(("Conv", f"/{conv}/Conv", held))
    held = ["classifier.weight", "classifier.bias"]
    out |= {one: arrays[one] for one in held}
    nodes.append(("Gemm", "/classifier/Gemm", held))
    nodes = wired("efficientnet_lite0", out, nodes, tmp_path)
    path = write_onnx(tmp_path / "tf_efficientnet_lite0.onnx", out, nodes=nodes)
    agree("efficientnet_lite0", path, TIMM["efficientnet_lite0"])
    other = path.rename(tmp_path / "w.onnx")
    with pytest.raises(WeightsError, match="put tf_efficientnet_lite0 into the file's name"):
        load_parameters(
            other, BACKBONES["efficientnet_lite0"], BACKBONES["efficientnet_lite0"].logits
        )


def test_gluons_onnx_has_its_prefixed_names(tmp_path: Path, mx: Any) -> None:
    from tests.zoo import zoo_network

    backbone = BACKBONES["squeezenet1_1"]
    loaded = random_parameters(3, backbone, backbone.logits)
    named = {
        parameter.name: loaded.parameters[name]
        for name, parameter in zoo_network(mx, "squeezenet1_1")
        ._collect_params_with_prefix()
        .items()
    }
    nodes = wired(
        "squeezenet1_1",
        named,
        [
            ("Conv", "", [one, one.replace("weight", "bias")])
            for one in named
            if one.endswith("weight")
        ],
        tmp_path,
    )
    path = write_onnx(tmp_path / "w.onnx", named, nodes=nodes, raw=False, producer="")
    assert load_parameters(path, backbone, backbone.logits).digest == loaded.digest


def test_kerass_onnx_of_vgg_gives_kerass_features(tmp_path: Path) -> None:
    """As Keras 3.15 writes it: convolutions are turned around, dense layers are not."""
    arrays, nodes = {}, []
    for one, shape in published.keras_vgg("vgg19").items():
        layer, _, role = one.partition("/")
        at, drawn = f"vgg19_1/{layer}_1", draw(one, shape, int(np.prod(shape[:-1])))
        if role == "bias":
            place = "Squeeze:0" if layer.startswith("block") else "BiasAdd/ReadVariableOp:0"
            arrays[f"{at}/{place}"] = drawn
        elif len(shape) == 4:
            kernel = f"{at}/convolution/ReadVariableOp:0"
            arrays[kernel] = drawn.transpose(3, 2, 0, 1)
            nodes.append(("Conv", f"{at}/BiasAdd", [kernel, f"{at}/Squeeze:0"]))
        else:
            kernel, bias = f"{at}/Cast/ReadVariableOp:0", f"{at}/BiasAdd/ReadVariableOp:0"
            arrays[kernel] = drawn
            nodes.append(("MatMul", f"{at}/MatMul", [kernel]))
            nodes.append(("Add", f"{at}/BiasAdd", [bias]))
    nodes = wired("vgg19", arrays, nodes, tmp_path, channels_last=True)
    path = write_onnx(tmp_path / "w.onnx", arrays, nodes=nodes, producer="tf2onnx")
    agree("vgg19", path, KERAS["vgg19"])


Arrays = dict[str, NDArray[np.float32]]


def keras_onnx(names: published.Names, *, folded: bool, epsilon: float) -> tuple[Arrays, Arrays]:
    """Return a Keras network's arrays, and those that its ONNX exporter makes of them."""
    rng = np.random.default_rng(0)
    keras = {
        one: np.full(shape, 0.5 + number / 1000, np.float32)
        if one.endswith("kernel")
        else rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for number, (one, shape) in enumerate(names.items())
    }
    onnx: Arrays = {}
    for one, array in keras.items():
        layer, _, role = one.rpartition("/")
        if role == "kernel" and array.ndim == 4:
            onnx[f"net/{layer}_1/convolution/ReadVariableOp:0"] = array.transpose(3, 2, 0, 1)
        elif role == "kernel":
            onnx[f"net/{layer}_1/Cast/ReadVariableOp:0"] = array
        elif role == "bias":
            place = "Squeeze:0" if "conv" in layer else "BiasAdd/ReadVariableOp:0"
            onnx[f"net/{layer}_1/{place}"] = array
        elif role == "moving_variance":
            beta, mean = (keras[f"{layer}/{of}"] for of in ("beta", "moving_mean"))
            scale = keras.get(f"{layer}/gamma", np.float32(1)) / np.sqrt(array + epsilon)
            shift, conv = beta - mean * scale, layer.replace("batch_normalization", "conv2d")
            if folded:
                kernel = f"net/{conv}_1/convolution/ReadVariableOp:0"
                onnx[kernel] = onnx[kernel] * scale[:, None, None, None]
                onnx[f"net/{conv}_1/Squeeze:0"] = shift
            else:
                onnx[f"net/{layer}_1/batchnorm/mul:0"] = scale.reshape(1, -1, 1, 1)
                onnx[f"net/{layer}_1/batchnorm/add_1"] = shift.reshape(1, -1, 1, 1)
    return keras, onnx


def keras_onnx_nodes(arrays: Arrays) -> list[tuple[str, str, list[str]]]:
    nodes = []
    for name in arrays:
        layer, _, op = name.removeprefix("net/").partition("/")
        if op.startswith("convolution"):
            held = [one for one in (name, f"net/{layer}/Squeeze:0") if one in arrays]
            nodes.append(("Conv", f"net/{layer}/BiasAdd", held))
        elif op.startswith("Cast"):
            nodes.append(("MatMul", f"net/{layer}/MatMul", [name]))
        elif op.startswith("BiasAdd"):
            nodes.append(("Add", f"net/{layer}/BiasAdd", [name]))
        elif op.startswith("batchnorm"):
            kind, leaf = ("Mul", "mul_1") if "mul" in op else ("Add", "add_1")
            nodes.append((kind, f"net/{layer}/batchnorm/{leaf}", [name]))
    return nodes


@pytest.mark.parametrize(
    ("name", "names", "folded", "epsilons"),
    [
        ("resnet50_v1", published.keras_resnet(50), False, (1.001e-5, 1e-5)),
        ("inception_v3_keras", published.keras_inception_v3(), True, (1e-3, 1e-3)),
    ],
)
def test_kerass_onnx_of_networks_with_norms_computes_what_keras_does(
    name: str, names: published.Names, folded: bool, epsilons: tuple[float, float], tmp_path: Path
) -> None:
    """As Keras 3.15 and tf2onnx 1.17 write them: norms left as two nodes, or folded."""
    there, here = epsilons
    keras, onnx = keras_onnx(names, folded=folded, epsilon=there)
    writers.write_keras(tmp_path / "w.h5", keras)
    nodes = wired(name, onnx, keras_onnx_nodes(onnx), tmp_path, channels_last=True)
    write_onnx(tmp_path / "w.onnx", onnx, nodes=nodes, producer="tf2onnx")
    backbone = BACKBONES[name]
    one, other = (
        load_parameters(tmp_path / file, backbone, backbone.logits).parameters
        for file in ("w.h5", "w.onnx")
    )
    for parameter in one:
        module, _, leaf = parameter.rpartition(".")
        if leaf == "gamma":
            block, _, number = module.rpartition(".")
            before = f"{block}.{int(number) - 1}"
            scale, shift, kernels = [], [], []
            for found in (one, other):
                scale.append(found[parameter] / np.sqrt(found[f"{module}.running_var"] + here))
                bias = found.get(f"{before}.bias", np.float32(0))
                mean = found[f"{module}.running_mean"] - bias
                shift.append(found[f"{module}.beta"] - mean * scale[-1])
                kernels.append(found[f"{before}.weight"][:, 0, 0, 0] * scale[-1])
            np.testing.assert_allclose(*kernels, rtol=1e-5)
            np.testing.assert_allclose(*shift, rtol=1e-4, atol=1e-5)
        elif module == "output":
            np.testing.assert_array_equal(one[parameter], other[parameter])


def test_half_a_norm_is_not_passed_over(tmp_path: Path) -> None:
    """Keras's exporter can leave a norm as Mul and Add: weights that fit without it are wrong."""
    arrays = {
        "vgg19_1/block1_conv1_1/convolution/ReadVariableOp:0": np.ones((64, 3, 3, 3), np.float32),
        "vgg19_1/block1_bn_1/mul:0": np.ones(64, np.float32),
    }
    kernel, gain = arrays
    nodes = [onnx_node("Conv", "a", ["x", kernel]), onnx_node("Mul", "b", ["a_out", gain])]
    path = write_onnx(tmp_path / "w.onnx", arrays, nodes=nodes)
    backbone = BACKBONES["vgg19"]
    with pytest.raises(WeightsError, match=r"1 left over \(vgg19_1/block1_bn_1/mul:0\)"):
        load_parameters(path, backbone, backbone.layers[0])


def conv(tensor: bytes) -> bytes:
    node = block(1, onnx_node("Conv", "c", ["x", "w"]))
    return number(1, 8) + block(7, node, block(5, tensor))


def layer(*blob: bytes) -> bytes:
    return block(100, block(1, b"a"), block(7, *blob))


FLOATS = np.ones(4, np.float32)
HUGE = b"\x3a\xff\xff\xff\xff\x7f"  # field 7 with a length of 34 GB
HOSTILE = {
    "onnx, a length beyond the end": (number(1, 8) + HUGE + b"x", "claims a field of"),
    "onnx, a number without an end": (b"\x08" + b"\xff" * 12, "without an end"),
    "onnx, a shape that lies": (
        conv(number(1, 2**40) + number(2, 1) + block(8, b"w") + block(9, b"\0" * 16)),
        "in 16 bytes",
    ),
    "onnx, a negative side": (
        conv(number(1, 2**64 - 4) + number(2, 1) + block(8, b"w") + block(9, b"\0" * 16)),
        "impossible shape",
    ),
    "onnx, data elsewhere": (
        conv(onnx_tensor("w", FLOATS, extra=block(13, block(1, b"location"), block(2, b"/etc/x")))),
        "data are in another file",
    ),
    "onnx, said to be elsewhere": (
        conv(onnx_tensor("w", FLOATS, extra=number(14, 1))),
        "data are in another file",
    ),
    "onnx, a group": (number(1, 8) + b"\x3b\x3c", "wire type 3"),
    "onnx, no data": (conv(number(1, 4) + number(2, 1) + block(8, b"w")), "without packed data"),
    "onnx, a long name": (conv(block(8, b"w" * 5000)), "5000 bytes; at most 4096"),
    "onnx, no weights": (number(1, 8) + block(7, block(2, b"g")), "without weights"),
    "caffe, a blob that lies": (
        block(1, b"n") + layer(block(5, b"\0" * 8), number(1, 2**40)),
        "in 8 bytes",
    ),
    "caffe, a length beyond the end": (
        block(1, b"n") + block(100, block(1, b"a")) + b"\xa2\x06\xff\xff\xff\xff\x0fx",
        "claims a field of",
    ),
    "caffe, two layers of one name": (
        block(1, b"n") + 2 * layer(block(5, b"\0" * 4), number(1, 1)),
        "two tensors are called",
    ),
    "caffe, no weights": (block(1, b"n") + block(100, block(1, b"a")), "without weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_messages_raise_one_line_and_allocate_nothing(case: str, tmp_path: Path) -> None:
    import tracemalloc

    data, message = HOSTILE[case]
    path = tmp_path / "hostile"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises((UnsafeFileError, WeightsError), match=message) as raised:
            open_tensors(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)
    assert peak < 8 << 20
