"""Write a bundle: all of it or nothing, and only if it can be loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import NEIGHBOURS, REFERENCE, About
from probe.bundle.bundle import Bundle, check_head
from probe.bundle.card import model_card
from probe.bundle.files import (
    CARD,
    BundleFiles,
    write_about,
    write_arrays,
    writing,
)
from probe.bundle.neighbours import Neighbours
from probe.bundle.network import ForeignParameters, build_networks
from probe.engines import Parameters
from probe.errors import BundleError
from probe.heads.fitted import votes
from probe.heads.io import load_fitted, save_head
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import Projection, save_projection

if TYPE_CHECKING:
    from probe.heads import BaseHead

REFERENCE_IMAGES = 12


def write_bundle(
    out: Path,
    about: About,
    parameters: Mapping[str, Parameters],
    heads: Sequence[BaseHead],
    *,
    neighbours: Neighbours | None = None,
    projection: Projection | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Bundle:
    """Write a bundle, all of it or nothing, and return it as loaded from disk.

    Parameters
    ----------
    out : Path
        A new folder, or with the ending ``.probe`` a new file.
    about : About
        Its `files` are filled in here.
    parameters : mapping of file to mapping of canonical name to float32 array
        The files are those of `about.networks`; `WEIGHTS` for a single network.
    heads : sequence of BaseHead
        One for each name in `about.heads`.
    projection : Projection, optional
        The PCA between features and head, if `about.pca` is not None.
    engine, device : str
        What runs the networks on the reference images; see `probe.engines.make_engine`.

    Raises
    ------
    BundleError
        `out` exists or cannot be written, a head is not fitted or does not fit the network.
    """
    for name, head in zip(about.heads, heads, strict=True):
        check_head(name, head, about)
    with writing(out) as folder:
        for name, arrays in parameters.items():
            if isinstance(arrays, ForeignParameters):
                (folder / name).write_bytes(arrays.data)
            else:
                write_arrays(folder / name, arrays)
        if projection is not None:
            save_projection(projection, folder / PROJECTION)
        for name, head in zip(about.heads, heads, strict=True):
            save_head(head, folder / name)
        if neighbours is not None:
            write_arrays(folder / NEIGHBOURS, neighbours.to_arrays())
        saved = [load_fitted(folder / name) for name in about.heads]
        networks = build_networks(
            about.networks, parameters, batch_size=4, engine=engine, device=device
        )
        made = Bundle(about=about, networks=networks, heads=tuple(saved), projection=projection)
        reference = _reference(made)
        write_arrays(folder / REFERENCE, reference)
        card = model_card(about, out.name, neighbours, votes=sum(map(votes, heads)))
        (folder / CARD).write_text(card, encoding="utf-8")
        write_about(about, folder)
        loaded = Bundle.load(folder, engine=engine, device=device)
    return replace(loaded, files=BundleFiles(out))


def _reference(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the images, features and probabilities by which a bundle is checked."""
    images = reference_images(bundle)
    every = bundle.network_features(images)
    features = bundle.joined(every)
    given = bundle.widths_of_heads([one.shape[1] for one in every])
    for head, width in zip(bundle.heads, given, strict=True):
        if head.n_features_in_ != width:
            cuts = ", ".join(f"{one.backbone} to {one.layer}" for one in bundle.about.networks)
            raise BundleError(
                f"the head takes {head.n_features_in_} features, {cuts} gives {width}"
            )
    return {
        "images": images,
        "features": np.concatenate(every, axis=1),
        "probabilities": bundle.probabilities(features),
    }


def reference_images(bundle: Bundle) -> NDArray[np.uint8]:
    """Return the synthetic pictures that a bundle is checked on, as rows of `Bundle.pack`.

    Each input has its own pictures of its size; they are not resized.
    """
    sizes = [spec.size for spec in bundle.inputs]
    each = [synthetic_images(REFERENCE_IMAGES, size) for size in sizes]
    return np.concatenate([one.reshape(len(one), -1) for one in each], axis=1)


def synthetic_images(count: int, size: int) -> NDArray[np.uint8]:
    """Return seeded pictures of coloured blobs and noise, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 2 * np.pi, size)
    waves = rng.uniform(0.5, 5, (count, 1, 1, 3)), rng.uniform(0.5, 5, (count, 1, 1, 3))
    shape = np.sin(ramp[:, None, None] * waves[0]) + np.cos(ramp[None, :, None] * waves[1])
    noise = rng.normal(0, 0.2, shape.shape)
    pictures: NDArray[np.uint8] = np.clip(127.5 + 55 * (shape + noise), 0, 255).astype(np.uint8)
    return pictures
