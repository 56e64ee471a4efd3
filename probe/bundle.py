"""What a finished model is on disk: a folder that predicts without a cache or a dataset.

    bundle.json            what it is, and the digests of the other files
    weights.safetensors    the cut network's parameters, float32, canonical names
    head.safetensors       the head with its normalisation
    reference.safetensors  synthetic images, and the features and probabilities they gave
    README.md              the model card

Nothing in it is code, and nothing of the user's images is in it. Loading checks every digest and
runs the reference images through the network before it answers, so that another MXNet, another
machine or a damaged file shows at once and not as a worse accuracy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.card import ABOUT, About, model_card
from probe.errors import BundleError, ProbeError
from probe.files import sync
from probe.heads import load_head, save_head
from probe.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from probe.engines import Engine
    from probe.heads import LinearHead

WEIGHTS, HEAD, REFERENCE = "weights.safetensors", "head.safetensors", "reference.safetensors"
CARD = "README.md"
REFERENCE_IMAGES = 12
FEATURE_TOLERANCE = 1e-4  # of a row's norm: the contract between engines
PROBABILITY_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Bundle:
    """A finished model, ready to predict.

    Use `Bundle.load`; it reads and checks the folder.
    """

    about: About
    preprocess: PreprocessSpec
    head: LinearHead
    engine: Engine

    @classmethod
    def load(cls, folder: Path | str, *, batch_size: int = 1, device: str = "auto") -> Bundle:
        """Read a bundle, check its digests and reproduce its reference rows.

        Parameters
        ----------
        batch_size : int, default=1
            Images a forward pass; one image costs as much as a full batch.
        device : str, default="auto"

        Raises
        ------
        BundleError
            It is no bundle, a file is not what was written, head and network do not go together,
            or this machine computes other numbers.
        EngineError
            The network cannot run here.
        """
        from probe.engines.gluon import GluonEngine

        folder = Path(folder)
        about = About.read(folder)
        _check_files(folder, about)
        preprocess = PreprocessSpec.from_json(dict(about.preprocess), str(folder / ABOUT))
        head = load_head(folder / HEAD)
        _check_head(folder, about, head)
        engine = GluonEngine(
            about.spec,
            _read_arrays(folder / WEIGHTS),
            [about.cut],
            preprocess,
            batch_size=batch_size,
            device=device,
        )
        bundle = cls(about, preprocess, head, engine)
        bundle._check_reference(folder)
        return bundle

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of images that have the network's size already.

        Parameters
        ----------
        images : uint8, (n, S, S, 3), RGB

        Returns
        -------
        float32, (n, n_features)
        """
        size, rows = self.engine.batch_size, []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            padding = np.repeat(batch[-1:], size - len(batch), axis=0)
            (output,) = self.engine.collect(self.engine.submit(np.concatenate([batch, padding])))
            rows.append(output[: len(batch)].reshape(len(batch), -1))
        return np.concatenate(rows)

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n, n_classes) for features, in the order of `about.classes`."""
        found = np.zeros((len(features), len(self.about.classes)))  # 0: never seen in training
        found[:, self.head.classes_.astype(np.intp)] = self.head.predict_proba(features)
        return found

    def predict(self, images: Sequence[Path | str | NDArray[np.uint8]]) -> list[str]:
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

    def predict_proba(
        self, images: Sequence[Path | str | NDArray[np.uint8]]
    ) -> NDArray[np.float64]:
        """Return the probabilities of images, (n, n_classes); see `predict`."""
        from probe.datasets import decode_file
        from probe.resize import resize_image

        arrays = [
            image if isinstance(image, np.ndarray) else decode_file(str(image)) for image in images
        ]
        return self.probabilities(
            self.features(np.stack([resize_image(array, self.preprocess) for array in arrays]))
        )

    def _check_reference(self, folder: Path) -> None:
        known = _read_arrays(folder / REFERENCE)
        width, wanted = known["features"].shape[1], self.head.coef_.shape[1]
        if width != wanted:
            raise BundleError(
                f"{folder}: the head takes {wanted} features, the network gives {width}"
            )
        features = self.features(known["images"])
        norms = np.linalg.norm(known["features"], axis=1)
        worst = float((np.linalg.norm(features - known["features"], axis=1) / norms).max())
        drift = float(np.abs(self.probabilities(features) - known["probabilities"]).max())
        if not worst <= FEATURE_TOLERANCE:
            raise BundleError(
                f"{folder}: its reference images give other features here, by {worst:.2g} of their "
                f"norm (at most {FEATURE_TOLERANCE:g}); `probe doctor` shows the versions at work"
            )
        if not drift <= PROBABILITY_TOLERANCE:
            raise BundleError(
                f"{folder}: its head gives other probabilities than it did, by {drift:.2g}; "
                "it is not the head that was bundled"
            )


def write_bundle(
    out: Path, about: About, parameters: Mapping[str, NDArray[np.float32]], head: LinearHead
) -> Bundle:
    """Write a bundle and return it, loaded from what was written; all of it or nothing.

    Parameters
    ----------
    out : Path
        A folder that is not there yet.
    about : About
        `files` is filled in here.
    parameters : mapping of canonical name to float32 array

    Raises
    ------
    BundleError
        `out` exists or cannot be written, or the head does not fit the network.
    """
    if out.exists():
        raise BundleError(f"{out}: is there already; name another place with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        _save(temporary / WEIGHTS, dict(parameters))
        save_head(head, temporary / HEAD)
        _save(temporary / REFERENCE, _reference(about, parameters, head))
        (temporary / CARD).write_text(model_card(about), encoding="utf-8")
        digests = {name: _sha256(temporary / name) for name in (WEIGHTS, HEAD, REFERENCE)}
        described = {**asdict(about), "files": digests}
        text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
        (temporary / ABOUT).write_text(text + "\n", encoding="utf-8")
        loaded = Bundle.load(temporary)
        for path in temporary.iterdir():
            path.chmod(0o644)  # safetensors writes what only its owner can read
            sync(path)
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(out.parent)
    return loaded


def _reference(
    about: About, parameters: Mapping[str, NDArray[np.float32]], head: LinearHead
) -> dict[str, NDArray[Any]]:
    from probe.engines.gluon import GluonEngine

    preprocess = PreprocessSpec.from_json(dict(about.preprocess), ABOUT)
    engine = GluonEngine(about.spec, parameters, [about.cut], preprocess, batch_size=4)
    bundle = Bundle(about, preprocess, head, engine)
    images = synthetic_images(REFERENCE_IMAGES, preprocess.size)
    features = bundle.features(images)
    return {
        "images": images,
        "features": features,
        "probabilities": bundle.probabilities(features),
    }


def synthetic_images(count: int, size: int) -> NDArray[np.uint8]:
    """Return seeded pictures of coloured blobs and noise, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 2 * np.pi, size)
    waves = rng.uniform(0.5, 5, (count, 1, 1, 3)), rng.uniform(0.5, 5, (count, 1, 1, 3))
    shape = np.sin(ramp[:, None, None] * waves[0]) + np.cos(ramp[None, :, None] * waves[1])
    noise = rng.normal(0, 0.2, shape.shape)
    pictures: NDArray[np.uint8] = np.clip(127.5 + 55 * (shape + noise), 0, 255).astype(np.uint8)
    return pictures


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: Path, about: About) -> None:
    if set(about.files) != {WEIGHTS, HEAD, REFERENCE}:
        raise BundleError(f"{folder / ABOUT}: names other files than a bundle has")
    for name, digest in about.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the whole folder")
        if _sha256(path) != digest:
            raise BundleError(f"{path}: not what was written, by its SHA256; copy the bundle again")


def _check_head(folder: Path, about: About, head: LinearHead) -> None:
    labels = head.classes_
    if not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(f"{folder / HEAD}: its labels are no class numbers")
    if labels.min() < 0 or labels.max() >= len(about.classes):
        raise BundleError(
            f"{folder / HEAD}: the head tells {labels.max() + 1} classes apart, the bundle names "
            f"{len(about.classes)}"
        )
    try:
        about.cut  # noqa: B018 - an unknown backbone, layer or pool shows here
    except ProbeError as error:
        raise BundleError(f"{folder / ABOUT}: {error}") from error
