"""Writing a bundle: all of it or nothing, and only if it loads again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import NEIGHBOURS, REFERENCE, WEIGHTS, About
from probe.bundle.bundle import Bundle
from probe.bundle.card import model_card
from probe.bundle.files import (
    CARD,
    BundleFiles,
    publish,
    working_folder,
    write_about,
    write_arrays,
)
from probe.bundle.neighbours import Neighbours
from probe.bundle.parts import check_head
from probe.errors import BundleError
from probe.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from probe.heads import BaseHead, FittedHead

REFERENCE_IMAGES = 12


def write_bundle(
    out: Path,
    about: About,
    parameters: Mapping[str, NDArray[np.float32]],
    heads: Sequence[BaseHead],
    neighbours: Neighbours | None = None,
) -> Bundle:
    """Write a bundle and return it, loaded from what was written; all of it or nothing.

    Parameters
    ----------
    out : Path
        A folder that is not there yet, or with the ending ``.probe`` a file.
    about : About
        `files` is filled in here.
    parameters : mapping of canonical name to float32 array
    heads : sequence of BaseHead
        One for each name in `about.heads`.

    Raises
    ------
    BundleError
        `out` exists or cannot be written, a head is not fitted or does not fit the network.
    """
    from probe.heads import load_fitted, save_head

    for name, head in zip(about.heads, heads, strict=True):
        check_head(name, head, len(about.classes))
    folder = working_folder(out)
    try:
        write_arrays(folder / WEIGHTS, parameters)
        for name, head in zip(about.heads, heads, strict=True):
            save_head(head, folder / name)
        if neighbours is not None:
            write_arrays(folder / NEIGHBOURS, neighbours.to_arrays())
        saved = [load_fitted(folder / name) for name in about.heads]
        write_arrays(folder / REFERENCE, _reference(about, parameters, saved))
        (folder / CARD).write_text(model_card(about, out.name, neighbours), encoding="utf-8")
        write_about(about, folder)
        loaded = Bundle.load(folder)
        publish(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return replace(loaded, files=BundleFiles(out))


def _reference(
    about: About, parameters: Mapping[str, NDArray[np.float32]], heads: Sequence[FittedHead]
) -> dict[str, NDArray[Any]]:
    from probe.engines.gluon import GluonEngine

    preprocess = PreprocessSpec.from_json(dict(about.preprocess), "bundle")
    engine = GluonEngine(about.spec, parameters, [about.cut], preprocess, batch_size=4)
    bundle = Bundle(about=about, preprocess=preprocess, heads=tuple(heads), engine=engine)
    images = synthetic_images(REFERENCE_IMAGES, preprocess.size)
    features = bundle.features(images)
    for head in heads:
        if head.n_features_in_ != features.shape[1]:
            raise BundleError(
                f"the head takes {head.n_features_in_} features, {about.backbone} to "
                f"{about.layer} gives {features.shape[1]}"
            )
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
