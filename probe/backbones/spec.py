"""What the catalog says of a backbone: its name, its layers, its sizes and its paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from probe.backbones.network import NetworkGraph
from probe.errors import UnknownNameError, UsageError

Pool = Literal["avg", "max", "cls", "flatten", "none"]
LOGITS = "logits"  # of ImageNet's classes; ``logits:K`` of K others
IMAGENET = 1000  # classes
CELLS = 7  # a side of the last map, at the input size that an architecture was designed for
WHOLE = 1 << 30  # more blocks than any network's `features` have
POOLS: tuple[Pool, ...] = get_args(Pool)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A place where features can be cut.

    Parameters
    ----------
    width : int
        Channels of a map, length of a vector.
    after : int
        How many blocks of the network run before the cut; a block is what shares the number N of
        ``features.N`` in the names of `probe.backbones.architectures`.
    kind : {"map", "gap", "vector", "tokens"}
        ``map`` gives (N, width, H, W); ``gap`` is the global average of the last map and
        ``vector`` a fully connected layer after its ReLU, (N, width) both; ``tokens`` gives
        (N, tokens, width), as transformers do.
    min_size, max_size : int, int or None
        Sides of the square input, in pixels, at which the layer can be computed.
    own_tokens : int, default=0
        How many tokens come before those of the image's patches; the first is the class token.
    channels_last : bool, default=False
        Whether the network computes the map as (N, H, W, width).
    """

    name: str
    width: int
    after: int
    kind: Literal["map", "gap", "vector", "tokens"]
    min_size: int = 1
    max_size: int | None = None
    own_tokens: int = 0
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """The cost of one image.

    Parameters
    ----------
    parameters : int
        Without running statistics.
    multiply_adds : int
        Of convolutions and fully connected layers, as papers count them: norms, activations, pools
        and biases are left out. Twice as many floating point operations.
    """

    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """One architecture.

    Parameters
    ----------
    family : str
        Weights of one family share their name mapping: ``vgg``, ``resnet_v1b`` ...
    describe : callable
        (size, classes) -> NetworkGraph: what it computes, see `probe.backbones.architectures`.
    parameters : int
        With the 1,000-class classifier, running statistics not counted.
    input_size : int
        Side of the square input the architecture was designed for, in pixels.
    layers : tuple of Layer
        In the order in which the network computes them.
    """

    name: str
    family: str
    describe: Callable[[int, int], NetworkGraph]
    parameters: int
    input_size: int
    layers: tuple[Layer, ...]
    paper: str

    def network(self, size: int | None = None, classes: int = IMAGENET) -> NetworkGraph:
        """Return the description of the whole network, which takes normalised pixels.

        Parameters
        ----------
        size : int, optional
            Side of the input in pixels; some architectures pad by it. Default: the native one.
        classes : int
            Outputs of the classifier.
        """
        return self.describe(size or self.input_size, classes)

    @property
    def only_engine(self) -> str | None:
        """The only engine that can run it; None where any can."""
        return None

    def value(self, layer: Layer, network: NetworkGraph) -> str:
        """Return the name of a layer's value in `network`."""
        return network.outputs[0] if is_logits(layer.name) else network.block_value(layer.after)

    def measured(self, layers: Iterable[Layer], size: int) -> dict[str, tuple[int, ...]]:  # noqa: ARG002
        """Return the shapes of values of one image that only a run tells, for `NetworkGraph`."""
        return {}

    def layer(self, name: str) -> Layer:
        """Return a layer by name.

        Raises
        ------
        UnknownNameError
            The message lists the layers.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise UnknownNameError(f"{self.name} has no layer {name!r}; it has {names}")

    @property
    def logits(self) -> Layer:
        """The output of ImageNet's classifier at the native size, for checks of weights.

        It is not among `layers`, so that nobody extracts it by name.
        """
        return self.classifier(IMAGENET)

    def classifier(self, classes: int) -> Layer:
        """Return the output of a classifier of so many classes, as fine-tuned weights have one."""
        side, name = self.input_size, LOGITS if classes == IMAGENET else f"{LOGITS}:{classes}"
        return Layer(
            name=name, width=classes, after=WHOLE, kind="vector", min_size=side, max_size=side
        )

    def uses(self, layer: Layer, parameter: str) -> bool:
        """Whether the features of `layer` depend on the parameter of that canonical name."""
        if is_logits(layer.name):
            return True
        part, index, *_ = parameter.split(".")
        return part == "features" and int(index) < layer.after

    def check_size(self, layer: Layer, size: int) -> None:
        """Refuse an input size at which the layer cannot be computed.

        Raises
        ------
        UsageError
            Names the smallest size that works, and another layer where only that helps.
        """
        if size < layer.min_size:
            smaller = [
                one.name for one in self.layers if one.kind != "vector" and one.min_size <= size
            ]
            other = f", or take --layer {smaller[-1]}" if smaller else ""
            raise UsageError(
                f"--size {size} is too small for {self.name} at {layer.name}; "
                f"the smallest that works is {layer.min_size}{other}"
            )
        if layer.max_size is not None and size > layer.max_size:
            largest_map = [one.name for one in self.layers if one.kind != "vector"][-1]
            raise UsageError(
                f"--size {size} is too large for {self.name} at {layer.name}, whose fully "
                f"connected layer takes {layer.min_size} to {layer.max_size}; "
                f"{largest_map} takes any larger size"
            )

    def cut(self, layer: str, pool: str) -> tuple[Layer, Pool]:
        """Return a layer, or the `logits`, and its pooling, by their names.

        Raises
        ------
        UnknownNameError
            The network has no such layer.
        UsageError
            A vector cannot be pooled.
        """
        if is_logits(layer):
            return self.classifier(int(layer.partition(":")[2] or IMAGENET)), "none"
        found = self.layer(layer)
        return found, resolve_pool(found, pool_called(pool))

    def is_tiny(self, layer: Layer, size: int) -> bool:
        """Whether the input is smaller than one cell of the last map, which the layer follows.

        At their own sizes the networks end in maps of 7 x 7 cells or about as many.
        """
        last = max(one.after for one in self.layers if one.kind == "map")
        return layer.after >= last and size * CELLS < self.input_size


def is_logits(layer: str) -> bool:
    """Whether a layer of that name is a classifier's output."""
    name, colon, classes = layer.partition(":")
    return name == LOGITS and (not colon or re.fullmatch("[1-9][0-9]{0,6}", classes) is not None)


def classes_of(cuts: Iterable[tuple[Layer, Pool]]) -> int:
    """Return the classes of the classifier that is among the cuts; ImageNet's 1,000 without one."""
    own = [layer.width for layer, _ in cuts if is_logits(layer.name)]
    return own[0] if own else IMAGENET


def last_of(cuts: Iterable[tuple[Layer, Pool]]) -> Layer:
    """Return the deepest of the layers that are cut at."""
    return max((layer for layer, _ in cuts), key=lambda layer: layer.after)


def pool_called(name: str | None) -> Pool | None:
    """Return the pool of that name, or None."""
    return next((one for one in POOLS if one == name), None)


def resolve_pool(layer: Layer, pool: Pool | None) -> Pool:
    """Return the pooling of a layer.

    By default that is the average of a map, the class token of tokens that have one and the average
    of those that have none, and none of a vector.

    Raises
    ------
    UsageError
        A vector cannot be pooled, and only tokens have a class token.
    """
    if layer.kind == "tokens":
        return pool or ("cls" if layer.own_tokens else "avg")
    if pool == "cls":
        raise UsageError(f"--pool cls: {layer.name} has no tokens; leave --pool out")
    if layer.kind == "map":
        return pool or "avg"
    if pool not in (None, "none"):
        raise UsageError(f"--pool {pool}: {layer.name} is a vector already; leave --pool out")
    return "none"
