"""A bundle in memory: from pixels to features to probabilities.

Loading checks that its parts fit together and reproduce the reference rows of its making.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import parameter_shapes
from probe.backbones.spec import classes_of
from probe.bundle.about import FROM_PROBABILITIES, NEIGHBOURS, REFERENCE, About
from probe.bundle.files import BundleFiles, read_arrays
from probe.bundle.neighbours import Neighbours
from probe.bundle.network import (
    ForeignParameters,
    Network,
    NetworkAbout,
    build_networks,
    passes_of,
    resizing,
)
from probe.bundle.reject import Verdicts, judge
from probe.core.files import reason_of
from probe.core.html import Html
from probe.core.text import counted
from probe.datasets.images.image_inputs import list_images, read_image
from probe.engines import TOLERANCE, Parameters, relative_differences
from probe.errors import BundleError, HeadError, ProbeError
from probe.evaluation.logits import softmax
from probe.evaluation.multilabel import HALF, reached
from probe.evaluation.task import SINGLE_LABEL
from probe.evaluation.two_classes import answers_of
from probe.heads.fitted import votes
from probe.heads.io import load_fitted
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import Projection
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

SHOWN_CLASSES = 8

if TYPE_CHECKING:
    from probe.datasets.images.image_inputs import Image
    from probe.heads import FittedHead


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Bundle:
    """A finished model, ready to predict. `Bundle.load` reads and checks one.

    The steps are ``pack`` (pixels) -> ``features`` -> ``probabilities``. Most bundles have one
    network; the features of several are concatenated, and may go through a PCA. In an ensemble
    each network has a head of its own, which takes its part of them.

    Threads may share a bundle; one at a time uses the network.

    Parameters
    ----------
    networks : tuple of Network
        As in `about.networks`.
    heads : tuple of FittedHead
        Their probabilities are averaged; none if the network ends in its own logits.
    files : BundleFiles or None
        The files it was loaded from.
    """

    about: About
    networks: tuple[Network, ...]
    heads: tuple[FittedHead, ...]
    projection: Projection | None = None
    neighbours: Neighbours | None = None
    files: BundleFiles | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls, path: Path | str, *, batch_size: int | None = 1, engine: str = "auto",
        device: str = "auto",
    ) -> Self:  # fmt: skip
        """Read a bundle, check its digests and reproduce its reference rows.

        Parameters
        ----------
        path : Path or str
            A folder, or a ``.probe`` file.
        batch_size : int or None, default=1
            Images per forward pass; one image costs as much as a full batch. None for the batch
            size of extraction, which depends on the input size.
        engine : {"auto", "onnx", "openvino", "mxnet"}, default="auto"
        device : str, default="auto"
            See `probe.engines.make_engine`.

        Raises
        ------
        BundleError
            It is no bundle, a file was changed, head and network do not fit together, or this
            machine does not reproduce the reference rows.
        UnsafeFileError
            The archive's directory contradicts its content. Nothing was run.
        EngineError
            A network cannot run here.
        """
        files = BundleFiles(Path(path))
        about = files.about()
        known = read_reference(files, about)
        heads = tuple(read_head(files, about, name) for name in about.heads)
        projection, neighbours = read_projection(files, about), read_neighbours(files, about)
        parameters = {one.file: _parameters(files, about, one) for one in about.networks}
        for one in about.networks:
            check_parameters(str(path), one, parameters[one.file])
        networks = build_networks(
            about.networks, parameters, batch_size=batch_size, engine=engine, device=device
        )
        made = cls(
            about=about, networks=networks, heads=heads, projection=projection,
            neighbours=neighbours, files=files,
        )  # fmt: skip
        check_reference(made, known, str(path))
        return made

    def __repr__(self) -> str:
        one = self.about
        networks = " + ".join(f"{each.backbone} {each.layer}" for each in one.networks)
        return (
            f"<Bundle of {one.dataset}: {networks}, {one.head}, "
            f"{counted(len(one.classes), 'class', 'classes')}>"
        )

    def _repr_html_(self) -> str:
        one, page = self.about, Html().title(repr(self)[1:-1])
        page.note(
            ", ".join(one.classes[:SHOWN_CLASSES]) + " ..." * (len(one.classes) > SHOWN_CLASSES)
        )
        names = list(dict.fromkeys(name for figures in one.metrics.values() for name in figures))
        rows = [
            [split, *(f"{figures[name]:.4f}" if name in figures else "" for name in names)]
            for split, figures in one.metrics.items()
        ]
        return page.table(["", *names], rows).text()

    def parameters(self, network: int = 0) -> Parameters:
        """Return a network's parameters by canonical name, read again from the bundle.

        They are not kept in memory beside the engine's own copy.
        """
        if self.files is None:
            raise BundleError("this model was not loaded from a bundle; write it first")
        return _parameters(self.files, self.about, self.about.networks[network])

    @cached_property
    def inputs(self) -> tuple[PreprocessSpec, ...]:
        """The distinct ways of resizing an image; networks may share one."""
        distinct: dict[object, PreprocessSpec] = {}
        for one in self.networks:
            distinct.setdefault(resizing(one.preprocess), one.preprocess)
        return tuple(distinct.values())

    @cached_property
    def fed_by(self) -> tuple[int, ...]:
        """The index in `inputs` of each network."""
        ways = [resizing(spec) for spec in self.inputs]
        return tuple(ways.index(resizing(one.preprocess)) for one in self.networks)

    @cached_property
    def passes(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the networks that share each forward pass, in the order of its outputs."""
        return passes_of([one.about for one in self.networks])

    @property
    def pixels(self) -> int:
        """The length of what `pack` returns."""
        return sum(3 * spec.size**2 for spec in self.inputs)

    def pack(self, image: Image, name: str = "image") -> NDArray[np.uint8]:
        """Return the pixels of an image, resized for each of `inputs`, as one vector (pixels,).

        Parameters
        ----------
        image : path, open file, bytes of a file, uint8 array or Pillow image
            Arrays are RGB, (height, width, 3), or grey, (height, width).
        name : str
            Name of the image in messages; a path names itself.

        Raises
        ------
        ImageError
            The image cannot be read.
        """
        whole = read_image(image, name)
        packed: NDArray[np.uint8] = self.pack_views(lambda spec: [resize_image(whole, spec)])[0]
        return packed

    def pack_views(
        self, views: Callable[[PreprocessSpec], Sequence[UInt8Image]]
    ) -> NDArray[np.uint8]:
        """Return the pixels of several views of an image, as `pack` does, (n_views, pixels).

        Parameters
        ----------
        views : callable
            From one of `inputs` to n_views images of its size.
        """
        each = [np.stack(views(spec)) for spec in self.inputs]
        return np.concatenate([one.reshape(len(one), -1) for one in each], axis=1)

    def unpack(self, packed: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Return the images in rows of `pack`, (n, S, S, 3) for each of `inputs`."""
        rows = packed.reshape(len(packed), self.pixels)
        ends = np.cumsum([3 * spec.size**2 for spec in self.inputs])[:-1]
        sides = [spec.size for spec in self.inputs]
        return [
            part.reshape(len(rows), side, side, 3)
            for part, side in zip(np.split(rows, ends, axis=1), sides, strict=True)
        ]

    def features(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features that the head takes.

        Parameters
        ----------
        packed : uint8, (n, pixels)
            Rows of `pack`; with one input also images (n, S, S, 3), RGB.

        Returns
        -------
        float32, (n, n_features)
        """
        return self.joined(self.network_features(packed))

    def network_features(self, packed: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the features of each network, (n, d) each; see `features`."""
        images = self.unpack(packed)
        found: dict[int, NDArray[np.float32]] = {}
        for numbers in self.passes:
            outputs = self.networks[numbers[0]].outputs(images[self.fed_by[numbers[0]]])
            found |= {number: outputs[self.networks[number].output] for number in numbers}
        return [found[number] for number in range(len(self.networks))]

    def joined(self, features: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the networks' features, concatenated and after the PCA, as the head takes them."""
        rows = features[0] if len(features) == 1 else np.concatenate(features, axis=1)
        return rows if self.projection is None else self.projection.apply(rows)

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities, (n, n_classes), in the order of `about.classes`.

        Rows sum to 1, except in multi-label bundles.

        Parameters
        ----------
        features : float, (n, n_features)
            What `features` returns.
        """
        rows = self.by_head(features)
        every = [self._one_head(*one) for one in zip(self.heads, rows, strict=True)] or [
            softmax(features.astype(np.float64))
        ]
        mean: NDArray[np.float64] = np.mean(every, axis=0)
        return mean

    def by_head(self, features: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the features that each head takes: all, or in an ensemble those of its network."""
        if not self.about.ensemble:
            return [features] * len(self.heads)
        ends = np.cumsum([head.n_features_in_ for head in self.heads])[:-1]
        return np.split(features, ends, axis=1)

    def widths_of_heads(self, widths: Sequence[int]) -> list[int]:
        """Return how many features each head has to take where the networks give so many."""
        if self.about.ensemble:
            return list(widths)
        whole = sum(widths) if self.projection is None else self.projection.width
        return [whole] * len(self.heads)

    @property
    def votes(self) -> int:
        """How many heads vote if probabilities are shares of votes (not calibrated); else 0."""
        return sum(votes(head) for head in self.heads)

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """Lowest probability at which each label is predicted, (n_classes,); multi-label only.

        0.5 if no held-out rows were there to choose it on.
        """
        return np.array(self.about.thresholds or [HALF] * len(self.about.classes))

    def verdicts(self, features: NDArray[Any], probabilities: NDArray[np.float64]) -> Verdicts:
        """Return the flags of images on doubtful answers; see `probe.bundle.reject`."""
        return judge(self.about.rejection, self.neighbours, features, probabilities)

    def predict(self, images: Iterable[Image]) -> list[str]:
        """Return the class of each image: the most probable one, or that of the bundle's threshold.

        Parameters
        ----------
        images : iterable of what `pack` takes, or one array (n, height, width, 3)

        Raises
        ------
        ImageError
            An image cannot be read; the message has its path or its index.
        DataError
            `images` is a single image or no collection of images.
        """
        found = self.predict_proba(images)
        winners = answers_of(found, self.about.classes, self.about.threshold)
        return [self.about.classes[winner] for winner in winners]

    def labels(self, images: Iterable[Image]) -> list[tuple[str, ...]]:
        """Return the labels of each image, the most probable first; see `predict`.

        In a multi-label bundle these are the labels whose thresholds are reached, maybe none; in
        others the predicted class alone.
        """
        if self.about.task.exclusive:
            return [(name,) for name in self.predict(images)]
        every = [reached(p, self.thresholds) for p in self.predict_proba(images)]
        return [tuple(self.about.classes[number] for number in given) for given in every]

    def predict_proba(self, images: Iterable[Image]) -> NDArray[np.float64]:
        """Return the probabilities of images, (n, n_classes); see `predict`."""
        packed = [self.pack(one, f"image {place}") for place, one in enumerate(list_images(images))]
        if not packed:
            return np.zeros((0, len(self.about.classes)))
        return self.probabilities(self.features(np.stack(packed)))

    def _one_head(self, head: FittedHead, features: NDArray[Any]) -> NDArray[np.float64]:
        temperature, task = self.about.temperature, self.about.task
        places = head.classes_.astype(np.intp)
        found = np.zeros((len(features), len(self.about.classes)))  # 0: no training rows
        if temperature is None:
            found[:, places] = head.predict_proba(features)
        elif self.about.schema == FROM_PROBABILITIES:
            found[:, places] = head.predict_proba(features)
            found = task.apply_temperature(task.scores_of(found), temperature)
        else:
            found[:, places] = task.apply_temperature(head.predict_logits(features), temperature)
        return found


def _parameters(files: BundleFiles, about: About, network: NetworkAbout) -> Parameters:
    data = files.checked(network.file, about)
    if not network.foreign:
        return read_arrays(data, str(files.path))
    try:
        return ForeignParameters(data, network.backbone)
    except ProbeError as error:
        raise BundleError(f"{files.path}: {error}") from error


def read_reference(files: BundleFiles, about: About) -> dict[str, NDArray[Any]]:
    """Return the reference images with their features and probabilities."""
    arrays = read_arrays(files.checked(REFERENCE, about), str(files.path))
    for name in ("images", "features", "probabilities"):
        if name not in arrays:
            raise BundleError(f"{files.path}: {REFERENCE} lacks {name}")
    return arrays


def read_neighbours(files: BundleFiles, about: About) -> Neighbours | None:
    """Return the training features that the bundle keeps, if any."""
    if not about.remembers:
        return None
    arrays = read_arrays(files.checked(NEIGHBOURS, about), str(files.path))
    return Neighbours.from_arrays(arrays, len(about.classes), str(files.path))


def read_projection(files: BundleFiles, about: About) -> Projection | None:
    """Return the PCA between features and head, if there is one."""
    if about.pca is None:
        return None
    arrays = read_arrays(files.checked(PROJECTION, about), str(files.path))
    try:
        found = Projection.from_arrays(arrays)
    except HeadError as error:
        raise BundleError(f"{files.path}: {PROJECTION}: {error}") from error
    if found.width != about.pca:
        raise BundleError(
            f"{files.path}: {PROJECTION} gives {found.width} features, not {about.pca}"
        )
    return found


def read_head(files: BundleFiles, about: About, name: str) -> FittedHead:
    """Return a head of the bundle, ready to predict."""
    data = files.checked(name, about)
    try:
        with tempfile.TemporaryDirectory() as folder:  # the bytes that were checked, not the file
            path = Path(folder, name)
            path.write_bytes(data)
            head = load_fitted(path)
    except HeadError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BundleError(f"{files.path}: {name}: {reason}") from error
    except OSError as error:
        raise BundleError(
            f"{tempfile.gettempdir()}: cannot be written ({reason_of(error)}); make room, or name "
            "another place in TMPDIR"
        ) from error
    check_head(f"{files.path}: {name}", head, about)
    return head


def check_head(where: str, head: FittedHead, about: About) -> None:
    """Refuse a head that is not fitted, or whose classes are not the bundle's.

    Raises
    ------
    BundleError
    """
    if not hasattr(head, "classes_"):
        raise BundleError(f"{where}: the head is not fitted; fit it with `probe head` first")
    labels, n_classes = head.classes_, len(about.classes)
    if (task := getattr(head, "task_", SINGLE_LABEL)) is not about.task:
        raise BundleError(
            f"{where}: the head gives {task.gives} an image, the bundle {about.task.gives}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(f"{where}: the head's labels are no class numbers")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise BundleError(
            f"{where}: the head tells {labels.max() + 1} classes apart, the bundle names "
            f"{n_classes}"
        )


def check_parameters(where: str, network: NetworkAbout, parameters: Parameters) -> None:
    """Refuse weights of another backbone before the network is built.

    Raises
    ------
    BundleError
    """
    spec = network.spec(parameters)
    try:
        cut = spec.cut(network.layer, network.pool)
    except ProbeError as error:
        raise BundleError(f"{where}: {error}") from error
    if network.foreign:
        return  # one file has the network and its weights
    for name, shape in parameter_shapes(spec, classes_of([cut])).items():
        if not spec.uses(cut[0], name):
            continue
        if name not in parameters or parameters[name].shape != shape:
            found = parameters[name].shape if name in parameters else "missing"
            raise BundleError(
                f"{where}: its weights are not those of {network.backbone} to {network.layer}: "
                f"{name} is {found}, expected {shape}"
            )


PROBABILITY_TOLERANCE = 1e-3


def check_reference(bundle: Bundle, known: Mapping[str, NDArray[Any]], where: str) -> None:
    """Raise BundleError unless the reference images give the reference rows.

    Parameters
    ----------
    known : mapping of name to array
        What `read_reference` returns.
    """
    images, features = known["images"], known["features"]
    if images.dtype != np.uint8 or images.shape[1:] != (bundle.pixels,) or not len(images):
        raise BundleError(f"{where}: its reference images are not of its networks' sizes")
    every = bundle.network_features(images)
    widths = [one.shape[1] for one in every]
    if features.shape != (len(images), sum(widths)):
        raise BundleError(f"{where}: its reference rows have other features than its networks")
    if known["probabilities"].shape != (len(images), len(bundle.about.classes)):
        raise BundleError(f"{where}: its reference rows have other classes than it names")
    _check_widths(bundle, widths, where)
    wanted = np.split(features, np.cumsum(widths)[:-1], axis=1)
    for network, found, expected in zip(bundle.networks, every, wanted, strict=True):
        worst = float(relative_differences(found, expected).max())
        if not worst <= TOLERANCE:
            raise BundleError(
                f"{where}: its reference images give other features of {network.about.backbone} "
                f"here, by {worst:.2g} of their norm (at most {TOLERANCE:g}); "
                "`probe doctor` shows the versions at work"
            )
    probabilities = bundle.probabilities(bundle.joined(every))
    drift = float(np.abs(probabilities - known["probabilities"]).max())
    if not drift <= PROBABILITY_TOLERANCE:
        raise BundleError(
            f"{where}: its head gives other probabilities than it did, by {drift:.2g}; "
            "it is not the head that was bundled"
        )


def _check_widths(bundle: Bundle, widths: Sequence[int], where: str) -> None:
    """Raise BundleError unless each part takes as many features as the part before returns."""
    width = sum(widths)
    if bundle.projection is not None:
        if bundle.projection.n_features != width:
            raise BundleError(
                f"{where}: the PCA takes {bundle.projection.n_features} features, the networks "
                f"give {width}"
            )
        width = bundle.projection.width
    for head, given in zip(bundle.heads, bundle.widths_of_heads(widths), strict=True):
        if head.n_features_in_ != given:
            raise BundleError(
                f"{where}: the head takes {head.n_features_in_} features, the network gives {given}"
            )
    if bundle.neighbours is not None and bundle.neighbours.features.shape[1] != width:
        raise BundleError(f"{where}: its neighbours have other features than the network gives")
