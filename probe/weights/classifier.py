"""Recognise the classifier of fine-tuned weights, which may have other names and widths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from probe.backbones.spec import IMAGENET
from probe.weights.naming import Source
from probe.weights.tensors import LazyTensor, Shape

MOST_CLASSES = 1_000_000
_LEAF = re.compile(
    r"[./_](weight|bias|kernel|gamma|beta|scale|shift|num_batches_tracked"
    r"|(running|moving)_(mean|var|variance|std)|\d+)$"
)


def layer_of(tensor: str) -> str:
    """Return the layer's part of a tensor's name."""
    return _LEAF.sub("", tensor)


def head_of(
    spare: Iterable[str],
    tensors: Mapping[str, LazyTensor],
    entering: set[int],
    *,
    convolution: bool = False,
) -> tuple[str, ...]:
    """Return the spare tensors if together they are dense layers on a network's features.

    The widths of dense layers, and of norms between them, must fit: each layer takes the features
    or the output of another one. If one tensor does not fit, the tensors belong to another network
    and nothing is returned.

    Parameters
    ----------
    spare : iterable of str
        Tensors that the backbone does not use.
    entering : set of int
        Possible widths of the features that the first layer takes.
    convolution : bool
        Whether the classifier is a 1 x 1 convolution, as in SqueezeNet.
    """
    names = tuple(spare)
    matrices = [side for name in names if (side := _matrix(tensors[name].shape, convolution))]
    vectors = [tensors[name].shape for name in names if len(tensors[name].shape) < 2]
    if not matrices or len(matrices) + len(vectors) < len(names):
        return ()
    widths, left = set(entering), list(matrices)
    while reached := [pair for pair in left if widths & set(pair)]:
        widths |= {side for pair in reached for side in pair}
        left = [pair for pair in left if pair not in reached]
    fits = not left and all(not shape or shape[0] in widths for shape in vectors)
    return names if fits else ()


def renamed_tensors(
    renamed: Iterable[str], tensors: Mapping[str, LazyTensor], tops: Mapping[str, Source]
) -> dict[str, LazyTensor]:
    """Return the tensors of a single-layer classifier under the names of a naming.

    Parameters
    ----------
    renamed : iterable of str
        What `head_of` returned.
    tops : mapping of canonical name to Source
        The naming's sources of the classifier.
    """
    names = list(renamed)
    if len({layer_of(name) for name in names}) != 1 or len(names) > len(tops):
        return {}
    found = {}
    for canonical, source in tops.items():
        if len(source.names) != 1 or source.names[0] in tensors:
            return {}
        matrix = canonical.endswith("weight")
        alike = [one for one in names if (len(tensors[one].shape) > 1) == matrix]
        if len(alike) == 1:
            found[source.names[0]] = tensors[alike[0]]
    return found


def classes_in(tops: Mapping[str, Source], tensors: Mapping[str, LazyTensor]) -> int | None:
    """Return the number of classes of a file's classifier, None if it has no such classifier.

    It is the side of the weight that has 1,000 elements in ImageNet's.
    """
    for canonical, source in tops.items():
        if not canonical.endswith("weight") or len(source.names) != 1:
            continue
        if source.names[0] not in tensors:
            continue
        expected, shape = source.shapes[0], tensors[source.names[0]].shape
        if len(shape) != len(expected):
            return None
        pairs = list(zip(expected, shape, strict=True))
        found = {side for known, side in pairs if known == IMAGENET}
        alike = all(known in (side, IMAGENET) for known, side in pairs)
        if alike and len(found) == 1 and 1 <= min(found) <= MOST_CLASSES:
            return found.pop()
    return None


def _matrix(shape: Shape, convolution: bool) -> Shape | None:
    """Return the two sides of a dense layer's kernel; None for another tensor."""
    if len(shape) == 2:
        return shape
    if not convolution or len(shape) != 4:
        return None
    if shape[2:] == (1, 1):
        return shape[:2]
    return shape[2:] if shape[:2] == (1, 1) else None  # Keras's layout is (H, W, in, out)
