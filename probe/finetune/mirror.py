"""Whether images survive a mirror: letters, digits and left hands do not.

The frozen probe is asked, so what it cannot tell apart stays hidden: a mirror exchanges photographs
turned by 90 and by 270 degrees, and a probe that takes one for the other loses nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import Images
from probe.finetune.augment import AUTO
from probe.finetune.source import Source
from probe.finetune.start import make_training
from probe.finetune.train import Training, places_of, score
from probe.preprocess.spec import UInt8Image

SAMPLE = 200  # validation images that are mirrored
LOST = 0.1  # of the figure on them; mirrored photographs lose a few hundredths by chance


@dataclass(frozen=True, kw_only=True)
class MirrorTest:
    """What the frozen probe makes of mirrored validation images.

    Parameters
    ----------
    n : int
    plain, mirrored : float
        Top-1, or of several labels an image the mean average precision, on the same images as they
        are, and mirrored; 0 to 1.
    """

    n: int
    plain: float
    mirrored: float

    @property
    def harmful(self) -> bool:
        """Whether training on mirrored images would teach what is not so."""
        return self.plain - self.mirrored >= LOST


def mirror_test(source: Source, training: Training) -> MirrorTest:
    """Mirror some validation images, the same for the same seed, and let the probe predict them.

    The network of a training is the probe's before its first step, but for a fresh head; with
    random weights the probe's is built for the occasion.
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
    targets = places_of(sample.labels, np.asarray(source.head.classes_))
    found = []
    for images in (sample.images, _Mirrored(sample.images)):
        features, p = training.predict(replace(sample, images=images))
        if options.start == "fresh":
            p = source.head.predict_proba(features).astype(np.float32)
        found.append(score(p, targets)[1])
    return MirrorTest(n=len(rows), plain=found[0], mirrored=found[1])


def settle(source: Source, training: Training) -> MirrorTest | None:
    """Decide whether images are mirrored, where that was left to the held-out ones."""
    if training.options.augment != AUTO:
        return None
    test = mirror_test(source, training)
    training.settle_augment("none" if test.harmful else "flip")
    return test


class _Mirrored:
    """Images, left and right exchanged."""

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
