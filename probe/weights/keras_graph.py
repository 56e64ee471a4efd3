"""Read the network that a Keras file describes in `model_config` (.h5) or `config.json` (.keras).

Configurations of Keras 1, 2 and 3 are read, including models inside models. Files of weights alone
have none.

References
----------
keras-team/keras: keras/src/models/functional.py, sequential.py; keras/src/legacy/saving/
legacy_h5_format.py; the layers' `get_config`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from probe.backbones.network import Node
from probe.core.records import loads_json
from probe.weights.architecture import MAX_NODES, NHWC, Graph

MAX_DEPTH = 8  # of models inside models
_MODELS = ("Model", "Functional", "Sequential")
_INPUT = "InputLayer"
_SAME = (  # layers that change nothing at prediction
    "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast",
    "RandomTranslation", "RandomBrightness",
)  # fmt: skip
_OTHER_IN_TRAINING = ("BatchNormalization", *_SAME)
_ROLES = ("kernel", "depthwise_kernel", "gamma", "beta", "moving_mean", "moving_variance")
_NCHW_AXIS = {0: 0, 1: 2, 2: 3, 3: 1, -1: 1, -2: 3, -3: 2}  # axis of NHWC -> axis of NCHW
Config = Mapping[str, Any]
Step = tuple[str, dict[str, Any]]


def keras_graph(text: str | bytes, tensors: Mapping[str, tuple[int, ...]]) -> Graph | None:
    """Return the network that a configuration describes; None if it is empty.

    Parameters
    ----------
    text : str or bytes
        JSON.
    tensors : mapping of str to shape
        Names, as the reader gives them, and shapes of the file's tensors.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError
        The text is not the configuration of a model.
    """
    model = loads_json(text)
    if model == {}:
        return None
    reading = _Reading(tensors)
    reading.first = _channels_first(model) or False
    reading.model(model, (), "", 0)
    return Graph(nodes=tuple(reading.nodes), flatten="hwc")


def _layers(model: Config) -> list[Config]:
    config = model["config"]
    return config if isinstance(config, list) else config["layers"]


def _channels_first(model: Config, depth: int = 0) -> bool | None:
    """Return whether the model is channels-first, as its first layer with a data format states."""
    for layer in _layers(model):
        if layer["class_name"] in _MODELS and depth < MAX_DEPTH:
            said = _channels_first(layer, depth + 1)
        else:
            said = _format(layer["config"])
        if said is not None:
            return said
    return None


def _format(config: Config) -> bool | None:
    said = config.get("data_format", config.get("dim_ordering"))
    return {"channels_first": True, "th": True, "channels_last": False, "tf": False}.get(str(said))


@dataclass(frozen=True)
class _Call:
    """The inputs of one call of a layer, and whether it is called with ``training=True``."""

    values: list[tuple[str, int]]
    training: bool = False


@dataclass
class _Reading:
    """Collects the nodes of a model and of the models inside it."""

    tensors: Mapping[str, tuple[int, ...]]
    nodes: list[Node] = field(default_factory=list)
    first: bool = False
    counted: Counter[str] = field(default_factory=Counter)

    def model(
        self, model: Config, given: tuple[str, ...], scope: str, depth: int, training: bool = False
    ) -> list[str]:
        """Add a model's nodes and return its outputs."""
        if depth > MAX_DEPTH:
            raise ValueError("models are nested too deeply")
        config, layers = model["config"], _layers(model)
        values: dict[tuple[str, int], str] = {}
        inputs = {name: one for (name, _), one in zip(_ends(config, "input_layers"), given)}  # noqa: B905 - a Sequential names none
        last = given[0] if given else "input"
        sequential = model["class_name"] == "Sequential"
        for layer in layers:
            kind, name = layer["class_name"], _called(layer)
            if kind == _INPUT:
                values[name, 0] = inputs.get(name, last if depth else "input")
                continue
            calls = [_Call([(last, 0)])] if sequential else list(_calls(layer))
            for number, call in enumerate(calls):
                taken = tuple(
                    last if sequential else values.get(one, f"{scope}{one[0]}:{one[1]}")
                    for one in call.values
                )
                last = self._layer(
                    layer, taken, f"{scope}{name}:{number}", depth, training or call.training
                )
                values[name, number] = last
        ends = [values[one] for one in _ends(config, "output_layers") if one in values]
        return ends or [last]

    def _layer(
        self, layer: Config, taken: tuple[str, ...], output: str, depth: int, training: bool
    ) -> str:
        name, kind = _called(layer), layer["class_name"]
        if kind in _MODELS:
            (end,) = self.model(layer, taken, f"{output}/", depth + 1, training)
            return end
        held = self._held(name, kind)
        try:
            steps = list(self._steps(kind, layer["config"], held))
        except (ValueError, LookupError, TypeError, AttributeError):
            steps = [(f"{kind} with settings that are not known", {})]
        if training and kind in _OTHER_IN_TRAINING:
            steps = [(f"{kind} called with training=True", {})]
        for number, (op, settings) in enumerate(steps):
            value = output if number == len(steps) - 1 else f"{output}.{number}"
            self.nodes.append(
                Node(
                    op=op, inputs=taken, output=value, settings=settings, name=name,
                    tensors=held if number == 0 else (),
                )
            )  # fmt: skip
            taken = (value,)
        if len(self.nodes) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} layers")
        return output

    def _held(self, name: str, kind: str) -> tuple[str, ...]:
        """Return the layer's parameters without biases, for named and for numbered layers."""
        held = tuple(f"{name}/{role}" for role in _ROLES if f"{name}/{role}" in self.tensors)
        if held or not any(one.startswith("layers/") for one in self.tensors):
            return held
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        seen, self.counted[snake] = self.counted[snake], self.counted[snake] + 1
        called = f"layers/{snake}_{seen}" if seen else f"layers/{snake}"
        return tuple(f"{called}/{role}" for role in _ROLES if f"{called}/{role}" in self.tensors)

    def _steps(self, kind: str, config: Config, held: tuple[str, ...]) -> Iterator[Step]:
        """Yield the operations of a layer, one after the other."""
        said = _format(config)
        if said is not None and said != self.first and kind != "Flatten":
            yield f"{kind} with channels {'first' if said else 'last'}", {}
            return
        match kind:
            case "Conv2D" | "Convolution2D" | "AtrousConvolution2D":
                yield (
                    "conv",
                    _window(config)
                    | {
                        "dilation": _pair(
                            config.get("dilation_rate", config.get("atrous_rate", 1))
                        ),
                        "groups": config.get("groups", 1),
                    },
                )
            case "DepthwiseConv2D":
                shape = self.tensors[held[0]] if held else (1, 1, 1, 1)
                more = {} if shape[3:] == (1,) else {"multiplier": shape[-1]}
                yield "conv", _window(config) | {
                    "dilation": _pair(config.get("dilation_rate", 1)), "groups": shape[2], **more,
                }  # fmt: skip
            case "Dense":
                yield "dense", {}
            case "BatchNormalization":
                axis = config.get("axis", -1)
                axis = axis[0] if isinstance(axis, list) else axis
                usual = axis in ((1, -3) if self.first else (3, -1))
                yield (
                    "norm",
                    {
                        "epsilon": float(_number(config.get("epsilon", 1e-3))),
                        **({} if usual else {"axis": axis}),
                    },
                )
            case "Flatten":
                yield from self._flatten(said)
            case "Reshape":
                yield from self._reshape(config["target_shape"])
            case "Concatenate":
                yield "concat", {"axis": self._axis(config.get("axis", -1))}
            case "Merge" if config.get("mode") == "concat":
                yield "concat", {"axis": self._axis(config.get("concat_axis", -1))}
            case _:
                yield _plain(kind, config)
        if kind != "Activation" and "activation" in config:
            yield from _activation(config["activation"])

    def _axis(self, axis: int) -> int:
        return axis % 4 if self.first else _NCHW_AXIS[axis]

    def _flatten(self, said: bool | None) -> Iterator[Step]:
        """Flatten a map in Keras's order, which is always that of channels last."""
        if said and not self.first:
            yield "Flatten with channels first", {}
            return
        if not self.first or said:
            yield "permute", {"order": NHWC}
        yield "flatten", {}

    def _reshape(self, shape: list[int]) -> Iterator[Step]:
        if len(shape) == 1:
            yield from self._flatten(said=False)
        elif len(shape) == 3 and sum(side != 1 for side in shape) <= 1:
            yield "flatten", {}  # a vector as a map of 1 x 1
        else:
            yield "Reshape", {"shape": tuple(shape)}


def _plain(  # noqa: PLR0911 - a case a layer
    kind: str, config: Config
) -> Step:
    match kind:
        case "MaxPooling2D" | "AveragePooling2D":
            size = _pair(config["pool_size"])
            stride = config.get("strides")
            return "pool", {
                "kind": "max" if kind == "MaxPooling2D" else "avg", "kernel": size,
                "stride": size if stride is None else _pair(stride), "pads": _pads(config),
                "ceil": False, "include_pad": False,
            }  # fmt: skip
        case "GlobalAveragePooling2D":
            return "mean", {"axes": (2, 3)}
        case "ZeroPadding2D":
            (top, bottom), (left, right) = (_pair(one) for one in _pair(config["padding"]))
            return "pad", {"pads": (top, left, bottom, right)}
        case "Add":
            return "add", {}
        case "Merge" if config.get("mode") == "sum":
            return "add", {}
        case "Activation":
            return next(_activation(config["activation"]), ("same", {}))
        case "ReLU":
            most = config.get("max_value")
            slope, threshold = (_number(config.get(one) or 0) for one in _SLOPES)
            if slope or threshold:
                return "leaky ReLU", {"slope": slope, "threshold": threshold}
            return "clip", {"low": 0, "high": math.inf if most is None else _number(most)}
        case "Rescaling" if not config.get("offset"):
            return "scale", {"by": str(config["scale"])}
    return ("same", {}) if kind in _SAME else (str(kind), {})


_SLOPES = ("negative_slope", "threshold")


def _activation(given: Any) -> Iterator[Step]:
    """Yield an activation given by its name, or as Keras 3 writes a function or a layer."""
    if isinstance(given, Mapping):
        inner = given.get("config")
        name = inner if isinstance(inner, str) else given.get("class_name")
        if isinstance(inner, Mapping) and name in ("ReLU", "Activation"):
            yield _plain(str(name), inner)
            return
    else:
        name = given
    known = {"relu": math.inf, "relu6": 6}
    if name in known:
        yield "clip", {"low": 0, "high": known[str(name)]}
    elif name not in (None, "linear"):
        yield str(name), {}


def _number(value: Any) -> float:
    """Return a number, also from an array of one."""
    if isinstance(value, Mapping):
        value = value.get("value", value.get("config"))
        return _number(value)
    return float(value)


def _window(config: Config) -> dict[str, Any]:
    size = config.get("kernel_size") or (config["nb_row"], config["nb_col"])
    stride = config.get("strides", config.get("subsample", 1))
    return {"kernel": _pair(size), "stride": _pair(stride), "pads": _pads(config)}


def _pads(config: Config) -> Any:
    given = config.get("padding", config.get("border_mode", "valid"))
    return {"valid": (0, 0, 0, 0), "same": "same_upper"}[given]


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = value if isinstance(value, list | tuple) else (value, value)
    return first, second


def _called(layer: Config) -> str:
    return str(layer.get("name") or layer["config"]["name"])


def _ends(config: Any, which: str) -> list[tuple[str, int]]:
    """Return a model's input or output layers; Keras 3 writes a single one without a list."""
    listed = config.get(which, []) if isinstance(config, Mapping) else []
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [(str(one[0]), int(one[1])) for one in listed]


def _calls(layer: Config) -> Iterator[_Call]:
    """Yield the calls of a layer in the format of Keras 1 and 2, or of Keras 3."""
    for call in layer["inbound_nodes"]:
        if isinstance(call, Mapping):  # Keras 3
            given = call.get("kwargs") or {}
            values = list(_histories([call.get("args"), given], 0))
            yield _Call(values, given.get("training") is True)
            continue
        listed = [call] if call and isinstance(call[0], str) else call  # an operation of TensorFlow
        values, training = [], False
        for one in listed:
            values.append((str(one[0]), int(one[1])))
            given = one[3] if len(one) > 3 else {}
            training = training or given.get("training") is True
        yield _Call(values, training)


def _histories(found: Any, depth: int) -> Iterator[tuple[str, int]]:
    """Yield the tensors in the arguments of a call, in order."""
    if depth > MAX_DEPTH:
        raise ValueError("arguments are nested too deeply")
    if isinstance(found, Mapping):
        if found.get("class_name") == "__keras_tensor__":
            name, number, _ = found["config"]["keras_history"]
            yield str(name), int(number)
            return
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from _histories(one, depth + 1)
