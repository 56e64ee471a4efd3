"""What MXNet's `-symbol.json` says of a network: each setting that changes features is compared."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import WeightsError
from probe.weights import load
from probe.weights.architecture import difference
from probe.weights.fit import fit_file, shapes_of
from probe.weights.gluon_file import read_gluon, symbol_of
from probe.weights.load import held_layers, read_parameter
from probe.weights.naming import plain
from probe.weights.symbol_graph import own_graph, symbol_graph
from probe.weights.tensors import LazyTensor, TensorFile
from tests.weights import writers
from tests.zoo import zoo_network

CHANGES = {
    "another epsilon": ("resnet18_v2", "BatchNorm", "eps", "1e-3", "epsilon 0.001 where .* 1e-05"),
    "MXNet's own epsilon": ("resnet18_v2", "BatchNorm", "eps", None, "epsilon 0.001 where"),
    "channels last": ("resnet18_v2", "BatchNorm", "axis", "-1", "has axis -1 where"),
    "a layout": ("resnet18_v2", "Convolution", "layout", "NHWC", "Convolution of layout NHWC"),
    "another activation": ("resnet18_v2", "Activation", "act_type", "softrelu", "softrelu"),
    "pools rounded up": ("alexnet", "Pooling", "pooling_convention", "full", "rounded up"),
    "pools of TensorFlow": (
        "alexnet", "Pooling", "pooling_convention", "same", "max pool of the convention 'same'",
    ),
    "dropout for ever": ("alexnet", "Dropout", "mode", "always", "Dropout that stays on"),
    "no setting": ("alexnet", "Dropout", "mode", None, ""),
    "a fixed gamma": ("resnet18_v2", "BatchNorm", "fix_gamma", "True", ""),  # seen to by the reader
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_setting_that_changes_features_is_told(case: str, mx: Any) -> None:
    backbone, op, key, value, message = CHANGES[case]
    net = zoo_network(mx, backbone)
    symbol = json.loads(net(mx.sym.var("data")).tojson())
    for one in symbol["nodes"]:
        if one["op"] == op:
            one["attrs"] = {k: v for k, v in one["attrs"].items() if k != key}
            one["attrs"] |= {} if value is None else {key: value}
    names = {p.name: name for name, p in net._collect_params_with_prefix().items()}
    told = difference(
        symbol_graph(json.dumps(symbol)), backbone=backbone, own=own_graph(backbone), size=224,
        canonical=names, absent=frozenset(),
    )  # fmt: skip
    assert (told is not None) == bool(message)
    assert re.search(message, told or "")


@pytest.mark.parametrize("fixed", ["True", "False", None])
def test_a_gamma_that_a_symbol_fixes_is_1_as_mxnet_computes(
    fixed: str | None, tmp_path: Path, mx: Any
) -> None:
    rng = np.random.default_rng(0)
    held = {
        name: rng.uniform(0.5, 2, 3).astype("f4")
        for name in ("n_gamma", "n_beta", "n_moving_mean", "n_moving_var")
    }
    given = {} if fixed is None else {"fix_gamma": fixed == "True"}
    symbol = mx.sym.BatchNorm(mx.sym.var("data"), name="n", eps=1e-5, **given)
    path = writers.write_gluon(tmp_path / "net-0003.params", held)
    symbol_of(path).write_text(symbol.tojson())
    gamma = read_gluon(path).tensors["n_gamma"].read()
    images = rng.normal(size=(1, 3, 2, 2)).astype("f4")
    bound = symbol.bind(
        mx.cpu(), {"data": mx.nd.array(images), **{n: mx.nd.array(held[n]) for n in held
                   if "moving" not in n}},
        aux_states={n: mx.nd.array(held[n]) for n in held if "moving" in n},
    )  # fmt: skip
    seen = bound.forward(is_train=False)[0].asnumpy()
    side = (slice(None), None, None)
    expected = (images - held["n_moving_mean"][side]) / np.sqrt(held["n_moving_var"][side] + 1e-5)
    expected = expected * gamma[side] + held["n_beta"][side]
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)


def test_a_factor_that_the_backbone_has_not_is_refused_where_the_file_has_it() -> None:
    own = own_graph("resnet18_v2")
    assert own.ones == {"features.0.gamma"}
    sources = {"features.0.gamma": LazyTensor((3,), "float32", lambda a, b: np.full(b - a, 2.0))}
    path, source = Path("w.onnx"), plain("features.0.gamma", (3,))
    assert read_parameter(path, "features.0.gamma", source, sources).tolist() == [2, 2, 2]
    with pytest.raises(WeightsError, match=r"features\.0\.gamma holds factors other than 1"):
        read_parameter(path, "features.0.gamma", source, sources, fixed=True)
    for graph, ones in ((None, frozenset()), (own, own.ones)):
        fit = fit_file(TensorFile(path, "onnx", sources, graph=graph), BACKBONES["resnet18_v2"])
        assert fit is not None
        assert fit.ones == ones


def test_a_symbol_that_is_put_beside_later_is_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mx: Any
) -> None:
    name = "squeezenet1_1"
    # without the search for a backbone that does fit, which builds them all
    monkeypatch.setattr(load, "refuse", lambda *args: WeightsError(args[-1][0]))
    net = zoo_network(mx, name)
    names = net._collect_params_with_prefix()
    arrays = {
        f"arg:{names[key].name}": np.zeros(shape, "f2") for key, shape in shapes_of(name).items()
    }
    path, memo = writers.write_gluon(tmp_path / "n-0012.params", arrays), Memo(tmp_path / "memo")
    os.utime(path, (1, 1))  # what changed just now is not remembered
    for _ in range(2):
        assert "gap" in held_layers(path, BACKBONES[name], memo)
    symbol = net(mx.sym.var("data")).tojson().replace('"stride": "(2, 2)"', '"stride": "(3, 3)"')
    symbol_of(path).write_text(symbol)
    with pytest.raises(WeightsError, match="has stride 3 where squeezenet1_1 has 2"):
        held_layers(path, BACKBONES[name], memo)
