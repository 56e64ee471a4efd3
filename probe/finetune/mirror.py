"""Decide by the frozen probe whether training may mirror images, as letters and digits forbid.

The test sees only what the probe can tell apart: a mirror exchanges photographs rotated by 90 and
by 270 degrees, and a probe that confuses them anyway loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import Images
from probe.evaluation.task import task_of
from probe.finetune.augment import AUTO
from probe.finetune.source import Source
from probe.finetune.start import make_training
from probe.finetune.train import Training
from probe.preprocess.spec import UInt8Image

SAMPLE = 200  # validation images that are mirrored
LOST = 0.1  # loss of accuracy or mAP that counts; photographs lose a few hundredths by chance


@dataclass(frozen=True, kw_only=True)
class MirrorTest:
    """Accuracy of the frozen probe on validation images and on the same images mirrored.

    Parameters
    ----------
    plain, mirrored : float
        Top-1, or with multi-label images mAP, on the images as they are and mirrored; 0 to 1.
    """

    n: int
    plain: float
    mirrored: float

    @property
    def harmful(self) -> bool:
        """Whether mirrored images look like other classes, so that training must not mirror."""
        return self.plain - self.mirrored >= LOST


def mirror_test(source: Source, training: Training) -> MirrorTest:
    """Compare the probe's predictions of some validation images with those of their mirror images.

    Before its first step the network of a training is the probe's, except for a fresh head or one
    of zeros, in whose place the probe's head is used. For random weights the probe's network is
    built anew.
    """
    options = training.options
    if options.start == "scratch":
        plain = replace(options, start="probe", bn=None, augment="none")
        training = make_training(
            source, plain, training.folder, weights=training.feed.weights,
            workers=training.feed.workers,
        )  # fmt: skip
    rng = np.random.default_rng(options.seed)
    rows = np.sort(rng.permutation(len(source.val))[:SAMPLE])
    sample = source.val.take(rows)
    task = task_of(sample.labels)
    targets = task.encode(sample.labels, np.asarray(source.head.classes_))
    found = []
    for images in (sample.images, _Mirrored(sample.images)):
        features, p = training.predict(replace(sample, images=images))
        if options.start in ("fresh", "zeros"):
            p = source.head.predict_proba(features).astype(np.float32)
        found.append(task.loss_and_figure(p, targets)[1])
    return MirrorTest(n=len(rows), plain=found[0], mirrored=found[1])


def settle(source: Source, training: Training) -> MirrorTest | None:
    """Decide what ``--augment auto`` means, by the held-out images; None where it was not asked."""
    if training.options.augment != AUTO:
        return None
    test = mirror_test(source, training)
    training.settle_augment("none" if test.harmful else "flip")
    return test


class _Mirrored:
    """Images mirrored left to right."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def content(self) -> NDArray[np.uint8]:
        """See Images."""
        return self._images.content()

    def image(self, row: int) -> UInt8Image:
        """See Images."""
        return np.ascontiguousarray(self._images.image(row)[:, ::-1])

    def take(self, rows: NDArray[np.intp]) -> Images:
        """See Images."""
        return _Mirrored(self._images.take(rows))
