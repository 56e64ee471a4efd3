"""How many held-out images would tell two heads apart that a paired test does not.

The test is the one that did not: at its level after the correction for many pairs, and with the
standard error that was seen, which shrinks with the root of the number of images. For accuracy that
error comes from the rows that one head alone got right.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, erfc, sqrt

POWER = 0.8  # how often a difference should be found, where a number of images is stated
CARED = 0.005  # half a point, or 0.005 nats: what differs by less is as good
WORTH = 20  # times the images there are: with more needed, cost is the better ground to choose on


@dataclass(frozen=True, kw_only=True)
class Settling:
    """What would tell two rows apart that tie.

    All numbers of images are of held-out ones, in all and not in addition, of the same kind as
    those at hand, and heads are fitted on as many images as now.

    Parameters
    ----------
    n : int
        Images that are held out now.
    size : float
        The difference that is planned for: the one seen, or CARED where less was seen.
    count : int
        With so many the test finds a difference of this size in POWER of all cases.
    low, high : int, optional
        The same at the ends of the difference's 95 % interval. `high` is absent where that interval
        holds 0: if there is no difference, no number of images shows one.
    chance : float
        How likely the test is to tell the two apart with `count` images, over all differences that
        these data leave open; at most POWER, and less where the one seen may be luck.
    groups : int, optional
        Groups that `count` images are, where some belong together: they are what counts.
    labelled, least_labelled : int, optional
        Labelled images in all, those that heads are fitted on included: where the same part of
        them is held out, and where as many as now are left to fit on. Only of a bench.
    worth : bool
        False where the two are as good as equal, or WORTH times as many images are needed.
    """

    n: int
    size: float
    count: int
    low: int
    chance: float
    worth: bool
    high: int | None = None
    groups: int | None = None
    labelled: int | None = None
    least_labelled: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tie:
    """A difference that a test did not show.

    Parameters
    ----------
    difference, low, high : float
        As seen, and its 95 % interval.
    images, units : int
        Images that it was seen on, and groups of those that belong together.
    effective : float
        Independent rows, or units, that would be as sure; what the test's error is of.
    discordant : float, optional
        Share of the rows that one head alone got right; of accuracy.
    error : float, optional
        Standard error of the difference; of all other figures.
    """

    difference: float
    low: float
    high: float
    images: int
    units: int
    effective: float
    discordant: float | None = None
    error: float | None = None

    def variances(self, difference: float) -> tuple[float, float]:
        """Return the variance of one row without a difference and with this one."""
        if self.discordant is None:
            variance = (self.error or 0.0) ** 2 * self.effective
            return variance, variance
        share = max(self.discordant, difference, 1 / self.effective)
        return share, share - difference**2


def settle(tie: Tie, *, level: float) -> Settling | None:
    """Return what would tell two heads apart; None where they answer alike in every row.

    Parameters
    ----------
    level : float
        Of the two-sided test, after a correction for several.

    References
    ----------
    Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43, 1987, after Miettinen, Biometrics 24, 1968: the errors with and without a
    difference; with the continuity correction of Edwards, Psychometrika 13, 1948, which stands for
    the exact test. Guenther, "Sample size formulas for normal theory t tests", Am. Stat. 35, 1981:
    the term that Student's t adds. Spiegelhalter, Abrams, Myles, "Bayesian approaches to clinical
    trials and health-care evaluation", 2004, 6.5: the chance, with a flat prior.
    """
    from scipy.special import ndtri

    if not tie.variances(0.0)[0]:
        return None
    reject, find = float(ndtri(1 - level / 2)), float(ndtri(POWER))
    exact = tie.discordant is not None
    step, extra = (1.0, 0.0) if exact else (0.0, reject**2 / 2)

    def needed(difference: float) -> int:
        null, other = tie.variances(difference)
        root = reject * sqrt(null) + find * sqrt(other)
        root = (root + sqrt(root**2 + 4 * step * difference)) / (2 * difference)
        return ceil((root**2 + extra) * tie.images / tie.effective)

    seen, low, high = abs(tie.difference), *sorted((tie.low, tie.high))
    if tie.difference < 0:
        low, high = -high, -low
    most, planned = max(high, -low), max(seen, CARED)
    count = needed(planned)
    null, other = tie.variances(seen)
    future = count * tie.effective / tie.images
    bound = reject * sqrt(null / future) + step / future
    error = sqrt(other * (1 / tie.effective + 1 / future))
    chance = sum(_below((sign * seen - bound) / error) for sign in (1, -1)) if error else 0.0
    return Settling(
        n=tie.images,
        size=planned,
        count=count,
        low=needed(max(most, planned)),
        high=needed(low) if low > 0 else None,
        chance=min(chance, POWER),
        groups=ceil(count * tie.units / tie.images) if tie.units < tie.images else None,
        worth=most > CARED and count <= WORTH * tie.images,
    )


def _below(z: float) -> float:
    """Return how much of the normal distribution lies below."""
    return erfc(-z / sqrt(2)) / 2
