"""Messages of ONNX that are written without its package are those that the package writes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network
from probe.backbones.network import GAIN, INPUT, SHIFT
from probe.backbones.spec import resolve_pool
from probe.engines.onnx import messages
from probe.engines.onnx.graph import IR_VERSION, OPSET, onnx_model, onnx_nodes
from probe.preprocess.spec import TORCHVISION
from tests.parameters import draw_parameters


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"axis": 1, "group": 2**40, "least": -1, "zero": 0, "flag": True, "of_numpy": np.int64(7)},
        {"epsilon": 1e-5, "alpha": 0.0, "beta": -2.5, "of_numpy": np.float32(0.1)},
        {"mode": "constant", "empty": "", "text": "größe"},
        {"pads": (0, 3, -1, 2**33), "perm": [0, 3, 1, 2], "axes": [1]},
    ],
)
def test_a_node_is_that_of_the_package(attributes: dict[str, Any]) -> None:
    made = onnx.NodeProto.FromString(messages.node("Op", ["x", "größe"], "y", attributes))
    assert made == helper.make_node("Op", ["x", "größe"], ["y"], name="y", **attributes)


@pytest.mark.parametrize("kind", [*messages.TYPES, "bfloat16", "object"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 300, 1)])
def test_a_tensor_is_that_of_the_package(kind: str, shape: tuple[int, ...]) -> None:
    if kind == "bfloat16":
        dtype: Any = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    else:
        dtype = np.dtype(kind)
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    if kind == "object":
        array = array.astype(str).astype(object)
    made = TensorProto.FromString(messages.tensor("größe", array))
    assert made == numpy_helper.from_array(array, "größe")


def test_a_tensor_is_written_in_c_order_and_little_endian() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for one in (np.asfortranarray(array), array.astype(">f4"), np.repeat(array, 2, axis=0)[::2]):
        assert messages.tensor("w", one) == messages.tensor("w", array)


def test_a_tensor_outside_names_its_place_and_type() -> None:
    made = TensorProto.FromString(messages.outside_tensor("w", np.ones((4, 0, 5), np.float16)))
    assert (list(made.dims), made.data_type, made.name) == ([4, 0, 5], TensorProto.FLOAT16, "w")
    assert made.data_location == TensorProto.EXTERNAL
    assert [(one.key, one.value) for one in made.external_data] == [("location", "memory")]
    assert not made.HasField("raw_data")


@pytest.mark.parametrize("shape", [[], [1, 64, 64, 3], ["images", 3], ["N", None]])
def test_a_value_is_that_of_the_package(shape: list[Any]) -> None:
    made = onnx.ValueInfoProto.FromString(messages.value("x", messages.UINT8, shape))
    assert made == helper.make_tensor_value_info("x", TensorProto.UINT8, shape)
    assert onnx.ValueInfoProto.FromString(messages.value("x", 1, None)).name == "x"


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18_v2", "mobilenet_v2", "densenet121"])
def test_the_model_of_a_backbone_is_sound(name: str) -> None:
    spec = BACKBONES[name]
    layer = spec.layers[-1]
    preprocess = TORCHVISION.with_size(spec.input_size)
    network = cut_network(spec, [(layer, resolve_pool(layer, None))], preprocess)
    gain, shift = preprocess.arithmetic()
    parameters = draw_parameters(spec, layer)
    nodes, arrays = onnx_nodes(network, {**parameters, GAIN: gain, SHIFT: shift})
    tensors = [messages.tensor(key, value) for key, value in arrays.items()]
    shape = ["images", spec.input_size, spec.input_size, 3]
    data = onnx_model("network", nodes, {INPUT: shape}, {network.outputs[0]: ["N", None]}, tensors)
    made = onnx.load_model_from_string(data)
    onnx.checker.check_model(made)
    assert (made.ir_version, made.producer_name) == (IR_VERSION, "probe")
    assert [(one.domain, one.version) for one in made.opset_import] == [("", OPSET)]
    assert made.SerializeToString() == data  # in the order of the fields, as the package writes it


def test_a_pass_and_a_prediction_need_no_package_of_onnx() -> None:
    code = (
        "import sys, numpy\n"
        "from probe.backbones.catalog import BACKBONES\n"
        "from probe.engines import make_engine\n"
        "from probe.preprocess.spec import TORCHVISION\n"
        "from tests.parameters import draw_parameters\n"
        "spec = BACKBONES['squeezenet1_1']\n"
        "layer, preprocess = spec.layers[-1], TORCHVISION.with_size(64)\n"
        "engine = make_engine(spec, draw_parameters(spec, layer), [(layer, 'none')], preprocess,\n"
        "    batch_size=2, engine='onnx', device='cpu')\n"
        "engine.collect(engine.submit(numpy.zeros((2, 64, 64, 3), numpy.uint8)))\n"
        "print('onnxruntime' in sys.modules, {'onnx', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True set()"
