"""Random numbers of a fine-tuning, each drawn from the seed, a purpose, the epoch and an index.

No generator keeps a state, so a resumed run draws the same numbers as one that was never
interrupted, and the order in which threads load images does not matter.
"""

from __future__ import annotations

import numpy as np

ORDER, IMAGE, DROPOUT, MIXUP, SIZE, WEIGHTS = range(6)


def generator(seed: int, purpose: int, *where: int) -> np.random.Generator:
    """Return the generator for one purpose at one place of a training.

    Parameters
    ----------
    seed : int
        The run's seed.
    purpose : int
        One of the constants of this module.
    where : ints
        The epoch, then the step or the image.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: Philox.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, purpose, *where])))
