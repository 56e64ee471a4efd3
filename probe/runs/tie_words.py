"""Say in words what would settle a tie of two rows."""

from __future__ import annotations

from probe.evaluation.pairs import Pair
from probe.evaluation.settling import CARED, POWER, Settling
from probe.runs.results import difference_text

NO_END = "no number would do if there is no difference"


def settling_words(pair: Pair, names: str, metric: str) -> str | None:
    """Return what would tell two rows apart, in some sentences; None where nothing is known.

    Parameters
    ----------
    names : str
        Of both, as "a and b".
    metric : str
        What they are compared by.
    """
    told = pair.settling
    if told is None:
        return None
    most = difference_text(metric, max(abs(pair.low), abs(pair.high)))
    if not told.worth and max(abs(pair.low), abs(pair.high)) <= CARED:
        return (
            f"{names} are as good as equal: whichever is better, it is by at most {most}. More "
            "images are not worth labelling for that; choose by cost."
        )
    size = difference_text(metric, told.size)
    if told.size > abs(pair.difference):
        text = (
            f"Between {names} hardly a difference was seen, and there may be one of up to {most}. "
            f"One of {size} would show in four of five cases with {_images(told)}"
        )
    else:
        text = (
            f"If {names} really differ by the {size} seen, the test would show it in four of five "
            f"cases with {_images(told)} ({_least(told)}; {_most(told)})"
        )
    text += f"; there are {told.n:,}.{_labelled(told)}"
    if told.chance < POWER:
        text += f" The difference may be another: the chance is nearer {100 * told.chance:.0f} %."
    if not told.worth:
        text += " That is hardly worth labelling: choose by cost."
    return text


def settling_cell(pair: Pair) -> str:
    """Return the same in a few words, as a cell of a table; empty of rows that are told apart."""
    told = pair.settling
    if told is None:
        return ""
    if max(abs(pair.low), abs(pair.high)) <= CARED:
        return "as good as equal"
    text = f"{about(told.count)} ({about(told.low)} to "
    text += f"{'no end' if told.high is None else about(told.high)})"
    return text if told.worth else f"{text}, not worth it"


def about(count: int) -> str:
    """Return a number with two digits that count, rounded up: it is an estimate."""
    return f"{_rounded(count):,}"


def _rounded(count: int) -> int:
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _images(told: Settling) -> str:
    groups = "" if told.groups is None else f" in {about(told.groups)} groups"
    return f"about {about(told.count)} held-out images{groups}"


def _least(told: Settling) -> str:
    if told.low <= told.n:
        return "perhaps as few as there are"
    return f"at least {about(told.low)}"


def _most(told: Settling) -> str:
    return NO_END if told.high is None else f"at most {about(told.high)}"


def _labelled(told: Settling) -> str:
    """Return how many labelled images that takes in all; empty where that is not known."""
    if told.labelled is None:
        return ""
    text = f" That takes about {about(told.labelled)} labelled images in all"
    if told.least_labelled is None or told.least_labelled >= told.labelled:
        return f"{text}."
    least, option = about(told.least_labelled), f"--val-size {_rounded(told.count)}"
    return f"{text} where the same part is held out, or {least} with {option}."
