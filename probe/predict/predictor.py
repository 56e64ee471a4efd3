"""One or several bundles that answer as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle, Verdicts
from probe.cache.store import Store
from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.two_classes import Threshold, answers_of
from probe.predict.augment import (
    CACHED,
    COMBINATIONS,
    TTA,
    augmented,
    combine,
    combine_labels,
)
from probe.predict.recalled import Recalled

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
    winners : intp, (n,)
        The number of each image's class: the most probable, or by the bundle's threshold.
    thresholds : float64, (n_classes,), optional
        Where an image may have several labels: from which probability on each is given.
    """

    __repr__ = short_repr

    probabilities: NDArray[np.float64]
    verdicts: Verdicts
    winners: NDArray[np.intp]
    thresholds: NDArray[np.float64] | None = None


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
        Weigh several bundles alike; else by their accuracy (of several labels an image: mean
        average precision) on validation rows, where all have one.
    store : Store, optional
        A cache whose features are taken instead of a forward pass.

    Raises
    ------
    UsageError
        A word is unknown, or the bundles have other classes, or some give several labels.
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
        if len({bundle.about.several for bundle in bundles}) > 1:
            raise UsageError(
                "one of the bundles gives one label an image, another several: they cannot answer "
                "together"
            )
        self.threshold = _threshold(bundles, combination)
        self._columns = [_columns(self.classes, bundle) for bundle in bundles]
        self.weights = np.ones(len(bundles)) if equal else validation_weights(bundles)
        self._recalls: list[Recalled] = []
        if store is not None and tta in CACHED:
            self._recalls = [Recalled(bundle, store, tta) for bundle in bundles]

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return self.bundles[0].about.several

    @property
    def batch_size(self) -> int:
        """Images at a time: a full batch for the network that takes most at once."""
        sizes = [one.engine.batch_size for bundle in self.bundles for one in bundle.networks]
        return max(max(sizes) // TTA[self.tta], 1)

    @property
    def pixels(self) -> int:
        """How many numbers `pack` returns."""
        return sum(TTA[self.tta] * bundle.pixels for bundle in self.bundles)

    @property
    def remembers(self) -> bool:
        """Whether some features are at hand."""
        return bool(self._recalls) and all(map(len, self._recalls))

    def knows(self, content: bytes) -> bool:
        """Whether the features of an image are at hand for every bundle."""
        return self.remembers and all(content in recall for recall in self._recalls)

    def pack(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return all views of an image for all bundles, one after the other, (pixels,)."""
        views = partial(augmented, image, tta=self.tta)
        return np.concatenate([one.pack_views(views).reshape(-1) for one in self.bundles])

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
        start, views = 0, TTA[self.tta]
        for number, bundle in enumerate(self.bundles):
            size = views * bundle.pixels
            rows = None
            if len(fresh):
                own = packed[fresh, start : start + size].reshape(-1, bundle.pixels)
                rows = bundle.features(own).reshape(len(fresh), views, -1)
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
        recalled = self._recalls[number].rows(known)
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
        found, thresholds = self._combined(np.stack(every), np.array(weights))
        return Answers(
            probabilities=found, verdicts=self._majority(verdicts), thresholds=thresholds,
            winners=answers_of(found, self.classes, self.threshold),
        )  # fmt: skip

    def _combined(
        self, every: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return one answer a row and, of several labels, its thresholds."""
        if not self.several:
            alone = len(every) == 1
            return every[0] if alone else combine(every, weights, self.combination), None
        pairs = zip(self.bundles, self._columns, strict=True)
        thresholds = np.stack([bundle.thresholds[columns] for bundle, columns in pairs])
        thresholds = np.repeat(thresholds, TTA[self.tta], axis=0)
        if len(every) == 1:
            return every[0], thresholds[0]
        return combine_labels(every, thresholds, weights, self.combination)

    def answer_images(self, images: Sequence[NDArray[np.uint8]]) -> Answers:
        """Answer decoded images, uint8 (height, width, 3) each."""
        packed = np.stack([self.pack(image) for image in images])
        return self.answer(self.features(packed, [None] * len(images)))

    def _majority(self, verdicts: list[Verdicts]) -> Verdicts:
        if len(verdicts) == 1:
            return verdicts[0]
        half = self.weights.sum() / 2
        low_confidence = (
            np.einsum("m,mn->n", self.weights, [one.low_confidence for one in verdicts]) > half
        )
        out_of_distribution = (
            np.einsum("m,mn->n", self.weights, [one.out_of_distribution for one in verdicts]) > half
        )
        return Verdicts(
            low_confidence=low_confidence, out_of_distribution=out_of_distribution, distances=None
        )


def _threshold(bundles: Sequence[Bundle], combination: str) -> Threshold | None:
    """Return the threshold that answers go by; it was chosen for one bundle's probabilities."""
    found = [one.about.threshold for one in bundles if one.about.threshold is not None]
    if found and len(bundles) > 1:
        raise UsageError(
            "a bundle with a threshold answers alone: for the mean of several another one would "
            "have to be chosen"
        )
    if found and combination == "vote":
        raise UsageError("--combine vote: the bundle's threshold is for probabilities, not votes")
    return found[0] if found else None


def check_words(tta: str, combination: str) -> None:
    """Raise UsageError unless both are known; a command asks before it loads anything."""
    if tta not in TTA:
        raise UsageError(f"--tta {tta}: expected {', '.join(TTA)}")
    if combination not in COMBINATIONS:
        raise UsageError(f"--combine {combination}: expected {', '.join(COMBINATIONS)}")


def validation_weights(bundles: Sequence[Bundle]) -> NDArray[np.float64]:
    """Return each bundle's accuracy on its validation rows; ones where one of them has none.

    Of several labels an image it is the mean average precision.
    """
    metric = "map" if bundles[0].about.several else "top1"
    found: list[Any] = [bundle.about.metrics.get("val", {}).get(metric) for bundle in bundles]
    if any(one is None for one in found) or not sum(found):
        if len(bundles) > 1:
            log.warning("not all bundles were validated: they are weighed alike")
        return np.ones(len(bundles))
    return np.array(found, np.float64)


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
