"""A finished model in memory: from pixels to features to probabilities."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import NEIGHBOURS, REFERENCE, WEIGHTS, About
from probe.bundle.files import BundleFiles, read_arrays
from probe.bundle.neighbours import Neighbours
from probe.bundle.reject import Verdicts, judge
from probe.errors import BundleError, HeadError
from probe.preprocess import PreprocessSpec
from probe.statistics import apply_temperature, softmax

if TYPE_CHECKING:
    from probe.engines import Engine
    from probe.heads.base import BaseHead

FEATURE_TOLERANCE = 1e-4  # of a row's norm: the contract between engines
PROBABILITY_TOLERANCE = 1e-3

Image = Path | str | NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A finished model, ready to predict. `Bundle.load` reads and checks one.

    Not for several threads at once: MXNet's compiled networks are not safe in them.

    Parameters
    ----------
    about : About
    preprocess : PreprocessSpec
    heads : tuple of BaseHead
        Their probabilities are averaged; none where the network ends in probabilities' logits.
    engine : Engine
    neighbours : Neighbours or None
    files : BundleFiles or None
        Where it was loaded from.
    """

    about: About
    preprocess: PreprocessSpec
    heads: tuple[BaseHead, ...]
    engine: Engine = field(repr=False)
    neighbours: Neighbours | None = None
    files: BundleFiles | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: Path | str, *, batch_size: int = 1, device: str = "auto") -> Bundle:
        """Read a bundle, check its digests and reproduce its reference rows.

        Parameters
        ----------
        path : Path or str
            A folder, or a ``.probe`` file.
        batch_size : int, default=1
            Images a forward pass; one image costs as much as a full batch.
        device : str, default="auto"

        Raises
        ------
        BundleError
            It is no bundle, a file is not what was written, head and network do not go together,
            or this machine computes other numbers.
        UnsafeFileError
            The archive lies about its contents. Nothing was run.
        EngineError
            The network cannot run here.
        """
        from probe.engines.gluon import GluonEngine

        files = BundleFiles(Path(path))
        about = files.about()
        preprocess = PreprocessSpec.from_json(dict(about.preprocess), str(path))
        known = _reference(read_arrays(files.checked(REFERENCE, about), str(path)), str(path))
        parameters = read_arrays(files.checked(WEIGHTS, about), str(path))
        _check_parameters(str(path), about, parameters)
        engine = GluonEngine(
            about.spec, parameters, [about.cut], preprocess, batch_size=batch_size, device=device
        )
        started = _submit(engine, known["images"])  # runs while the head's packages are imported
        heads = tuple(_load_head(files, about, name) for name in about.heads)
        neighbours = None
        if about.remembers:
            arrays = read_arrays(files.checked(NEIGHBOURS, about), str(path))
            neighbours = Neighbours.from_arrays(arrays, len(about.classes), str(path))
        made = cls(
            about=about, preprocess=preprocess, heads=heads, engine=engine, neighbours=neighbours,
            files=files,
        )  # fmt: skip
        made.check_reference(known, _collect(engine, started, len(known["images"])), str(path))
        return made

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Return the network's parameters by canonical name, read again from the bundle.

        They are not kept in memory beside the engine's own copy.
        """
        if self.files is None:
            raise BundleError("this model was not loaded from a bundle; write it first")
        return read_arrays(self.files.checked(WEIGHTS, self.about), str(self.files.path))

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of images that have the network's size already.

        Parameters
        ----------
        images : uint8, (n, S, S, 3), RGB

        Returns
        -------
        float32, (n, n_features)
        """
        return _collect(self.engine, _submit(self.engine, images), len(images))

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return calibrated probabilities, (n, n_classes), in the order of `about.classes`.

        Parameters
        ----------
        features : float, (n, n_features)
            As `features` gives them.
        """
        every = [self._one_head(head, features) for head in self.heads] or [
            softmax(features.astype(np.float64))
        ]
        if self.about.temperature is not None:
            every = [apply_temperature(one, self.about.temperature) for one in every]
        mean: NDArray[np.float64] = np.mean(every, axis=0)
        return mean

    def verdicts(self, features: NDArray[Any], probabilities: NDArray[np.float64]) -> Verdicts:
        """Say which images the bundle does not know; see `probe.bundle.reject`."""
        return judge(self.about.rejection, self.neighbours, features, probabilities)

    def predict(self, images: Sequence[Image]) -> list[str]:
        """Return the most probable class of each image.

        Parameters
        ----------
        images : sequence of path, or of uint8 (height, width, 3) RGB arrays

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        winners = self.predict_proba(images).argmax(axis=1)
        return [self.about.classes[winner] for winner in winners]

    def predict_proba(self, images: Sequence[Image]) -> NDArray[np.float64]:
        """Return the probabilities of images, (n, n_classes); see `predict`."""
        if not len(images):
            return np.zeros((0, len(self.about.classes)))
        return self.probabilities(self.features(np.stack([self.resized(one) for one in images])))

    def resized(self, image: Image) -> NDArray[np.uint8]:
        """Return an image as the network takes it, (S, S, 3); a path is read first.

        Raises
        ------
        ImageError
            It cannot be read, or is no uint8 (height, width, 3) array.
        """
        from probe.datasets import decode_file
        from probe.errors import ImageError
        from probe.resize import resize_image

        if not isinstance(image, np.ndarray):
            image = decode_file(str(image))
        elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(
                "image", f"is {image.dtype} of shape {image.shape}, not uint8 (height, width, 3)"
            )
        return resize_image(image, self.preprocess)

    def check_reference(
        self, known: Mapping[str, NDArray[Any]], found: NDArray[np.float32], where: str
    ) -> None:
        """Raise BundleError unless the reference images give what they gave when it was made.

        Parameters
        ----------
        known : mapping of str to array
            Images, their features and their probabilities.
        found : float32, (n, n_features)
            The features that they have here.
        """
        features, probabilities = known["features"], known["probabilities"]
        self._check_widths(features.shape[-1], where)
        norms = np.linalg.norm(features, axis=1)
        worst = float((np.linalg.norm(found - features, axis=1) / norms).max())
        if not worst <= FEATURE_TOLERANCE:
            raise BundleError(
                f"{where}: its reference images give other features here, by {worst:.2g} of their "
                f"norm (at most {FEATURE_TOLERANCE:g}); `probe doctor` shows the versions at work"
            )
        drift = float(np.abs(self.probabilities(found) - probabilities).max())
        if not drift <= PROBABILITY_TOLERANCE:
            raise BundleError(
                f"{where}: its head gives other probabilities than it did, by {drift:.2g}; "
                "it is not the head that was bundled"
            )

    def _check_widths(self, width: int, where: str) -> None:
        for head in self.heads:
            if head.n_features_in_ != width:
                raise BundleError(
                    f"{where}: the head takes {head.n_features_in_} features, the network gives "
                    f"{width}"
                )
        if self.neighbours is not None and self.neighbours.features.shape[1] != width:
            raise BundleError(f"{where}: its neighbours have other features than the network gives")

    def _one_head(self, head: BaseHead, features: NDArray[Any]) -> NDArray[np.float64]:
        found = np.zeros((len(features), len(self.about.classes)))  # 0: never seen in training
        found[:, head.classes_.astype(np.intp)] = head.predict_proba(features)
        return found


def _submit(engine: Engine, images: NDArray[np.uint8]) -> list[Any]:
    """Start forward passes over images of the network's size, a batch each."""
    size, tickets = engine.batch_size, []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        if len(batch) < size:  # a network of one shape costs no memory for another
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        tickets.append(engine.submit(batch))
    return tickets


def _collect(engine: Engine, tickets: list[Any], n_images: int) -> NDArray[np.float32]:
    """Wait for passes that were started; return features, (n_images, n_features)."""
    rows = [engine.collect(ticket)[0] for ticket in tickets]
    joined: NDArray[np.float32] = np.concatenate(rows)[:n_images]
    return joined.reshape(n_images, -1)


def _reference(arrays: dict[str, NDArray[Any]], where: str) -> dict[str, NDArray[Any]]:
    for name in ("images", "features", "probabilities"):
        if name not in arrays:
            raise BundleError(f"{where}: {REFERENCE} lacks {name}")
    return arrays


def check_head(where: str, head: BaseHead, n_classes: int) -> None:
    """Refuse a head that is not fitted, or tells other classes apart than the bundle names.

    Raises
    ------
    BundleError
    """
    if not hasattr(head, "classes_"):
        raise BundleError(f"{where}: the head is not fitted; fit it with `probe head` first")
    labels = head.classes_
    if not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(f"{where}: the head's labels are no class numbers")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise BundleError(
            f"{where}: the head tells {labels.max() + 1} classes apart, the bundle names "
            f"{n_classes}"
        )


def _load_head(files: BundleFiles, about: About, name: str) -> BaseHead:
    from probe.heads import load_head

    data = files.checked(name, about)
    with tempfile.TemporaryDirectory() as folder:  # the bytes that were checked, not the file again
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            head = load_head(path)
        except HeadError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise BundleError(f"{files.path}: {name}: {reason}") from error
    check_head(f"{files.path}: {name}", head, len(about.classes))
    return head


def _check_parameters(where: str, about: About, parameters: dict[str, NDArray[Any]]) -> None:
    """Refuse weights of another backbone before the network is built with them."""
    from probe.backbones.network import parameter_shapes

    layer, _ = about.cut
    for name, shape in parameter_shapes(about.spec).items():
        if about.spec.uses(layer, name) and (
            name not in parameters or parameters[name].shape != shape
        ):
            found = parameters[name].shape if name in parameters else "missing"
            raise BundleError(
                f"{where}: its weights are not those of {about.backbone} to {about.layer}: {name} "
                f"is {found}, expected {shape}"
            )
