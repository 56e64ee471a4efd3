"""Whether the parts of a bundle go together, and give what they gave when it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import BundleError

if TYPE_CHECKING:
    from probe.bundle.bundle import Bundle

FEATURE_TOLERANCE = 1e-4  # of a row's norm: the contract between engines
PROBABILITY_TOLERANCE = 1e-3


def check_reference(bundle: Bundle, known: Mapping[str, NDArray[Any]], where: str) -> None:
    """Raise BundleError unless the reference images give what they gave.

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
    _check_widths(bundle, sum(widths), where)
    wanted = np.split(features, np.cumsum(widths)[:-1], axis=1)
    for network, found, expected in zip(bundle.networks, every, wanted, strict=True):
        norms = np.linalg.norm(expected, axis=1)
        worst = float((np.linalg.norm(found - expected, axis=1) / norms).max())
        if not worst <= FEATURE_TOLERANCE:
            raise BundleError(
                f"{where}: its reference images give other features of {network.about.backbone} "
                f"here, by {worst:.2g} of their norm (at most {FEATURE_TOLERANCE:g}); "
                "`probe doctor` shows the versions at work"
            )
    probabilities = bundle.probabilities(bundle.joined(every))
    drift = float(np.abs(probabilities - known["probabilities"]).max())
    if not drift <= PROBABILITY_TOLERANCE:
        raise BundleError(
            f"{where}: its head gives other probabilities than it did, by {drift:.2g}; "
            "it is not the head that was bundled"
        )


def _check_widths(bundle: Bundle, width: int, where: str) -> None:
    """Raise BundleError unless each part takes as many features as the one before it gives."""
    if bundle.projection is not None:
        if bundle.projection.n_features != width:
            raise BundleError(
                f"{where}: the PCA takes {bundle.projection.n_features} features, the networks "
                f"give {width}"
            )
        width = bundle.projection.width
    for head in bundle.heads:
        if head.n_features_in_ != width:
            raise BundleError(
                f"{where}: the head takes {head.n_features_in_} features, the network gives {width}"
            )
    if bundle.neighbours is not None and bundle.neighbours.features.shape[1] != width:
        raise BundleError(f"{where}: its neighbours have other features than the network gives")
