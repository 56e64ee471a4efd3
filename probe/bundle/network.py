"""One frozen network of a bundle: its description in `bundle.json`, and the network itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import ENDING, backbone_of_part
from probe.backbones.spec import BackboneSpec, Layer, Pool, is_logits
from probe.datasets.images.image_inputs import read_image
from probe.engines import Engine, Parameters, make_engine
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

if TYPE_CHECKING:
    from probe.datasets.images.image_inputs import Image

WEIGHTS = "weights.safetensors"
NETWORK = "network.onnx"  # of a network from outside the catalog: graph and weights
WEIGHTS_FILE = re.compile(r"weights(-\d+)?\.safetensors|network(-\d+)?\.onnx")

_forwarding = threading.Lock()  # MXNet's compiled networks are not safe in several threads


@dataclass(frozen=True, kw_only=True)
class NetworkAbout:
    """The description of one network in `bundle.json`.

    Parameters
    ----------
    backbone, layer, pool : str
        `layer` is ``logits`` if the pretrained classifier is kept.
    preprocess : mapping
        Fields of a PreprocessSpec.
    parameters : str
        Digest of the network's parameters, as in a cache key.
    weights, licence : str
        Where the parameters came from, and their licence.
    file : str
        The file of the bundle that has them.
    """

    backbone: str
    layer: str
    pool: str
    preprocess: Mapping[str, Any]
    parameters: str
    weights: str
    licence: str
    file: str = WEIGHTS

    @property
    def foreign(self) -> bool:
        """Whether it is from outside the catalog: its file holds the network, too."""
        return self.file.endswith(ENDING)

    @property
    def own_top(self) -> bool:
        """Whether it ends in its pretrained classifier."""
        return not self.foreign and is_logits(self.layer)

    def spec(self, parameters: Parameters) -> BackboneSpec:
        """The architecture; `parameters` are those of its file."""
        if isinstance(parameters, ForeignParameters):
            return parameters.backbone
        return BACKBONES[self.backbone]

    @property
    def preprocessing(self) -> PreprocessSpec:
        """The preprocessing, checked."""
        return PreprocessSpec.from_json(dict(self.preprocess), "preprocess")


class ForeignParameters(Mapping[str, NDArray[Any]]):
    """The arrays of a network from outside the catalog, with the network.

    Parameters
    ----------
    data : bytes
        An ONNX file that `OnnxBackbone.part` made.

    Raises
    ------
    WeightsError
        It is no such file.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.backbone = backbone_of_part(data, name)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.backbone.load(self.backbone.layers[0])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network that is ready to run; one thread at a time runs it.

    Parameters
    ----------
    spec : BackboneSpec
    cut : tuple of (Layer, Pool)
        The layer and pooling of the features.
    output : int
        Which of the engine's outputs is this network's; one pass may compute several layers.
    """

    about: NetworkAbout
    spec: BackboneSpec
    cut: tuple[Layer, Pool]
    preprocess: PreprocessSpec
    engine: Engine = field(repr=False)
    output: int = 0

    def resized(self, image: Image) -> UInt8Image:
        """Return an image as this network takes it, (S, S, 3); a path is read first.

        Raises
        ------
        ImageError
            See `probe.datasets.images.image_inputs.image_input`.
        """
        return resize_image(read_image(image), self.preprocess)

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of resized images, (n, S, S, 3): float32, (n, n_features)."""
        return self.outputs(images)[self.output]

    def outputs(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the features at all of the engine's cuts, (n, d) each."""
        with _forwarding:
            return self._forward(images)

    def _forward(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        size = self.engine.batch_size
        tickets = [
            self.engine.submit(images[start : start + size])
            for start in range(0, len(images), size)
        ]
        each = zip(*[self.engine.collect(ticket) for ticket in tickets], strict=True)
        return [np.concatenate(rows).reshape(len(images), -1) for rows in each]


def passes_of(abouts: Sequence[NetworkAbout]) -> tuple[tuple[int, ...], ...]:
    """Return the indices of the networks that share each forward pass: layers of one backbone."""
    alike: dict[tuple[str, str, PreprocessSpec], list[int]] = {}
    for number, about in enumerate(abouts):
        alike.setdefault((about.backbone, about.file, about.preprocessing), []).append(number)
    return tuple(map(tuple, alike.values()))


def build_networks(
    abouts: Sequence[NetworkAbout],
    parameters: Mapping[str, Parameters],
    *,
    batch_size: int | None,
    engine: str = "auto",
    device: str = "auto",
) -> tuple[Network, ...]:
    """Return networks with their parameters.

    Networks that differ only in layer and pooling share an engine and a forward pass.

    Parameters
    ----------
    parameters : mapping of file to parameters
    batch_size : int or None
        None for what a pass over a dataset takes, by input size.
    engine, device : str
        See `probe.engines.make_engine`.

    Raises
    ------
    EngineError
        One cannot run here.
    """
    made: dict[int, Network] = {}
    for numbers in passes_of(abouts):
        first = abouts[numbers[0]]
        preprocess = first.preprocessing
        own = parameters[first.file]
        spec = first.spec(own)
        cuts = [spec.cut(abouts[one].layer, abouts[one].pool) for one in numbers]
        running = make_engine(
            spec, own, cuts, preprocess,
            batch_size=batch_size, engine=engine, device=device,
        )  # fmt: skip
        for output, number in enumerate(numbers):
            made[number] = Network(
                about=abouts[number], spec=spec, cut=cuts[output], preprocess=preprocess,
                engine=running, output=output,
            )  # fmt: skip
    return tuple(made[number] for number in range(len(abouts)))


def resizing(spec: PreprocessSpec) -> tuple[object, ...]:
    """Return a key of the resized pixels; normalisation is part of the network."""
    return (
        spec.size, spec.resize, spec.crop_fraction, spec.interpolation, spec.antialias,
        spec.crop_rounding, spec.fill if spec.resize == "pad" else None,
    )  # fmt: skip
