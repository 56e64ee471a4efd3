"""What all exports share: reference rows to be reproduced, and a place that is free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle
from probe.bundle.write import REFERENCE_IMAGES, synthetic_images
from probe.errors import BundleError, UsageError
from probe.heads import LayeredHead

TOLERANCE = 1e-4  # of a probability, and of a feature row's norm


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRows:
    """Synthetic images and what the bundle says of them.

    Parameters
    ----------
    images : uint8, (n, S, S, 3)
    features : float32, (n, n_features)
    probabilities : float64, (n, n_classes)
    """

    images: NDArray[np.uint8]
    features: NDArray[np.float32]
    probabilities: NDArray[np.float64]


def reference_rows(bundle: Bundle) -> ReferenceRows:
    """Return what an export has to reproduce."""
    images = synthetic_images(REFERENCE_IMAGES, bundle.preprocess.size)
    features = bundle.features(images)
    return ReferenceRows(
        images=images, features=features, probabilities=bundle.probabilities(features)
    )


def require_same(
    what: str, rows: ReferenceRows, probabilities: NDArray[Any], features: NDArray[Any] | None
) -> None:
    """Raise unless an export gave what the bundle gives.

    Raises
    ------
    BundleError
        Says by how much it is off; no file is left.
    """
    drift = float(np.abs(probabilities - rows.probabilities).max())
    if features is not None:
        off = np.linalg.norm(features.reshape(len(rows.features), -1) - rows.features, axis=1)
        drift = max(drift, float((off / np.linalg.norm(rows.features, axis=1)).max()))
    if not drift <= TOLERANCE:
        raise BundleError(
            f"{what}: the export answers otherwise than the bundle, by {drift:.2g} on its "
            f"reference images (at most {TOLERANCE:g}); nothing was written, please report it"
        )


def linear_heads(bundle: Bundle) -> tuple[LayeredHead, ...]:
    """Return the heads as layers of numbers.

    Raises
    ------
    BundleError
        A head is no stack of layers: nearest neighbours, for example.
    """
    found = []
    for head in bundle.heads:
        if not isinstance(head, LayeredHead):
            raise BundleError(
                f"a {bundle.about.head} head is no stack of layers and cannot be exported; fit a "
                "linear one with `probe head`"
            )
        found.append(head)
    return tuple(found)


def free(out: Path, *others: Path) -> None:
    """Refuse to write over anything."""
    for path in (out, *others):
        if path.exists():
            raise UsageError(f"{path}: is there already; name another place")


def about_json(bundle: Bundle) -> dict[str, Any]:
    """Return what somebody who has the export alone needs to know."""
    about = bundle.about
    return {
        "classes": list(about.classes),
        "preprocess": dict(about.preprocess),
        "input": f"uint8 RGB, (N, {bundle.preprocess.size}, {bundle.preprocess.size}, 3), resized "
        f"and cropped: {bundle.preprocess.describe()}",
        "weights": about.weights,
        "licence": about.licence,
        "dataset": about.dataset,
    }
