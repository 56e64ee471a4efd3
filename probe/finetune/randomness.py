"""Where every random number of a fine-tuning comes from: seed, purpose, epoch and place.

Nothing has a state that runs on, so a run that is taken up anywhere draws what it would have drawn,
and the order in which threads get to images does not matter.
"""

from __future__ import annotations

import numpy as np

ORDER, IMAGE, DROPOUT, MIXUP, SIZE, WEIGHTS = range(6)


def generator(seed: int, purpose: int, *where: int) -> np.random.Generator:
    """Return the generator of one thing drawn.

    Parameters
    ----------
    seed : int
        Of the run.
    purpose : int
        One of the constants of this module.
    where : ints
        Epoch, then the step or the image.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: Philox.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, purpose, *where])))
