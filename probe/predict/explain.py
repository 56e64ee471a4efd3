"""Explain a prediction: a heatmap over the image, and the nearest training images.

Heatmaps are class activation maps, or occlusion maps: a grey patch hides one place after another.

References
----------
Zeiler, Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
"""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probe.backbones.spec import Layer
from probe.bundle import Bundle, Neighbours
from probe.bundle.neighbours import unit
from probe.cache.store import Store
from probe.datasets import Dataset
from probe.datasets.classes import has_labels
from probe.engines import forward
from probe.errors import UsageError
from probe.evaluation.task import task_of
from probe.heads import LayeredHead
from probe.predict.explanation import Explanation, MapKind, Neighbour
from probe.predict.predictor import CachedFeatures, Predictor
from probe.predict.stream import prediction_of
from probe.preprocess.resize import Window, resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

MAPS = ("auto", "cam", "occlusion", "none")
LEAST_CAM = 4  # cells per side; a coarser map shows less than occlusion does


class TrainingImages:
    """The training images of a dataset whose features are in the cache, to find neighbours in.

    Raises
    ------
    UsageError
        The dataset has no training split, or none of its features are in the cache.
    """

    def __init__(self, bundle: Bundle, dataset: Dataset, store: Store) -> None:
        if "train" not in dataset.splits:
            raise UsageError(f"{dataset.name}: has no train split to find neighbours in")
        split = dataset.splits["train"]
        recall = CachedFeatures(bundle, store)
        contents = [row.tobytes() for row in split.images.content()]
        rows = [row for row, content in enumerate(contents) if content in recall]
        if not rows:
            raise UsageError(
                f"{dataset.name}: the cache has no features of it from this network; "
                "`probe extract` makes them, or leave --dataset out"
            )
        features = recall.rows([contents[row] for row in rows])
        self._split, self._rows, self._classes = split, rows, dataset.classes
        self._neighbours = Neighbours(
            features=unit(features[:, 0]).astype(np.float16),
            labels=task_of(split.labels).stored(split.labels[rows]),
        )

    def nearest(self, features: NDArray[np.float32], k: int) -> tuple[Neighbour, ...]:
        """Return the k nearest training images of one image, (1, n_features)."""
        distances, found = self._neighbours.nearest(features, k)
        rows = [self._rows[one] for one in found[0]]
        return tuple(
            Neighbour(
                label=self._label(row),
                distance=float(distance),
                id=self._split.ids[row],
                picture=self._split.images.image(row),
            )
            for row, distance in zip(rows, distances[0], strict=True)
        )

    def _label(self, row: int) -> str:
        if not has_labels(self._classes):
            return ""
        return task_of(self._split.labels).text(self._split.labels[row], self._classes)


def nearest_remembered(
    bundle: Bundle, features: NDArray[np.float32], k: int
) -> tuple[Neighbour, ...]:
    """Return the nearest of the training images that the bundle keeps, if it keeps any.

    Parameters
    ----------
    features : float32, (1, n_features)
    """
    known = bundle.neighbours
    if known is None:
        return ()
    distances, rows = known.nearest(features, k)
    return tuple(
        Neighbour(
            label=bundle.about.task.text(known.labels[row], bundle.about.classes),
            distance=float(distance),
            id=known.ids[row] if known.ids else None,
            picture=_picture(known.pictures[row]) if known.pictures else None,
        )
        for row, distance in zip(rows[0].tolist(), distances[0], strict=True)
    )


def explain(
    bundle: Bundle,
    image: NDArray[np.uint8],
    *,
    name: str = "image",
    label: str | None = None,
    wanted: str = "auto",
    k: int = 8,
    training: TrainingImages | None = None,
) -> Explanation:
    """Explain the prediction of one image.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB
    label : str, optional
        The class to explain. Default: the most probable one.
    wanted : {"auto", "cam", "occlusion", "none"}
        ``cam`` is exact and needs a linear head on one network's average-pooled map; ``auto``
        takes it if it has at least 4 x 4 cells, else occlusion.
    k : int
        Number of neighbours.
    training : TrainingImages, optional
        Where to find them; by default among the images that the bundle keeps.

    Raises
    ------
    UsageError
        The class is unknown, or there is no class-activation map for this network and head.

    References
    ----------
    Zhou et al., "Learning deep features for discriminative localization", arXiv:1512.04150: class
    activation maps. Zeiler, Fergus, arXiv:1311.2901: occlusion.
    """
    if wanted not in MAPS:
        raise UsageError(f"--heatmap {wanted}: expected {', '.join(MAPS)}")
    features = bundle.features(bundle.pack(image)[None])
    predictor = Predictor([bundle])
    prediction = prediction_of(
        name, predictor.answer([features[:, None]]), 0, bundle.about.classes, 5
    )
    chosen = label if label is not None else prediction.labels[0]
    if chosen not in bundle.about.classes:
        raise UsageError(f"--label {chosen}: the bundle has no such class")
    number = bundle.about.classes.index(chosen)
    kind, heat = _map(bundle, image, number, wanted)
    near = training.nearest(features, k) if training else nearest_remembered(bundle, features, k)
    seen = resize_image(image, widest_input(bundle, image))
    return Explanation(
        image=seen,
        prediction=prediction,
        label=chosen,
        kind=kind,
        heat=heat,
        neighbours=near,
        classes=bundle.about.classes,
    )


def _map(
    bundle: Bundle, image: UInt8Image, number: int, wanted: str
) -> tuple[MapKind | None, NDArray[np.float64] | None]:
    if wanted == "none":
        return None, None
    if wanted in ("auto", "cam"):
        reason = _why_no_cam(bundle)
        if reason is None:
            heat = activation_map(bundle, bundle.networks[0].resized(image), number)
            if wanted == "cam" or min(heat.shape) >= LEAST_CAM:
                return "cam", heat
        elif wanted == "cam":
            raise UsageError(f"--heatmap cam: {reason}; take --heatmap occlusion")
    return "occlusion", occlusion_map(bundle, image, number)


def _why_no_cam(bundle: Bundle) -> str | None:
    if len(bundle.networks) > 1:
        return "the answer comes from several networks"
    layer, pool = bundle.networks[0].cut
    if bundle.networks[0].about.own_top or not (
        layer.kind == "gap" or (layer.kind == "map" and pool == "avg")
    ):
        return "the features are no averages of a map"
    linear = all(isinstance(h, LayeredHead) and len(h.layers()) == 1 for h in bundle.heads)
    return None if linear else "the head is not linear"


def activation_map(bundle: Bundle, seen: UInt8Image, number: int) -> NDArray[np.float64]:
    """Return the class activation map: what each place of the last map adds to a score, (h, w).

    With features f_d = mean over places of the map m_d, and a head that scores
    sum_d w_cd (f_d - mean_d) / scale_d + b_c, place p adds sum_d (w_cd - mean_c w_cd) m_d(p) /
    scale_d; what it adds to all classes alike is subtracted, since the softmax ignores it. For
    multi-label heads nothing is subtracted. A PCA before the head is linear, too, and part of w.
    """
    (network,) = bundle.networks
    layer, _ = network.cut
    whole: Layer = replace(layer, kind="map")
    (maps,) = forward(
        network.spec, bundle.parameters(), [(whole, "none")], network.preprocess, seen[None]
    )
    cells = maps[0].astype(np.float64)  # (D, h, w)
    total = np.zeros(cells.shape[1:])
    for head in bundle.heads:
        assert isinstance(head, LayeredHead)
        labels = head.classes_.astype(np.intp).tolist()
        if number not in labels:
            continue
        ((coef, _),) = head.layers()
        alike = coef.mean(axis=0) if head.task_.exclusive else 0.0
        weights = coef[labels.index(number)].astype(np.float64) - alike
        if head.normalizer_.kind == "standard":
            weights = weights / head.normalizer_.scale
        elif head.normalizer_.kind == "l2":
            norm = np.linalg.norm(bundle.joined([cells.mean(axis=(1, 2))[None]]))
            weights = weights / (norm if norm else 1.0)
        if bundle.projection is not None:
            weights = bundle.projection.basis @ weights
        total += np.einsum("d,dhw->hw", weights, cells)
    return total / len(bundle.heads)


def _picture(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


GRID = 11  # positions of the patch on a side
PATCH = 0.2  # of the image's side


def widest_input(bundle: Bundle, image: UInt8Image) -> PreprocessSpec:
    """Return the input that shows most of an image; ties go to the most pixels."""
    windows = {spec: Window.of(spec, image) for spec in bundle.inputs}
    return max(windows, key=lambda spec: (windows[spec].height * windows[spec].width, spec.size))


def occlusion_map(bundle: Bundle, image: UInt8Image, number: int) -> NDArray[np.float64]:
    """Return how much the log-probability of a class falls when a patch hides a place.

    The patch hides the same place from all networks.

    Returns
    -------
    float64, (h, w)
        Over the input of `widest_input`.
    """
    widest = widest_input(bundle, image)
    side, window = widest.size, Window.of(widest, image)
    patch = max(round(PATCH * side), 1)
    count = min(GRID, side - patch + 1)
    starts = np.unique(np.linspace(0, side - patch, count).round())
    corners = np.array([(top, left) for top in starts for left in starts])
    first = np.array([window.top, window.left])
    step = np.array([window.height, window.width]) / side  # pixels of the image in one of the input
    boxes = np.stack([first + corners * step, first + (corners + patch) * step], axis=1)
    packed = bundle.pack_views(partial(hidden_views, image, boxes))
    probabilities = bundle.probabilities(bundle.features(packed))[:, number]
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    fall: NDArray[np.float64] = (logs[-1] - logs[:-1]).reshape(len(starts), len(starts))
    return fall


def hidden_views(
    image: UInt8Image, boxes: NDArray[np.float64], spec: PreprocessSpec
) -> list[UInt8Image]:
    """Return n copies of an input, each with one box grey, and then the input itself, (S, S, 3).

    Parameters
    ----------
    boxes : float64, (n, 2, 2)
        (top, left) and (bottom, right), in the image's pixels.
    """
    seen, window = resize_image(image, spec), Window.of(spec, image)
    grey = seen.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    copies = np.repeat(seen[None], len(boxes) + 1, axis=0)
    first, size = [window.top, window.left], [window.height, window.width]
    cells = ((boxes - first) * spec.size / size).round().clip(0, spec.size).astype(int)
    for copy, ((top, left), (bottom, right)) in zip(copies, cells.tolist(), strict=False):
        copy[top:bottom, left:right] = grey
    return list(copies)
