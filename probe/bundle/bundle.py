"""A finished model in memory: from pixels to features to probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import WEIGHTS, About
from probe.bundle.files import BundleFiles, read_arrays
from probe.bundle.neighbours import Neighbours
from probe.bundle.parts import check_parameters, read_head, read_neighbours, read_reference
from probe.bundle.reject import Verdicts, judge
from probe.errors import BundleError
from probe.preprocess import PreprocessSpec
from probe.statistics import apply_temperature, softmax

if TYPE_CHECKING:
    from probe.engines import Engine
    from probe.heads import FittedHead

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
    heads : tuple of FittedHead
        Their probabilities are averaged; none where the network ends in probabilities' logits.
    engine : Engine
    neighbours : Neighbours or None
    files : BundleFiles or None
        Where it was loaded from.
    """

    about: About
    preprocess: PreprocessSpec
    heads: tuple[FittedHead, ...]
    engine: Engine = field(repr=False)
    neighbours: Neighbours | None = None
    files: BundleFiles | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: Path | str, *, batch_size: int | None = 1, device: str = "auto") -> Bundle:
        """Read a bundle, check its digests and reproduce its reference rows.

        Parameters
        ----------
        path : Path or str
            A folder, or a ``.probe`` file.
        batch_size : int or None, default=1
            Images a forward pass; one image costs as much as a full batch. None for what a pass
            over a dataset takes, by input size.
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
        from probe.extract import default_batch_size

        files = BundleFiles(Path(path))
        about = files.about()
        preprocess = PreprocessSpec.from_json(dict(about.preprocess), str(path))
        known = read_reference(files, about)
        heads = tuple(read_head(files, about, name) for name in about.heads)
        neighbours = read_neighbours(files, about)
        parameters = read_arrays(files.checked(WEIGHTS, about), str(path))
        check_parameters(str(path), about, parameters)
        engine = GluonEngine(
            about.spec, parameters, [about.cut], preprocess,
            batch_size=batch_size or default_batch_size(preprocess.size), device=device,
        )  # fmt: skip
        made = cls(
            about=about, preprocess=preprocess, heads=heads, engine=engine, neighbours=neighbours,
            files=files,
        )  # fmt: skip
        made._check_reference(known, str(path))
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
        size, tickets = self.engine.batch_size, []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            if len(batch) < size:  # a network of one shape costs no memory for another
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            tickets.append(self.engine.submit(batch))
        rows = [self.engine.collect(ticket)[0] for ticket in tickets]
        joined: NDArray[np.float32] = np.concatenate(rows)[: len(images)]
        return joined.reshape(len(images), -1)

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

    def _check_reference(self, known: Mapping[str, NDArray[Any]], where: str) -> None:
        """Raise BundleError unless the reference images give what they gave when it was made."""
        features, probabilities = known["features"], known["probabilities"]
        self._check_widths(features.shape[-1], where)
        found = self.features(known["images"])
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

    def _one_head(self, head: FittedHead, features: NDArray[Any]) -> NDArray[np.float64]:
        found = np.zeros((len(features), len(self.about.classes)))  # 0: never seen in training
        found[:, head.classes_.astype(np.intp)] = head.predict_proba(features)
        return found
