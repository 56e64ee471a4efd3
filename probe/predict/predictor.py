"""Predict with one bundle or an ensemble of several, with test-time augmentation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle, Network, Verdicts
from probe.cache.key import FeatureKey, preprocess_identity
from probe.cache.store import Store
from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.task import Task
from probe.evaluation.two_classes import Threshold, answers_of
from probe.extraction.cached_rows import CachedRows
from probe.predict.augment import (
    CACHED,
    COMBINATIONS,
    augmented,
    combine,
    combine_labels,
    read_tta,
    tta_count,
)
from probe.preprocess.views import view_count

log = logging.getLogger(__name__)

Features = list[NDArray[np.float32]]  # an array for each bundle, (n, views, n_features)


class CachedFeatures:
    """A bundle's features in the cache by content hash, if all its networks have the image.

    Parameters
    ----------
    views : str
        A name in `probe.preprocess.views.VIEWS`.
    """

    def __init__(self, bundle: Bundle, store: Store, views: str = "none") -> None:
        self._bundle, self._views = bundle, view_count(views)
        self._rows = [CachedRows([store], recipe_of(one, views)) for one in bundle.networks]

    def __len__(self) -> int:
        return min(map(len, self._rows))

    def __contains__(self, content: bytes) -> bool:
        return all(content in rows for rows in self._rows)

    def rows(self, contents: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features of images that are all in the cache, (n, views, n_features).

        Raises
        ------
        CorruptEntryError
            A row does not match its checksum.
        """
        each = [rows.rows(list(contents)) for rows in self._rows]
        flat = [rows.reshape(len(contents) * self._views, -1) for rows in each]
        return self._bundle.joined(flat).reshape(len(contents), self._views, -1)


def recipe_of(network: Network, views: str) -> FeatureKey:
    """Return the key, without rows, of entries with a network's features."""
    about = network.about
    return FeatureKey(
        backbone=about.backbone,
        layer=about.layer,
        pool=about.pool,
        parameters=about.parameters,
        preprocess=preprocess_identity(network.preprocess),
        rows=(),
        views=views,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Predictions of some images.

    Parameters
    ----------
    probabilities : float64, (n, n_classes)
    verdicts : Verdicts
        Flags of the plain view; of several bundles those that more than half of the weight sets.
    winners : intp, (n,)
        Index of each image's class: the most probable, or that of the bundle's threshold.
    thresholds : float64, (n_classes,), optional
        Multi-label only: lowest probability at which each label is predicted.
    """

    __repr__ = short_repr

    probabilities: NDArray[np.float64]
    verdicts: Verdicts
    winners: NDArray[np.intp]
    thresholds: NDArray[np.float64] | None = None


class Predictor:
    """Combines the predictions of bundles and of views of an image.

    Parameters
    ----------
    bundles : sequence of Bundle
        Bundles with the same classes; their order is that of the first bundle.
    tta : str
        See `probe.predict.augment.read_tta`.
    combination : str
        One of `COMBINATIONS`.
    equal : bool
        Give several bundles equal weights; else their accuracy (multi-label: mAP) on validation
        rows, if all have one.
    store : Store, optional
        A cache whose features replace a forward pass.

    Raises
    ------
    UsageError
        A name is unknown, or the bundles differ in classes or in being multi-label.
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
        self.bundles, self.tta, self.combination = tuple(bundles), read_tta(tta), combination
        self._views = tta_count(self.tta)
        self.classes = bundles[0].about.classes
        if len({bundle.about.task for bundle in bundles}) > 1:
            raise UsageError(
                "one of the bundles gives one label an image, another several: they cannot answer "
                "together"
            )
        self.threshold = _threshold(bundles, combination)
        self._columns = [_columns(self.classes, bundle) for bundle in bundles]
        self.weights = np.ones(len(bundles)) if equal else validation_weights(bundles)
        self._cached: list[CachedFeatures] = []
        if store is not None and self.tta in CACHED:
            self._cached = [CachedFeatures(bundle, store, self.tta) for bundle in bundles]

    @property
    def task(self) -> Task:
        """Whether an image has one label or may have several."""
        return self.bundles[0].about.task

    @property
    def batch_size(self) -> int:
        """Images at a time: as many as fill a batch on every device of a network, at most."""
        engines = [one.engine for bundle in self.bundles for one in bundle.networks]
        return max(max(one.batch_size * one.devices for one in engines) // self._views, 1)

    @property
    def pixels(self) -> int:
        """The length of what `pack` returns."""
        return sum(self._views * bundle.pixels for bundle in self.bundles)

    @property
    def has_cached_features(self) -> bool:
        """Whether the cache has features for all bundles."""
        return bool(self._cached) and all(map(len, self._cached))

    def is_cached(self, content: bytes) -> bool:
        """Whether the cache has the features of an image for all bundles."""
        return self.has_cached_features and all(content in cached for cached in self._cached)

    def pack(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels of all views of an image for all bundles, (pixels,)."""
        views = partial(augmented, image, tta=self.tta)
        return np.concatenate([one.pack_views(views).reshape(-1) for one in self.bundles])

    def features(self, packed: NDArray[np.uint8], contents: Sequence[bytes | None]) -> Features:
        """Return each bundle's features of images.

        Parameters
        ----------
        packed : uint8, (n, pixels)
            Rows of `pack`; ignored where the cache has the features.
        contents : sequence of bytes or None, (n,)
            Content hashes of the images whose features are in the cache, else None.

        Returns
        -------
        list of float32, (n, views, n_features)
        """
        fresh = np.array([row for row, one in enumerate(contents) if one is None], np.intp)
        found: Features = []
        start, views = 0, self._views
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
        recalled = self._cached[number].rows(known)
        every = np.empty((len(contents), *recalled.shape[1:]), np.float32)
        every[np.setdiff1d(np.arange(len(contents)), fresh)] = recalled
        if rows is not None:
            every[fresh] = rows
        return every

    def answer(self, features: Features) -> Answers:
        """Return the predictions of images from the features of all bundles and views."""
        views = self._views
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
        """Return combined probabilities and, if multi-label, thresholds."""
        if self.task.exclusive:
            alone = len(every) == 1
            return every[0] if alone else combine(every, weights, self.combination), None
        pairs = zip(self.bundles, self._columns, strict=True)
        thresholds = np.stack([bundle.thresholds[columns] for bundle, columns in pairs])
        thresholds = np.repeat(thresholds, self._views, axis=0)
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
    """Return the bundle's threshold, if any; it holds for one bundle's probabilities alone."""
    found = [one.about.threshold for one in bundles if one.about.threshold is not None]
    if found and len(bundles) > 1:
        raise UsageError(
            "a bundle with a threshold answers alone: for the mean of several another one would "
            "have to be chosen"
        )
    if found and combination == "vote":
        raise UsageError("--combine vote: the bundle's threshold is for probabilities, not votes")
    return found[0] if found else None


def check_words(tta: str, combination: str, weighting: str = "val") -> None:
    """Raise UsageError unless the names are known; commands check it before they load anything."""
    read_tta(tta)
    if combination not in COMBINATIONS:
        raise UsageError(f"--combine {combination}: expected {', '.join(COMBINATIONS)}")
    if weighting not in ("val", "equal"):
        raise UsageError(f"--weighting {weighting}: expected val or equal")


def validation_weights(bundles: Sequence[Bundle]) -> NDArray[np.float64]:
    """Return each bundle's accuracy (multi-label: mAP) on validation rows; ones if one has none."""
    metric = bundles[0].about.task.metric
    found: list[Any] = [bundle.about.metrics.get("val", {}).get(metric) for bundle in bundles]
    if any(one is None for one in found) or not sum(found):
        if len(bundles) > 1:
            log.warning("not all bundles were validated: they have equal weights")
        return np.ones(len(bundles))
    return np.array(found, np.float64)


def _columns(classes: tuple[str, ...], bundle: Bundle) -> NDArray[np.intp]:
    """Return the index of each class among the bundle's."""
    place = {name: number for number, name in enumerate(bundle.about.classes)}
    if set(place) != set(classes):
        odd = sorted(set(place) ^ set(classes))
        raise UsageError(
            f"the bundles answer in other classes: only one of them has {odd[0]!r} "
            f"({len(odd)} differ); an ensemble needs the same ones"
        )
    return np.array([place[name] for name in classes], np.intp)
