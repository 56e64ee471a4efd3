"""One or several bundles that answer as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle, Verdicts
from probe.cache.key import FeatureKey, preprocess_identity
from probe.cache.store import Store
from probe.errors import UsageError
from probe.predict.augment import CACHED, COMBINATIONS, TTA, augmented, combine
from probe.recall import Recall

log = logging.getLogger(__name__)

Features = list[NDArray[np.float32]]  # one array a bundle, (n, views, n_features)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What is said of some images.

    Parameters
    ----------
    probabilities : float64, (n, n_classes)
    verdicts : Verdicts
        Of the plain view; of several bundles what more than half of their weight say.
    """

    probabilities: NDArray[np.float64]
    verdicts: Verdicts


class Predictor:
    """Bundles, the views of an image that each is shown, and one answer from all of them.

    Parameters
    ----------
    bundles : sequence of Bundle
        Of the same classes, in any order; the first one's order is the answer's.
    tta : str
        A name in `TTA`.
    combination : str
        One of `COMBINATIONS`.
    equal : bool
        Weigh several bundles alike; else by their accuracy on validation rows, where all have one.
    store : Store, optional
        A cache whose features are taken instead of a forward pass.

    Raises
    ------
    UsageError
        A word is unknown, or the bundles have other classes.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        *,
        tta: str = "none",
        combination: str = "probabilities",
        equal: bool = False,
        store: Store | None = None,
    ) -> None:
        check_words(tta, combination)
        self.bundles, self.tta, self.combination = tuple(bundles), tta, combination
        self.classes = bundles[0].about.classes
        self._columns = [_columns(self.classes, bundle) for bundle in bundles]
        self.weights = np.ones(len(bundles)) if equal else validation_weights(bundles)
        self._recalls = _recalls(bundles, tta, store) if store is not None else []
        self._sides = [bundle.preprocess.size for bundle in bundles]

    @property
    def batch_size(self) -> int:
        """Images at a time."""
        return max(self.bundles[0].engine.batch_size // TTA[self.tta], 1)

    @property
    def pixels(self) -> int:
        """How many numbers `pack` returns."""
        return sum(TTA[self.tta] * 3 * side * side for side in self._sides)

    @property
    def remembers(self) -> bool:
        """Whether some features are at hand."""
        return bool(self._recalls) and all(map(len, self._recalls))

    def knows(self, content: bytes) -> bool:
        """Whether the features of an image are at hand for every bundle."""
        return self.remembers and all(content in recall for recall in self._recalls)

    def pack(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return all views of an image for all bundles, one after the other, (pixels,)."""
        views = [augmented(image, bundle.preprocess, self.tta) for bundle in self.bundles]
        return np.concatenate([one.reshape(-1) for each in views for one in each])

    def features(self, packed: NDArray[np.uint8], contents: Sequence[bytes | None]) -> Features:
        """Return each bundle's features of images.

        Parameters
        ----------
        packed : uint8, (n, pixels)
            What `pack` gave; anything where the content is known.
        contents : sequence of bytes or None, (n,)
            Content hashes of the images whose features are at hand, else None.

        Returns
        -------
        list of float32, (n, views, n_features)
        """
        fresh = np.array([row for row, one in enumerate(contents) if one is None], np.intp)
        found: Features = []
        start = 0
        for number, (bundle, side) in enumerate(zip(self.bundles, self._sides, strict=True)):
            views = TTA[self.tta]
            size = views * 3 * side * side
            rows = None
            if len(fresh):
                images = packed[fresh, start : start + size].reshape(-1, side, side, 3)
                rows = bundle.features(images).reshape(len(fresh), views, -1)
            found.append(self._with_known(number, contents, fresh, rows))
            start += size
        return found

    def _with_known(
        self,
        number: int,
        contents: Sequence[bytes | None],
        fresh: NDArray[np.intp],
        rows: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        if rows is not None and len(fresh) == len(contents):
            return rows
        known = [one for one in contents if one is not None]
        recalled = self._recalls[number].rows(known).reshape(len(known), TTA[self.tta], -1)
        every = np.empty((len(contents), *recalled.shape[1:]), np.float32)
        every[np.setdiff1d(np.arange(len(contents)), fresh)] = recalled
        if rows is not None:
            every[fresh] = rows
        return every

    def answer(self, features: Features) -> Answers:
        """Return one answer for each image from the features of all bundles and views."""
        views = TTA[self.tta]
        every, weights, verdicts = [], [], []
        for bundle, columns, weight, rows in zip(
            self.bundles, self._columns, self.weights, features, strict=True
        ):
            each = bundle.probabilities(rows.reshape(-1, rows.shape[-1]))
            each = each.reshape(len(rows), views, -1)
            verdicts.append(bundle.verdicts(rows[:, 0], each[:, 0]))
            every += [each[:, view][:, columns] for view in range(views)]
            weights += [weight / views] * views
        stacked = np.stack(every)
        found = (
            stacked[0]
            if len(stacked) == 1
            else combine(stacked, np.array(weights), self.combination)
        )
        return Answers(probabilities=found, verdicts=self._majority(verdicts))

    def answer_images(self, images: Sequence[NDArray[np.uint8]]) -> Answers:
        """Answer decoded images, uint8 (height, width, 3) each."""
        packed = np.stack([self.pack(image) for image in images])
        return self.answer(self.features(packed, [None] * len(images)))

    def _majority(self, verdicts: list[Verdicts]) -> Verdicts:
        if len(verdicts) == 1:
            return verdicts[0]
        half = self.weights.sum() / 2
        unsure = np.einsum("m,mn->n", self.weights, [one.unsure for one in verdicts]) > half
        stranger = np.einsum("m,mn->n", self.weights, [one.stranger for one in verdicts]) > half
        return Verdicts(unsure=unsure, stranger=stranger, distances=None)


def check_words(tta: str, combination: str) -> None:
    """Raise UsageError unless both are known; a command asks before it loads anything."""
    if tta not in TTA:
        raise UsageError(f"--tta {tta}: expected {', '.join(TTA)}")
    if combination not in COMBINATIONS:
        raise UsageError(f"--combine {combination}: expected {', '.join(COMBINATIONS)}")


def validation_weights(bundles: Sequence[Bundle]) -> NDArray[np.float64]:
    """Return each bundle's accuracy on its validation rows; ones where one of them has none."""
    found: list[Any] = [bundle.about.metrics.get("val", {}).get("top1") for bundle in bundles]
    if any(one is None for one in found) or not sum(found):
        if len(bundles) > 1:
            log.warning("not all bundles were validated: they are weighed alike")
        return np.ones(len(bundles))
    return np.array(found, np.float64)


def recipe_of(bundle: Bundle, views: str) -> FeatureKey:
    """Return the key, without rows, of entries that hold this bundle's features."""
    about = bundle.about
    return FeatureKey(
        backbone=about.backbone,
        layer=about.layer,
        pool=about.pool,
        parameters=about.parameters,
        preprocess=preprocess_identity(bundle.preprocess),
        rows=(),
        views=views,
    )


def _recalls(bundles: Sequence[Bundle], tta: str, store: Store) -> list[Recall]:
    if tta not in CACHED:
        return []
    return [Recall([store], recipe_of(bundle, tta)) for bundle in bundles]


def _columns(classes: tuple[str, ...], bundle: Bundle) -> NDArray[np.intp]:
    """Return where each class is among the bundle's."""
    place = {name: number for number, name in enumerate(bundle.about.classes)}
    if set(place) != set(classes):
        odd = sorted(set(place) ^ set(classes))
        raise UsageError(
            f"the bundles answer in other classes: only one of them has {odd[0]!r} "
            f"({len(odd)} differ); an ensemble needs the same ones"
        )
    return np.array([place[name] for name in classes], np.intp)
