"""Test-time augmentation: views of an image, and how predictions are combined.

    none     the plain image
    flip     plain; mirrored left to right
    crops5   plain; four corners of the image with a margin
    crops10  the same five, and each of them mirrored
    scales   plain; the central 7/8 and 3/4 of the sides, enlarged to the input size

In a list, as ``flip,scales``, views are put together, and flip mirrors each of the others; so
``flip,crops5`` is crops10.

The first view is always the plain one. `flip` and `crops5` are also views of `probe extract
--views`, so that the cache may have their features.

References
----------
Krizhevsky, Sutskever, Hinton, NIPS 2012: ten crops. Simonyan, Zisserman, arXiv:1409.1556, 3.2:
scale jittering at test time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from probe.core.options import words
from probe.errors import UsageError
from probe.evaluation.logits import softmax
from probe.evaluation.multilabel import HALF
from probe.evaluation.task import MULTI_LABEL
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image
from probe.preprocess.views import image_views

TTA = {"none": 1, "flip": 2, "crops5": 5, "crops10": 10, "scales": 3}
CACHED = ("none", "flip", "crops5")  # views whose features the cache may have
COMBINATIONS = ("probabilities", "logits", "vote")
ZOOMS = (7 / 8, 3 / 4)


def read_tta(text: str) -> str:
    """Return what `--tta` asks for in its shortest form, the same for the same views.

    Raises
    ------
    UsageError
        It is neither a name in `TTA` nor a list of them without none.
    """
    names = set(words(text))
    if not names or not names <= {*TTA} or ("none" in names and len(names) > 1):
        raise UsageError(f"--tta {text}: expected {', '.join(TTA)}, or a list as flip,scales")
    if {"flip", "crops5"} <= names:
        names |= {"crops10"}
    if "crops10" in names:
        names -= {"flip", "crops5"}
    return ",".join(name for name in TTA if name in names)


def tta_count(tta: str) -> int:
    """Return the number of views of each image; see `read_tta`."""
    if tta in TTA:
        return TTA[tta]
    flip, crops, scales = _parts(tta)
    return (1 + flip) * (1 + 4 * crops + len(ZOOMS) * scales)


def augmented(image: UInt8Image, spec: PreprocessSpec, tta: str) -> list[UInt8Image]:
    """Return the views of an image at the network's input size, the plain one first.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB
    tta : str
        As `read_tta` returns it.
    """
    flip, crops, scales = _parts(tta)
    found = image_views(image, spec, "crops5" if crops else "none")
    if scales:
        found += [_zoomed(image, spec, keep) for keep in ZOOMS]
    return found + [np.ascontiguousarray(one[:, ::-1]) for one in found if flip]


def _parts(tta: str) -> tuple[bool, bool, bool]:
    """Return whether images are mirrored, their corners taken, and their centre enlarged."""
    names = words(tta)
    both = "crops10" in names
    return both or "flip" in names, both or "crops5" in names, "scales" in names


def _zoomed(image: UInt8Image, spec: PreprocessSpec, keep: float) -> UInt8Image:
    """Return the plain view of the image's centre, `keep` of each side."""
    height, width = (max(round(side * keep), 1) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return resize_image(np.ascontiguousarray(image[top : top + height, left : left + width]), spec)


def combine_labels(
    every: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    weights: NDArray[np.float64],
    how: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Combine multi-label predictions of several views or models, and their thresholds.

    Parameters
    ----------
    every : float64, (m, n, n_classes)
        Probabilities.
    thresholds : float64, (m, n_classes)
    weights : float64, (m,)
        At least 0, not all 0.
    how : {"probabilities", "logits", "vote"}
        The mean; the sigmoid of the mean log odds; or the share of the weight that predicts the
        label, with a threshold of 0.5. Thresholds are combined like probabilities.

    Returns
    -------
    probabilities : float64, (n, n_classes)
    thresholds : float64, (n_classes,)
    """
    share = weights / weights.sum()
    if how == "vote":
        votes = _mean((every >= thresholds[:, None]).astype(np.float64), share)
        # breaks ties, and is too small to outvote anything
        return np.minimum(votes + 1e-6 * _mean(every, share), 1), np.full(every.shape[2], HALF)
    both = np.concatenate([every, thresholds[:, None]], axis=1)
    found = _mean(both, share) if how == "probabilities" else _odds(both, share)
    return found[:-1], found[-1]


def _odds(every: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = np.einsum("m,mnc->nc", weights, MULTI_LABEL.scores_of(every))
    found: NDArray[np.float64] = MULTI_LABEL.probabilities(scores)
    return found


def combine(
    every: NDArray[np.float64], weights: NDArray[np.float64], how: str
) -> NDArray[np.float64]:
    """Combine single-label predictions of several views or models.

    Parameters
    ----------
    every : float64, (m, n, n_classes)
        Probabilities; rows sum to 1.
    weights : float64, (m,)
        At least 0, not all 0.
    how : {"probabilities", "logits", "vote"}
        The mean; the softmax of the mean logarithm (a product of experts); or the share of the
        weight whose most probable class it is, with ties broken by the mean.

    Returns
    -------
    float64, (n, n_classes)
        Rows sum to 1.
    """
    return _COMBINE[how](every, weights / weights.sum())


def _mean(every: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.einsum("m,mnc->nc", weights, every)
    return mean


def _logits(every: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.einsum("m,mnc->nc", weights, np.log(np.maximum(every, np.finfo(np.float64).tiny)))
    return softmax(logs)


def _vote(every: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    votes = np.zeros(every.shape[1:])
    rows = np.arange(every.shape[1])
    for one, weight in zip(every, weights, strict=True):
        votes[rows, one.argmax(axis=1)] += weight
    # breaks ties, and is too small to outvote anything
    return (votes + 1e-6 * _mean(every, weights)) / (1 + 1e-6)


_COMBINE: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "probabilities": _mean,
    "logits": _logits,
    "vote": _vote,
}
