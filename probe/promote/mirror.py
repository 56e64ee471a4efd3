"""Whether images survive a mirror: letters, digits and left hands do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import Images
from probe.preprocess import UInt8Image
from probe.promote.promotion import Begun
from probe.promote.train import places_of, score

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


def mirror_test(begun: Begun) -> MirrorTest:
    """Mirror some validation images, the same for the same seed, and predict them."""
    training, val = begun.training, begun.source.val
    rng = np.random.default_rng(training.options.seed)
    rows = np.sort(rng.permutation(len(val))[:SAMPLE])
    sample = val.take(rows)
    _, p = training.predict(replace(sample, images=_Mirrored(sample.images)))
    targets = places_of(sample.labels, np.asarray(begun.source.head.classes_))
    plain, mirrored = score(begun.probabilities[rows], targets)[1], score(p, targets)[1]
    return MirrorTest(n=len(rows), plain=plain, mirrored=mirrored)


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
