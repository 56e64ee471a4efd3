"""The network of an ONNX file: its graph as a `NetworkGraph`, and the values it can be cut at.

Of the file's nodes those count that depend on the images alone: what needs another input, as the
half of a model that reads text, is left out. A candidate for a cut is a value that all information
about an image passes through; between two of them a network has branches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import INPUT, NetworkGraph, Node, OnnxTerms
from probe.core.regular import open_regular, read_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.preprocess.spec import MAX_SIZE

OWN = "onnx:"  # before the file's names, so that none is one of ours
LARGEST = 2_000_000_000  # bytes of one protobuf message, less a little
FLOATS = (1, 10, 16)  # ONNX's numbers of float32, float16 and bfloat16
OLDEST = 7  # version of the standard operators; before, arithmetic did not broadcast as it does now
SHAPE_OF = ("Shape", "Size")  # they say nothing of an image's content
PASSING = ("Identity", "Cast", "Softmax", "LogSoftmax", "Sigmoid", "Dropout")  # behind a classifier
MAPS = (
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
    "QLinearConv", "InstanceNormalization",
)  # fmt: skip  # operators whose values are (N, C, H, W) by their definition
LEARNING = {"Conv", "QLinearConv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger"}
ELEMENTWISE = (
    "Relu", "Add", "Mul", "Clip", "HardSwish", "Sigmoid", "Identity", "LeakyRelu", "PRelu", "Elu",
    "Gelu", "HardSigmoid", "Cast", "DequantizeLinear", "QuantizeLinear",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Images:
    """The input of an ONNX file that takes images.

    Parameters
    ----------
    channels_last : bool or None
        Whether it is (N, S, S, 3) rather than (N, 3, S, S); None where the file does not say.
    side : int or None
        Pixels of its square; None for any.
    batch : int or None
        Images in a batch, as the file says; None for any.
    half : bool
        Whether it is float16 rather than float32.
    """

    name: str
    channels_last: bool | None
    side: int | None
    batch: int | None
    half: bool


class OnnxModel:
    """An ONNX file in memory, but for the arrays that lie beside it.

    Parameters
    ----------
    source : Path or bytes
        A file, or its content, which then holds all arrays.
    channels_last : bool, optional
        The order of the input's axes, where the file does not say.

    Raises
    ------
    WeightsError
        On first use: it is no ONNX file, or no network that takes colour images.
    UnsafeFileError
        On first use: its arrays lie outside its folder.
    """

    def __init__(self, source: Path | bytes, *, channels_last: bool | None = None) -> None:
        self._source = source
        self._channels_last = channels_last
        self.where = str(source) if isinstance(source, Path) else "the bundle's network"

    @cached_property
    def _proto(self) -> Any:
        import onnx

        try:
            data = self._source
            if isinstance(data, Path):
                data = read_regular(data, LARGEST + (1 << 20))
            model = onnx.ModelProto.FromString(data)
        except OSError as error:
            raise WeightsError(f"{self.where}: cannot be read ({error.strerror})") from error
        except Exception as error:  # protobuf's, whose package is onnx's affair
            raise WeightsError(f"{self.where}: not an ONNX file, or not all of one") from error
        if not (model.graph.node and model.opset_import and _is_text(model.graph)):
            raise WeightsError(f"{self.where}: not an ONNX file, or not all of one")
        standard = {"": 0, **{one.domain: one.version for one in model.opset_import}}
        if standard[""] < OLDEST:
            raise WeightsError(
                f"{self.where}: of version {standard['']} of ONNX's operators, and {OLDEST} is the "
                "oldest that can be run; export it again"
            )
        for node in model.graph.node:
            training = {one.name: one.i for one in node.attribute}.get("training_mode", 0)
            if training:
                raise WeightsError(
                    f"{self.where}: {node.op_type} {node.name} computes as in training, so a row "
                    "would depend on chance or on the other images; export the network in "
                    "evaluation mode"
                )
        return model

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        """The arrays that the file holds, also those that are written as nodes."""
        held = {one.name: one for one in self._proto.graph.initializer}
        for node in self._proto.graph.node:
            for one in node.attribute if node.op_type == "Constant" else ():
                if one.t.data_type in FLOATS:
                    held[node.output[0]] = one.t
        return held

    @property
    def external_files(self) -> list[Path]:
        """The files beside it that hold arrays.

        Raises
        ------
        UnsafeFileError
            One lies outside its folder.
        """
        found: dict[Path, None] = {}
        for tensor in self._tensors.values():
            for one in tensor.external_data:
                if one.key == "location":
                    found[self._beside(one.value)] = None
        return list(found)

    def _beside(self, location: str) -> Path:
        if isinstance(self._source, bytes):
            raise UnsafeFileError(f"{self.where}: its arrays lie in another file, {location!r}")
        place = Path(location)
        if place.is_absolute() or ".." in place.parts:
            raise UnsafeFileError(
                f"{self.where}: its arrays lie outside its folder, in {location!r}"
            )
        return self._source.parent / place

    @cached_property
    def images(self) -> Images:
        """The input that takes images.

        Raises
        ------
        WeightsError
            There is none, or more than one.
        """
        taken = {name for node in self._proto.graph.node for name in _taken(node)}
        inputs = [
            one
            for one in self._proto.graph.input
            if one.name in taken and one.name not in self._tensors
        ]
        read = [(one, self._as_images(one)) for one in inputs]
        found = [images for _, images in read if images is not None]
        others = [_described(one) for one, images in read if images is None]
        if len(found) != 1:
            what = "no input" if not found else f"{len(found)} inputs"
            listed = ", ".join(others + [one.name for one in found]) or "none"
            raise WeightsError(
                f"{self.where}: {what} for square colour images, float32 or float16, (N, 3, S, S) "
                f"or (N, S, S, 3), S at most {MAX_SIZE}; it has {listed}"
            )
        return found[0]

    def _as_images(self, value: Any) -> Images | None:
        """Return an input as one of images, None where it takes something else."""
        from onnx import TensorProto

        kind, (sides, named) = value.type.tensor_type, _axes(value)
        if kind.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16) or len(sides) != 4:
            return None
        last, high, wide = self._order(sides, named), None, None
        if last is not None:
            high, wide = sides[1:3] if last else sides[2:]
            if sides[3 if last else 1] not in (3, None):
                return None
        if high != wide or (high or 1) > MAX_SIZE:
            return None
        half = kind.elem_type == TensorProto.FLOAT16
        return Images(name=value.name, channels_last=last, side=high, batch=sides[0], half=half)

    def _order(self, sides: list[int | None], named: list[str]) -> bool | None:
        """Return whether the channels are the last axis; None where nothing says."""
        if self._channels_last is not None:
            return self._channels_last
        first, last = sides[1] == 3 or "channel" in named[1], sides[3] == 3 or "channel" in named[3]
        if first != last:
            return last
        known = [side for side in (sides[1], sides[3]) if side is not None]
        return False if first or len(known) == 2 else None

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that need no other input than the images, in order."""
        image, kept = self.images.name, list[Node]()
        ready = {image, *self._tensors}
        for proto in self._proto.graph.node:
            taken, given = _taken(proto), [one for one in proto.output if one]
            if not given or not ready.issuperset(taken):
                continue
            if proto.op_type == "Constant" and given[0] in self._tensors:
                continue
            if twice := ready.intersection(given):
                raise WeightsError(
                    f"{self.where}: two of its values are called {min(twice)}; the file is damaged"
                )
            ready.update(given)
            computed = [one for one in taken if one not in self._tensors]
            stored = [one for one in taken if one in self._tensors]
            kept.append(
                Node(
                    op="onnx",
                    inputs=tuple(INPUT if one == image else OWN + one for one in computed),
                    output=OWN + given[0],
                    name=proto.name or given[0],
                    settings={"proto": proto, "names": (*computed, *stored, *given)},
                    tensors=tuple(OWN + one for one in stored),
                    others=tuple(OWN + one for one in given[1:]),
                )
            )
        return tuple(kept)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that the images decide, by the file's names."""
        carrying = self._carrying
        found = tuple(one.name for one in self._proto.graph.output if OWN + one.name in carrying)
        if not found:
            raise WeightsError(
                f"{self.where}: no output depends on the images alone, without its other inputs"
            )
        return found

    @cached_property
    def _carrying(self) -> set[str]:
        """The values that depend on what is in the images, not only on their size."""
        found = {INPUT}
        for node in self.nodes:
            if node.settings["proto"].op_type not in SHAPE_OF and not found.isdisjoint(node.inputs):
                found.update((node.output, *node.others))
        return found

    @cached_property
    def _maker(self) -> dict[str, Node]:
        return {value: node for node in self.nodes for value in (node.output, *node.others)}

    def has(self, value: str) -> bool:
        """Whether the images decide a value of that name."""
        return OWN + value in self._carrying

    def passages(self) -> list[str]:
        """Return the values that all information passes through, and the outputs, in order.

        After such a value is computed, nothing else is left that a later node takes.
        """
        ends = [OWN + name for name in self.outputs]
        needed = [one for one in self._graph.leading_to(ends) if self._carried(one)]
        left: dict[str, int] = dict.fromkeys(ends, 1)
        for node in needed:
            for value in self._carried(node):
                left[value] = left.get(value, 0) + 1
        alive, found = {INPUT}, dict[str, None]()
        for node in needed:
            for value in self._carried(node):
                left[value] -= 1
                if not left[value]:
                    alive.discard(value)
            alive.update(one for one in (node.output, *node.others) if left.get(one))
            if len(alive) == 1:
                found.update(dict.fromkeys(alive))
        found.update(dict.fromkeys(ends))
        order = {value: place for place, value in enumerate(self._maker)}
        return [one.removeprefix(OWN) for one in sorted(found, key=order.__getitem__)]

    def is_feature(self, value: str) -> bool:
        """Whether weights had a part in a value, and it is not only another one with a border."""
        kinds = [one.settings["proto"].op_type for one in self._graph.leading_to([OWN + value])]
        return kinds[-1] != "Pad" and not LEARNING.isdisjoint(kinds)

    def before(self, value: str) -> str | None:
        """Return the value that a value is computed of, with parameters; None if not of one."""
        taken = self._carried(self._maker[OWN + value])
        return taken[0].removeprefix(OWN) if len(taken) == 1 and taken != [INPUT] else None

    def _carried(self, node: Node) -> list[str]:
        if node.settings["proto"].op_type in SHAPE_OF:
            return []
        return list(dict.fromkeys(one for one in node.inputs if one in self._carrying))

    @property
    def _opsets(self) -> dict[str, int]:
        return {one.domain: one.version for one in self._proto.opset_import}

    @cached_property
    def _graph(self) -> NetworkGraph:
        return NetworkGraph(nodes=self.nodes, outputs=())

    def network(self, batch: int | None = None) -> NetworkGraph:
        """Return the whole network, which takes normalised pixels (N, 3, S, S).

        Parameters
        ----------
        batch : int or None
            The only number of images that it can take; None for any.
        """
        proto, images = self._proto, self.images
        front, value = list[Node](), INPUT
        if images.channels_last:
            value = OWN + ":last"
            front.append(_front("permute", INPUT, value, order=(0, 2, 3, 1)))
        if images.half:
            front.append(_front("cast", value, OWN + ":half", half=True))
            value = OWN + ":half"
        nodes = self.nodes if not front else tuple(_renamed(self.nodes, value))
        terms = OnnxTerms(
            opsets=self._opsets,
            functions=tuple(proto.functions),
            ir_version=proto.ir_version,
            batch=batch,
        )
        return NetworkGraph(
            nodes=(*front, *nodes),
            outputs=tuple(OWN + name for name in self.outputs),
            terms=terms,
        )

    def classifier_input(self) -> str | None:
        """Return the value that the only output's classifier takes; None without a classifier.

        A classifier is a dense layer with a bias or with a softmax behind it. One without both is a
        projection, as that of image embeddings.
        """
        if len(self.outputs) != 1:
            return None
        node, passed = self._behind(self._maker[OWN + self.outputs[0]], PASSING)
        kind, stored = node.settings["proto"].op_type, len(node.tensors)
        told = not {"Softmax", "LogSoftmax", "Sigmoid"}.isdisjoint(passed)
        if kind == "Add" and stored == 1 and node.inputs[0] in self._maker:
            node, _ = self._behind(self._maker[node.inputs[0]], ("Cast", "Mul"))
            if node.settings["proto"].op_type == "MatMulInteger":  # of values rounded before
                node, _ = self._behind(node, ("MatMulInteger",))
                rounds = node.settings["proto"].op_type == "DynamicQuantizeLinear"
                return node.inputs[0].removeprefix(OWN) if rounds else None
            kind, stored, told = node.settings["proto"].op_type, len(node.tensors), True
        if (kind == "Gemm" and stored == 2) or (
            kind in ("Gemm", "MatMul") and stored == 1 and told
        ):
            return node.inputs[0].removeprefix(OWN)
        return None

    def _behind(self, node: Node, passing: Sequence[str]) -> tuple[Node, list[str]]:
        """Return the node in front of some that pass values on, and the kinds of those."""
        passed = []
        while node.settings["proto"].op_type in passing and node.inputs[0] in self._maker:
            passed.append(node.settings["proto"].op_type)
            node = self._maker[node.inputs[0]]
        return node, passed

    def joins(self, value: str) -> list[tuple[str, tuple[str, ...], bool]]:
        """Return where a value's tokens are joined: what is made, the images' parts, own first.

        Own tokens, as a class token, do not depend on the images.
        """
        found = []
        for node in self._graph.leading_to([OWN + value]):
            proto = node.settings["proto"]
            axis = {one.name: one.i for one in proto.attribute}.get("axis")
            parts = self._carried(node)
            if proto.op_type != "Concat" or axis not in (1, -2) or len(parts) == len(proto.input):
                continue
            if parts:
                first = OWN + proto.input[0] not in self._carrying
                names = tuple(
                    one for one in proto.input if OWN + one in self._carrying
                )  # with repeats
                found.append((proto.output[0], names, first))
        return found

    def is_map(self, value: str) -> bool:
        """Whether the operators in front of a value say that it is (N, C, H, W)."""
        node = self._maker.get(OWN + value)
        while node is not None:
            kind = node.settings["proto"].op_type
            if kind in MAPS:
                return True
            if kind not in ELEMENTWISE:
                return False
            node = self._maker.get(node.inputs[0]) if node.inputs else None
        return False

    def arrays(self, nodes: Iterable[Node]) -> dict[str, NDArray[Any]]:
        """Return the arrays that some nodes take, by the names of `network`.

        Raises
        ------
        WeightsError
            One cannot be read; the file is damaged, or one beside it is missing.
        """
        names = dict.fromkeys(name for node in nodes for name in node.tensors)
        return {name: self._array(name[len(OWN) :]) for name in names if name.startswith(OWN)}

    def _array(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        try:
            array: NDArray[Any] = numpy_helper.to_array(self._whole(self._tensors[name]))
        except (WeightsError, UnsafeFileError):
            raise
        except Exception as error:  # onnx raises what it likes for damaged tensors
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"{self.where}: its array {name} is damaged ({reason})") from error
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise WeightsError(
                f"{self.where}: its array {name} holds NaN or infinity; the file is damaged"
            )
        return np.asarray(array, order="C")  # ascontiguousarray makes numbers vectors

    def _whole(self, tensor: Any) -> Any:
        """Return a tensor with its numbers, which may lie in another file.

        ONNX's own reader takes no symbolic links, of which Hugging Face's download cache is made.
        """
        about = {one.key: one.value for one in tensor.external_data}
        if "location" not in about:
            return tensor
        place = self._beside(about["location"])
        if not place.is_file():
            raise WeightsError(f"{self.where}: {place.name} with its arrays is missing")
        start, there = int(about.get("offset", 0)), place.stat().st_size
        length = int(about.get("length", there - start))
        if length > 8 * math.prod(tensor.dims) + 8:  # else a few numbers take the memory of many
            raise ValueError(f"{length} bytes for numbers of the shape {list(tensor.dims)}")
        if not 0 <= start <= start + length <= there:
            raise ValueError(f"{place.name} holds {there} bytes, not {start + length}")
        with open_regular(place) as file:
            file.seek(start)
            data = file.read(length)
        return type(tensor)(dims=tensor.dims, data_type=tensor.data_type, raw_data=data)

    def digest(self, nodes: Iterable[Node], arrays: Mapping[str, NDArray[Any]]) -> str:
        """Return 32 hex digits over some nodes, their `arrays` and what the input is.

        Names of nodes and comments are left out; the names of values, which nodes refer by, are in.
        """
        hasher, opsets = hashlib.blake2b(digest_size=16), self._opsets
        head = [sorted(opsets.items()), self.images.channels_last, self.images.half]
        for part in [repr(head).encode(), *map(_text, self._proto.functions)]:
            hasher.update(b"%d:" % len(part) + part)
        for node in nodes:
            part = _text(node.settings["proto"]) if node.op == "onnx" else node.op.encode()
            hasher.update(b"%d:" % len(part) + part)
        for name, array in sorted(arrays.items()):
            part = f"{len(name)}:{name}:{array.dtype.str}:{array.shape};".encode()
            hasher.update(part)
            hasher.update(array.reshape(-1).view(np.uint8).data)
        return hasher.hexdigest()

    def parameters(self, nodes: Iterable[Node]) -> int:
        """Count the floating point numbers that some nodes take."""
        names = {name[len(OWN) :] for node in nodes for name in node.tensors}
        arrays = [self._tensors[name] for name in names & self._tensors.keys()]
        return sum(math.prod(one.dims) for one in arrays if one.data_type in FLOATS)

    def products(self, nodes: Iterable[Node]) -> dict[str, tuple[str, int]]:
        """Return which nodes are sums of products, by the value that they give.

        That is convolutions, dense layers, and products of two values of the images, as attention
        has; attention that is one operation of its own is left out.

        Returns
        -------
        dict of str to (str, int)
            The value that is multiplied, and how many products a number of the result takes; 0
            where these are as many as the last axis of that value is long.
        """
        found: dict[str, tuple[str, int]] = {}
        for node in nodes:
            proto = node.settings.get("proto")
            if proto is None or proto.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            value, weight = proto.input[:2]
            if proto.op_type == "Conv" and weight in self._tensors:
                found[proto.output[0]] = value, math.prod(self._tensors[weight].dims[1:])
            elif proto.op_type != "Conv" and (
                OWN + value in self._carrying or OWN + weight not in self._carrying
            ):
                found[proto.output[0]] = value, 0
        return found

    def part(
        self, value: str, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
    ) -> bytes:
        """Return an ONNX file of the network up to a value, with its `arrays`.

        Raises
        ------
        WeightsError
            It is larger than one file may be.
        """
        import onnx
        from onnx import helper, numpy_helper

        nodes = self._graph.leading_to([OWN + value])
        if sum(array.nbytes for array in arrays.values()) > LARGEST:
            raise WeightsError(f"{self.where}: larger than one ONNX file may be (2 GB)")
        proto = self._proto
        graph = helper.make_graph(
            [node.settings["proto"] for node in nodes],
            proto.graph.name or "network",
            [one for one in proto.graph.input if one.name == self.images.name],
            [onnx.ValueInfoProto(name=value)],
            [numpy_helper.from_array(a, n.removeprefix(OWN)) for n, a in arrays.items()],
        )
        made = helper.make_model(
            graph, producer_name="probe", opset_imports=proto.opset_import,
            functions=proto.functions, ir_version=proto.ir_version,
        )  # fmt: skip
        helper.set_model_props(made, dict(metadata))
        data: bytes = made.SerializeToString(deterministic=True)
        return data

    @property
    def quantizes(self) -> bool:
        """Whether it rounds values by the range that they have over a whole batch."""
        return any(node.op_type == "DynamicQuantizeLinear" for node in self._proto.graph.node)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return {one.key: one.value for one in self._proto.metadata_props}


def _is_text(graph: Any) -> bool:
    """Whether all names in a graph are text; protobuf hands over bytes where one is damaged."""
    named = [one.name for one in (*graph.node, *graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        named += [node.op_type, node.domain, *node.input, *node.output]
    return all(isinstance(one, str) for one in named)


def _axes(value: Any) -> tuple[list[int | None], list[str]]:
    """Return the lengths of an input's axes, None where they are free, and their names."""
    axes = value.type.tensor_type.shape.dim
    fixed = (one.dim_value if one.HasField("dim_value") else 0 for one in axes)
    return [side if side > 0 else None for side in fixed], [one.dim_param for one in axes]


def _described(value: Any) -> str:
    """Return an input for a message, as ``pixels float (N, 3, 224, 224)``."""
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    sides = ", ".join(str(a or b or "?") for a, b in zip(*_axes(value), strict=True))
    return f"{value.name} {kind} ({sides})"


def _taken(proto: Any) -> list[str]:
    """Return what a node takes, its inner graphs included."""
    own = [one for one in proto.input if one]
    for attribute in proto.attribute:
        for graph in _inner(attribute):
            made = {one.name for one in (*graph.input, *graph.initializer)}
            for node in graph.node:
                own += [one for one in _taken(node) if one not in made]
                made.update(node.output)
            own += [one.name for one in graph.output if one.name not in made]
    return list(dict.fromkeys(own))


def rename(proto: Any, names: Mapping[str, str]) -> None:
    """Give the values that a node takes and gives other names, in its inner graphs, too."""
    for values in (proto.input, proto.output):
        values[:] = [names.get(one, one) for one in values]
    for attribute in proto.attribute:
        for graph in _inner(attribute):
            made = {one.name for one in (*graph.input, *graph.initializer)}
            made.update(value for node in graph.node for value in node.output)
            left = {old: new for old, new in names.items() if old not in made}
            for node in graph.node:
                rename(node, left)
            for one in graph.output:
                one.name = left.get(one.name, one.name)


def _inner(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _text(proto: Any) -> bytes:
    """Return a node's or a function's bytes without what changes nothing."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    copy.doc_string = ""
    for node in [copy] if hasattr(copy, "op_type") else copy.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        ordered = sorted(node.attribute, key=lambda one: one.name)
        del node.attribute[:]
        node.attribute.extend(ordered)
    data: bytes = copy.SerializeToString(deterministic=True)
    return data


def _front(op: str, value: str, output: str, **settings: Any) -> Node:
    return Node(op=op, inputs=(value,), output=output, name=output, settings=settings)


def _renamed(nodes: Iterable[Node], value: str) -> Iterator[Node]:
    from dataclasses import replace

    for node in nodes:
        yield replace(node, inputs=tuple(value if one == INPUT else one for one in node.inputs))
