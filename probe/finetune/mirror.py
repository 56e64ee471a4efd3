"""Decide by the frozen probe whether training may mirror images, as letters and digits forbid.

The test sees only what the probe can tell apart: a mirror exchanges photographs rotated by 90 and
by 270 degrees, and a probe that confuses them anyway loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def mirror_test(sources: Sequence[Source], training: Training) -> MirrorTest:
    """Compare the probe's predictions of some validation images with those of their mirror images.

    They are those of the run's head on the features of its network, with folds of each fold's head
    on images of that fold. Before its first step the network of a training is the probe's; where it
    starts from random weights, the probe's is built anew.
    """
    options, first = training.options, sources[0]
    if options.start == "scratch":
        plain = replace(options, start="probe", bn=None, augment="none")
        training = make_training(
            first, plain, training.folder, weights=training.feed.weights,
            workers=training.feed.workers,
        )  # fmt: skip
    rng = np.random.default_rng(options.seed)
    most = -(-SAMPLE // len(sources))
    answers: tuple[list[NDArray[np.float32]], ...] = ([], [])
    labels = []
    for source in sources:
        rows = np.sort(rng.permutation(len(source.val))[:most])
        sample = source.val.take(rows)
        labels.append(sample.labels)
        for found, images in zip(answers, (sample.images, _Mirrored(sample.images)), strict=True):
            features, _ = training.predict(replace(sample, images=images))
            p = np.zeros((len(rows), len(source.classes)), np.float32)
            p[:, np.asarray(source.head.classes_)] = source.head.predict_proba(features)
            found.append(p)
    every = np.concatenate(labels)
    task = task_of(every)
    targets = task.encode(every, np.arange(len(first.classes)))
    plain_score, mirrored = (
        task.loss_and_figure(np.concatenate(found), targets)[1] for found in answers
    )
    return MirrorTest(n=len(every), plain=plain_score, mirrored=mirrored)


def settle(sources: Sequence[Source], training: Training) -> MirrorTest | None:
    """Decide what ``--augment auto`` means, by held-out images; None where it was not asked.

    Parameters
    ----------
    sources : sequence of Source
        The run; with folds, the run as each of them sees it.
    """
    if training.options.augment != AUTO:
        return None
    test = mirror_test(sources, training)
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
