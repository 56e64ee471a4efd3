"""Heads that are fitted one by one: in turn, or several at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from numpy.typing import ArrayLike

from probe.errors import OverflowHeadError

if TYPE_CHECKING:
    from probe.heads.base import BaseHead, RowsLike, Validation

log = logging.getLogger(__name__)

Head = TypeVar("Head", bound="BaseHead")


def fit_each(
    heads: Sequence[Head],
    X: RowsLike,
    y: ArrayLike,
    *,
    validation: Validation | None = None,
    jobs: int = 1,
    sample_weight: ArrayLike | None = None,
) -> list[Head | None]:
    """Fit heads, so many at a time, each with one thread; None for those that diverged.

    See `BaseHead.fit` for `sample_weight`.
    """
    for head in heads:
        if not head.takes_weights:
            head.refuse_weights(sample_weight)
    if jobs == 1 or len(heads) == 1:
        return [_fit_or_none(head, X, y, validation, sample_weight) for head in heads]
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        fitted: list[Head | None] = Parallel(min(jobs, len(heads)))(
            delayed(_fit_or_none)(head, X, y, validation, sample_weight) for head in heads
        )
    return fitted


def _fit_or_none(
    head: Head,
    X: RowsLike,
    y: ArrayLike,
    validation: Validation | None,
    sample_weight: ArrayLike | None,
) -> Head | None:
    try:
        counted = {} if sample_weight is None else {"sample_weight": sample_weight}
        fitted = cast("Any", head).fit(X, y, validation=validation, **counted)
    except OverflowHeadError as error:
        log.warning("left out: %s", error)
        return None
    return None if fitted.diverged_ else cast("Head", fitted)
