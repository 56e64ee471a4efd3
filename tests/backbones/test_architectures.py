"""Descriptions against Gluon's model zoo, operator by operator, and digests of those it lacks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network, feature_shapes, parameter_shapes
from probe.engines.mxnet.graph import symbol_of
from probe.preprocess.spec import TORCHVISION
from tests.thorough import THOROUGH
from tests.zoo import zoo_network

GLOBAL = ("layout", "pad", "pooling_convention", "stride")  # say nothing where the pool is global
DIGESTS = {  # of the graphs of backbones that Gluon's zoo lacks
    "caffenet": "46ed390b4eff3eff",
    "efficientnet_lite0": "5266cd2bbf1a153d",
    "inception_v3_keras": "c53f2bda7f0f91ba",
    "resnet18": "88970e52e092e442",
    "resnet34": "0637a799cde2ac6c",
    "resnet50": "aadaf38abc86cba7",
    "resnet101": "5e4962ee9cf2649f",
    "resnet152": "2a045993833f5603",
}


def written(symbol: dict[str, Any], names: dict[str, str]) -> list[tuple[object, ...]]:
    """Return the operators of MXNet's JSON in the order in which it writes any graph."""
    found: list[tuple[object, ...]] = []
    for node in symbol["nodes"]:
        attributes = {k: v for k, v in node.get("attrs", {}).items() if k[:2] != "__"}
        if attributes.get("global_pool") == "True":
            attributes = {k: v for k, v in attributes.items() if k not in GLOBAL}
        if node["op"] == "Dropout":
            attributes = {"p": attributes["p"]}
        name = names.get(node["name"], node["name"]) if node["op"] == "null" else ""
        inputs = [tuple(one[:2]) for one in node["inputs"]]
        found.append((node["op"], name, tuple(sorted(attributes.items())), tuple(inputs)))
    return found


def described(mx: Any, backbone: str) -> list[tuple[object, ...]]:
    spec = BACKBONES[backbone]
    text = symbol_of(spec.network(), (1, 3, spec.input_size, spec.input_size)).text
    return written(json.loads(mx.sym.load_json(text).tojson()), {})


ZOO = [name for name in BACKBONES if name not in DIGESTS]
DEEPER = r"vgg(11|13|16).*|vgg19|resnet(34|101|152)_v.|densenet(161|169|201)|resnet(34|101|152)"


def some(names: Iterable[str]) -> list[str]:
    """Return those to run: all, or without the deeper networks of a family."""
    return [name for name in names if THOROUGH or not re.fullmatch(DEEPER, name)]


@pytest.mark.parametrize("backbone", some(ZOO))
def test_a_description_is_the_zoos_network(backbone: str, mx: Any) -> None:
    net = zoo_network(mx, backbone)
    named = net._collect_params_with_prefix()
    names = {parameter.name: name for name, parameter in named.items()}
    assert described(mx, backbone) == written(json.loads(net(mx.sym.var("data")).tojson()), names)
    assert list(parameter_shapes(BACKBONES[backbone])) == list(named)


@pytest.mark.parametrize("backbone", some(DIGESTS))
def test_a_description_has_the_digest_that_it_had(backbone: str, mx: Any) -> None:
    found = hashlib.sha256(json.dumps(described(mx, backbone)).encode()).hexdigest()
    assert found[:16] == DIGESTS[backbone]


def test_features_have_the_shapes_that_mxnet_infers_at_any_size(mx: Any) -> None:
    for name, sizes in {
        "alexnet": (63,), "caffenet": (64,), "inception_v3": (75,), "squeezenet1_0": (29, 61),
        "resnet18_v2": (1, 50), "efficientnet_lite0": (1, 33),
    }.items():  # fmt: skip
        spec = BACKBONES[name]
        cuts = [(layer, "none") for layer in spec.layers if layer.kind != "vector"]
        for size in sizes:
            preprocess, data = TORCHVISION.with_size(size), (1, size, size, 3)
            network = cut_network(spec, cuts, preprocess)  # type: ignore[arg-type]
            symbol = mx.sym.load_json(symbol_of(network, data).text)
            _, shapes, _ = symbol.infer_shape(data=data)
            found = feature_shapes(spec, cuts, preprocess)  # type: ignore[arg-type]
            assert found == [tuple(one[1:]) for one in shapes]
