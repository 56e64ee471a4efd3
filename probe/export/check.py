"""What all exports share: the reference rows they must reproduce, and their metadata."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle
from probe.bundle.write import reference_images
from probe.core.short_repr import short_repr
from probe.errors import BundleError, UsageError
from probe.heads import LayeredHead

TOLERANCE = 1e-4  # of a probability, and of a feature row's norm


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRows:
    """Synthetic images and the bundle's features and probabilities of them.

    Parameters
    ----------
    images : mapping of input name to uint8, (n, S, S, 3)
    network_features : sequence of float32, (n, d)
        Features of each network.
    features : float32, (n, n_features)
        As the head takes them.
    norms : float64, (n,)
        Norms of the features; with a PCA, before its mean is subtracted.
    probabilities : float64, (n, n_classes)
    """

    __repr__ = short_repr

    images: dict[str, NDArray[np.uint8]]
    network_features: list[NDArray[np.float32]]
    features: NDArray[np.float32]
    norms: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def reference_rows(bundle: Bundle) -> ReferenceRows:
    """Return the rows that an export has to reproduce."""
    packed = reference_images(bundle)
    every = bundle.network_features(packed)
    features = bundle.joined(every)
    whole = features.astype(np.float64)
    if bundle.projection is not None:  # rounding is measured against rows with their mean
        whole += bundle.projection.mean @ bundle.projection.basis
    return ReferenceRows(
        images=dict(zip(input_names(bundle), bundle.unpack(packed), strict=True)),
        network_features=every,
        features=features,
        norms=np.linalg.norm(whole, axis=1),
        probabilities=bundle.probabilities(features),
    )


def input_names(bundle: Bundle) -> list[str]:
    """Return the names of an export's inputs: `data`, or if there are several their backbones."""
    if len(bundle.inputs) == 1:
        return ["data"]
    names = []
    for number, spec in enumerate(bundle.inputs):
        fed = zip(bundle.networks, bundle.fed_by, strict=True)
        own = dict.fromkeys(one.about.backbone for one, way in fed if way == number)
        names.append("_".join([*own, str(spec.size)]))
    if len(set(names)) < len(names):  # one size, resized in two ways
        names = [f"{name}_{number}" for number, name in enumerate(names, start=1)]
    return names


def require_same(
    what: str, rows: ReferenceRows, probabilities: NDArray[Any], features: NDArray[Any] | None
) -> None:
    """Raise unless an export gives what the bundle gives.

    Raises
    ------
    BundleError
        The message has the difference; no file is left.
    """
    drift = float(np.abs(probabilities - rows.probabilities).max())
    if features is not None:
        off = np.linalg.norm(features.reshape(len(rows.features), -1) - rows.features, axis=1)
        drift = max(drift, float((off / rows.norms).max()))
    if not drift <= TOLERANCE:
        raise BundleError(
            f"{what}: the export differs from the bundle by {drift:.2g} on its "
            f"reference images (at most {TOLERANCE:g}); nothing was written, please report it"
        )


def linear_heads(bundle: Bundle) -> tuple[LayeredHead, ...]:
    """Return the heads as layers of numbers.

    Raises
    ------
    BundleError
        A head has no layers, as nearest neighbours, or is an ensemble, whose temperature holds for
        the mean of its members.
    """
    found = []
    for head in bundle.heads:
        members = getattr(head, "members_", ())
        if members and all(hasattr(one, "layers") for one in members):
            raise BundleError(
                f"an ensemble of {len(members)} {bundle.about.head} heads cannot be exported; "
                "`probe bundle RUN --fold-heads` makes a bundle of its heads, which onnx and "
                "mxnet take"
            )
        if not isinstance(head, LayeredHead):
            raise BundleError(
                f"a {bundle.about.head} head is no stack of layers and cannot be exported; fit a "
                "linear one with `probe head`"
            )
        found.append(head)
    return tuple(found)


def require_free(out: Path, *others: Path) -> None:
    """Raise UsageError if a path exists."""
    for path in (out, *others):
        if os.path.lexists(path):
            raise UsageError(f"{path}: is there already; name another place")


def about_json(bundle: Bundle) -> dict[str, Any]:
    """Return the metadata of an export: classes, thresholds, inputs, networks, licence."""
    about, names = bundle.about, input_names(bundle)
    networks = [
        {
            "input": names[number],
            "backbone": one.backbone,
            "layer": one.layer,
            "pool": one.pool,
            "preprocess": dict(one.preprocess),
            "weights": one.weights,
            "licence": one.licence,
        }
        for one, number in zip(about.networks, bundle.fed_by, strict=True)
    ]
    inputs = {
        name: f"uint8 RGB, (N, {spec.size}, {spec.size}, 3): {spec.describe_resizing()}"
        for name, spec in zip(names, bundle.inputs, strict=True)
    }
    return {
        "classes": list(about.classes),
        "several": about.several,
        **({} if about.task.exclusive else {"thresholds": bundle.thresholds.tolist()}),
        **({"threshold": about.threshold.to_dict()} if about.threshold is not None else {}),
        "inputs": inputs,
        "networks": networks,
        "licence": about.licence,
        "dataset": about.dataset,
    }
