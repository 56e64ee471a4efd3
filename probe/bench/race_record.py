"""The record of a race in `bench.json`: who was dropped when, what was left out, what it saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.evaluation.racing import Standing
from probe.runs.results import difference_text, span_text

NAMED = 3  # features that a sentence lists


@dataclass(frozen=True, kw_only=True)
class RaceStage:
    """One size of the sample, and where the features that were left stood on it.

    Parameters
    ----------
    n_train, n_val : int
        Images that heads were fitted on, and that they were compared on.
    doublings : float
        How often the sample would double until it is all training images.
    standings : tuple of Standing
        The best first.
    seconds : float
        Forwarding and fitting, as far as it was not found.
    """

    __repr__ = short_repr

    n_train: int
    n_val: int
    doublings: float
    standings: tuple[Standing, ...]
    seconds: float

    @property
    def images(self) -> int:
        """All images of the sample."""
        return self.n_train + self.n_val

    @property
    def dropped(self) -> tuple[Standing, ...]:
        """Those that went no further."""
        return tuple(one for one in self.standings if one.dropped)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What came before the rows of one dataset; see `probe.bench.race`.

    Parameters
    ----------
    head, metric : str
        What was compared.
    risk : float
        How likely chance alone drops the features that are best, 0 to 1, over the whole race.
    level : float
        One-sided, of each comparison.
    budget : float, optional
        Seconds for all of the bench.
    images : int
        Of the dataset, those of every split.
    stages : tuple of RaceStage
        Empty where there was nothing to race for.
    kept : tuple of str
        Features that were run on all images, the best first.
    left_out : mapping of features to reason
        For want of time: they were neither dropped nor run on all images.
    ended : str
        Why the race went no further, in a sentence.
    rows, all_rows : int
        Images times passes that this bench needed, found ones included, and of a whole bench.
    seconds, all_seconds : float, optional
        What forwarding these takes at the measured rates; absent where one was not measured.
    """

    __repr__ = short_repr

    dataset: str
    head: str
    metric: str
    risk: float
    level: float
    images: int
    stages: tuple[RaceStage, ...]
    kept: tuple[str, ...]
    left_out: Mapping[str, str]
    ended: str
    rows: int
    all_rows: int
    budget: float | None = None
    seconds: float | None = None
    all_seconds: float | None = None

    @property
    def dropped(self) -> dict[str, tuple[RaceStage, Standing]]:
        """Where each of those that were dropped stood then."""
        return {one.name: (stage, one) for stage in self.stages for one in stage.dropped}


def dropped_words(stage: RaceStage, one: Standing, metric: str) -> str:
    """Return why features were dropped, in a clause."""
    leader = stage.standings[0].name
    return (
        f"dropped on {stage.images:,} images ({stage.n_train:,} to fit on, {stage.n_val:,} held "
        f"out): {difference_text(metric, one.gap)} behind {leader} "
        f"({span_text(metric, one.low, one.high)})"
    )


def race_words(race: Race) -> str:
    """Return what a race did and how sure that is, in a few sentences."""
    total = len(race.kept) + len(race.dropped) + len(race.left_out)
    share = race.rows / race.all_rows if race.all_rows else 1.0
    text = f"{counted(len(race.dropped), 'candidate')} of {total} dropped in the race"
    if race.stages:
        text += f" on up to {race.stages[-1].images:,} images"
    text += f", {len(race.kept)} run on all {race.images:,}: {100 * share:.0f} % of all passes"
    if race.seconds is not None and race.all_seconds:
        text += f", {100 * race.seconds / race.all_seconds:.0f} % of their time"
    text += f". {race.ended}"
    if race.dropped:
        text += (
            f" The risk that chance alone dropped the best is at most {100 * race.risk:g} %, as "
            "far as heads on samples tell; that gaps close no faster than they did is assumed."
        )
    if race.left_out:
        names = list(race.left_out)
        some = ", ".join(names[:NAMED])
        if len(names) > NAMED:
            some += f" and {len(names) - NAMED} more"
        text += f" Left out for want of time, and not known to be worse: {some}."
    return text
