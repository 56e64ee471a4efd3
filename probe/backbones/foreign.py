"""Backbones from outside the catalog, which bring their weights: ONNX files, Python functions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.backbones.network import INPUT, NetworkGraph, Node, Shape
from probe.backbones.onnx_model import OWN, OnnxModel
from probe.backbones.spec import (
    IMAGENET,
    BackboneSpec,
    Layer,
    NetworkCost,
    Pool,
    pool_called,
    resolve_pool,
)
from probe.core.records import loads_json
from probe.core.short_repr import short_repr
from probe.errors import UnknownNameError, UsageError, WeightsError
from probe.preprocess.spec import PreprocessSpec

ENDING = ".onnx"  # of the names of such backbones, which no name in the catalog has
BACKGROUND = IMAGENET + 1  # classes, the first of which is none: as TensorFlow trains
PREFERRED = ("image_embeds", "last_hidden_state")  # of several outputs, as Hugging Face names them
LISTED = 8  # layers in an error
PART = "probe.part"  # in the metadata of such a file
CANNOT_TELL = "its axes do not say which of them are channels"
Function = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignBackbone(BackboneSpec):
    """A network that brings its weights.

    Parameters
    ----------
    path : Path or None
        Its file.
    published : PreprocessSpec or None
        The preprocessing that its publisher states.
    published_by : str
        Where, for people.
    refused : str
        Why what the publisher states cannot be done, or nothing.
    stamps : str
        Sizes and times of the files beside `path` that hold arrays.
    """

    path: Path | None = None
    published: PreprocessSpec | None = None
    published_by: str = ""
    refused: str = ""
    stamps: str = ""

    @property
    def usual(self) -> Layer | None:
        """The layer that is taken where nobody names one; None where there is no such layer."""
        return self.layers[-1]

    @property
    def fixed_side(self) -> int | None:
        """The only side of the images that it takes, in pixels; None for any."""
        return self.layers[-1].max_size

    def cut(self, layer: str, pool: str) -> tuple[Layer, Pool]:
        """Return a layer and its pooling by their names; see `BackboneSpec.cut`."""
        found = self.layer(layer)
        return found, resolve_pool(found, pool_called(pool))

    def check_size(self, layer: Layer, size: int) -> None:  # noqa: ARG002
        """Refuse another input size than the only one; see `BackboneSpec.check_size`."""
        if self.fixed_side not in (None, size):
            raise UsageError(
                f"--size {size}: {self.name} takes images of {self.fixed_side} x {self.fixed_side} "
                "pixels alone; leave it out"
            )

    def is_tiny(self, layer: Layer, size: int) -> bool:  # noqa: ARG002 - nobody knows its cells
        """Return False: see `BackboneSpec.is_tiny`."""
        return False

    @property
    def known_classifier(self) -> Layer | None:
        """The output of a classifier whose classes have known names, if it has one."""
        return None

    def digest(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Return a digest of all that decides a layer's value, the preprocessing left out.

        Parameters
        ----------
        arrays : mapping of name to array
            What `load` returns for the layer.
        """
        raise NotImplementedError

    def load(self, layer: Layer) -> dict[str, NDArray[Any]]:
        """Return the arrays that a layer's value is computed with."""
        raise NotImplementedError

    def cost(self, nodes: Iterable[Node], size: int) -> NetworkCost | None:  # noqa: ARG002
        """Return what some nodes of its network cost, for one image; None if nobody can tell."""
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxBackbone(ForeignBackbone):
    """The network of an ONNX file, which can be cut at any of its values.

    Parameters
    ----------
    model : OnnxModel
    measure : callable
        (names of values, size) -> shape of each for a batch of one image, by running it.
    usual_layer : str or None
        The name of `usual`.
    batch : int or None
        The only number of images that it can take at a time; None for any.
    classes : tuple of str
        The names of its classifier's classes, if its publisher states them.
    """

    __repr__ = short_repr

    model: OnnxModel = field(repr=False)
    measure: Callable[[Sequence[str], int], Mapping[str, Shape]] = field(repr=False)
    usual_layer: str | None = None
    batch: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def usual(self) -> Layer | None:
        """The layer that is taken where nobody names one; see `usual_value`."""
        return None if self.usual_layer is None else self.layer(self.usual_layer)

    @property
    def known_classifier(self) -> Layer | None:
        """The only output, if there are as many names of classes, ImageNet's or the publisher's."""
        last, named = self.layers[-1], len(self.classes)
        known = last.width == named if named else last.width in (IMAGENET, BACKGROUND)
        return last if known and last.kind == "vector" and last.name != self.usual_layer else None

    @property
    def only_engine(self) -> str:
        """ONNX Runtime."""
        return "onnx"

    @property
    def logits(self) -> Layer:
        """`known_classifier`, where there is one."""
        assert self.known_classifier is not None
        return self.known_classifier

    def layer(self, name: str) -> Layer:
        """Return a value of the network as a layer.

        Raises
        ------
        UnknownNameError
            It has no such value, or none that depends on the images alone.
        UsageError
            It is none that features can be made of.
        """
        if not self.model.has(name) and self.model.has(f"/{name}"):
            name = f"/{name}"  # as tables show it
        for one in self.layers:
            if one.name == name:
                return one
        if not self.model.has(name):
            listed = ", ".join(one.name for one in self.layers[-LISTED:])
            raise UnknownNameError(
                f"{self.name} has no value {name!r} that depends on the images alone; it has "
                f"{listed}, those that `probe backbones show` lists, and others that a viewer of "
                "ONNX files shows"
            )
        parts = joined_parts(self.model, name)
        shapes = self.row_shapes([name, *parts], self.input_size)
        found = layer_of_value(self.model, name, shapes, side=self.model.images.side)
        if isinstance(found, str):
            raise UsageError(f"--layer {name}: {found}; `probe backbones show` lists others")
        return found

    def value(self, layer: Layer, network: NetworkGraph) -> str:  # noqa: ARG002
        """Return the name of a layer's value; see `BackboneSpec.value`."""
        return OWN + layer.name

    def row_shapes(self, values: Sequence[str], size: int) -> dict[str, Shape]:
        """Return the shapes of an image's part of values, where their first axis is the images'."""
        found = self.measure(values, size)
        return {name: shape[1:] for name, shape in found.items() if shape[0] == 1}

    def measured(self, layers: Iterable[Layer], size: int) -> dict[str, Shape]:
        """Return the shapes of layers' values; see `BackboneSpec.measured`."""
        found = self.row_shapes([one.name for one in layers], size)
        return {OWN + name: shape for name, shape in found.items()}

    def digest(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Return a digest of nodes and arrays up to a layer."""
        return self.model.digest(self._nodes(layer), arrays)

    def load(self, layer: Layer) -> dict[str, NDArray[Any]]:
        """Return the arrays up to a layer.

        Raises
        ------
        WeightsError
            One is damaged.
        """
        return self.model.arrays(self._nodes(layer))

    def _nodes(self, layer: Layer) -> tuple[Node, ...]:
        return self.network().leading_to([OWN + layer.name])

    def cost(self, nodes: Iterable[Node], size: int) -> NetworkCost | None:
        """Count parameters, and multiply-adds as `OnnxModel.products` has them."""
        nodes = tuple(nodes)
        products = self.model.products(nodes)
        values = [
            value for value, count in products.values() if not count and self.model.has(value)
        ]
        names = list(dict.fromkeys([*products, *values]))
        shapes = self.measure(names, size) if products else {}
        if not shapes:
            return None
        adds = sum(
            math.prod(shapes[made]) * (count or shapes[value][-1])
            for made, (value, count) in products.items()
            if made in shapes and (count or value in shapes)
        )
        return NetworkCost(parameters=self.model.parameters(nodes), multiply_adds=adds)

    def part(self, layer: Layer, arrays: Mapping[str, NDArray[Any]], size: int) -> bytes:
        """Return an ONNX file of the network up to a layer, for `backbone_of_part`.

        Parameters
        ----------
        arrays : mapping of name to array
            What `load` returns for the layer.

        Raises
        ------
        WeightsError
            It is larger than one file may be, 2 GB.
        """
        about = {
            "layer": asdict(layer),
            "shape": self.row_shapes([layer.name], size)[layer.name],
            "channels_last": self.model.images.channels_last,
            "batch": self.batch,
            "size": size,
        }
        return self.model.part(layer.name, arrays, {PART: json.dumps(about)})


def backbone_of_part(data: bytes, name: str) -> OnnxBackbone:
    """Return the network of a file that `OnnxBackbone.part` made, with its only layer.

    Raises
    ------
    WeightsError
        It is no such file.
    """
    try:
        about = loads_json(OnnxModel(data).metadata[PART])
        layer, shape = Layer(**about["layer"]), tuple(map(int, about["shape"]))
        model = OnnxModel(data, channels_last=about["channels_last"])
        size, batch = int(about["size"]), about["batch"]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{name}: not the network of a bundle ({error})") from error
    return OnnxBackbone(
        name=name, family="onnx", describe=lambda _size, _classes: model.network(batch),
        parameters=0, input_size=size, layers=(layer,), paper="", model=model,
        measure=lambda _names, _size: {layer.name: (1, *shape)}, usual_layer=layer.name,
        batch=batch,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class CallableBackbone(ForeignBackbone):
    """A function of Python as a backbone; `backbone_of_function` makes and checks one.

    Parameters
    ----------
    version : str
        Stands for what nobody can look into: its weights and its code.
    """

    version: str

    @property
    def only_engine(self) -> str:
        """Python itself, which calls the function."""
        return "python"

    @cached_property
    def _digest(self) -> str:
        text = f"{len(self.name)}:{self.name}:{self.version}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def value(self, layer: Layer, network: NetworkGraph) -> str:  # noqa: ARG002
        """Return the name of the rows; see `BackboneSpec.value`."""
        return network.outputs[0]

    def measured(self, layers: Iterable[Layer], size: int) -> dict[str, Shape]:  # noqa: ARG002
        """Return the width of the rows; see `BackboneSpec.measured`."""
        return {"rows": (self.layers[0].width,)}

    def digest(self, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> str:  # noqa: ARG002
        """Return a digest of name and version."""
        return self._digest

    def load(self, layer: Layer) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """Return nothing: the function has its arrays."""
        return {}


def function_network(function: Function, *, pixels: bool) -> NetworkGraph:
    """Return the network of a function of Python.

    Parameters
    ----------
    function : callable
        From a batch to rows (N, D).
    pixels : bool
        It takes uint8 (N, S, S, 3), RGB, rather than float32 (N, 3, S, S) after the arithmetic of
        the preprocessing.
    """
    node = Node(
        op="callable", inputs=(INPUT,), output="rows", name="rows",
        settings={"function": function, "pixels": pixels},
    )  # fmt: skip
    return NetworkGraph(nodes=(node,), outputs=("rows",))


def layer_of_value(  # noqa: PLR0911 - a reason a line
    model: OnnxModel, name: str, shapes: Mapping[str, Shape], *, side: int | None
) -> Layer | str:
    """Return a value as a layer, or why it is none.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the value and of `joined_parts`, without the batch.
    side : int or None
        The only side of the images that the network takes, in pixels.
    """
    shape = shapes.get(name)
    if shape is None:
        return "it holds no floating point numbers, or its first axis is not the images'"
    if len(shape) not in (1, 2, 3) or not all(shape):
        sides = " x ".join(map(str, shape)) or "a single number"
        return f"of an image it gives {sides}, and features are a vector, tokens or a map"
    about: dict[str, Any] = {"after": 0, "min_size": side or 1, "max_size": side}
    if len(shape) == 1:
        return Layer(name=name, width=shape[0], kind="vector", **about)
    if len(shape) == 2:
        before = model.before(name)
        if before and len(shapes.get(before, ())) == 3 and shapes[before][0] == shape[0]:
            return f"its rows are channels; take {before}, the map in front of it"
        own = own_tokens(model, name, shapes)
        return Layer(name=name, width=shape[1], kind="tokens", own_tokens=own, **about)
    first, middle, last = shape
    if model.is_map(name) or (middle == last and first != middle):
        return Layer(name=name, width=first, kind="map", **about)
    if first == middle and last != first:
        return Layer(name=name, width=last, kind="map", channels_last=True, **about)
    return f"of an image it gives {first} x {middle} x {last}, and {CANNOT_TELL}"


def joined_parts(model: OnnxModel, name: str) -> list[str]:
    """Return the values whose shapes tell the own tokens of a value."""
    return list(dict.fromkeys(v for made, parts, _ in model.joins(name) for v in (made, *parts)))


def own_tokens(model: OnnxModel, name: str, shapes: Mapping[str, Shape]) -> int:
    """Return how many of a value's tokens come before those of the image's patches.

    They are recognised where they are joined in front of the patches, and where as many tokens as
    there were then are still there.
    """
    own, count = 0, 0
    for made, parts, first in model.joins(name):
        sides = [shapes.get(one, ()) for one in (made, *parts)]
        if any(len(one) != 2 for one in sides) or not (first or own):
            continue
        own += sides[0][0] - sum(one[0] for one in sides[1:])
        count = sides[0][0]
    return own if count == shapes[name][0] else 0


def usual_value(model: OnnxModel, shapes: Mapping[str, Shape]) -> str | None:
    """Return the value to cut at where nobody names one.

    What a classifier takes; without one the only output; of several outputs the one that Hugging
    Face's names say is the image's; else None.
    """
    entering = model.classifier_input()
    if entering is not None and len(shapes.get(entering, ())) in (1, 3):
        return entering
    if len(model.outputs) == 1:
        return model.outputs[0]
    return next((one for one in PREFERRED if one in model.outputs), None)
