"""The result of an audit, kept as `audit.json` in a folder beside the runs.

    from probe.audit.record import load_audit
    audit = load_audit(Path("cache/runs/20260131-235959-001"))
    [one.id for one in audit.label_errors]

The search itself is in `probe.runs.duplicates` and `probe.audit.auditing`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from probe.core.plain import from_plain, to_plain
from probe.core.records import read_record, write_record
from probe.core.short_repr import short_repr
from probe.datasets.copies import Copies
from probe.runs.duplicates import NearDuplicate

SCHEMA = 1
FILE_NAME = "audit.json"
THUMBNAILS = {"near_duplicates": "near-duplicates.png", "label_errors": "label-errors.png"}


@dataclass(frozen=True, kw_only=True)
class LabelError:
    """An image whose label is confidently contradicted by heads that were not fitted on it.

    Parameters
    ----------
    given, suggested : str
        Class names; with multi-label images ``cat`` and ``not cat``, or the other way round.
    given_probability, probability : float
        Out-of-fold probabilities of the given and of the suggested class.
    """

    id: str
    split: str
    given: str
    suggested: str
    given_probability: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The findings in one entry.

    Parameters
    ----------
    threshold : float
        Cosine from which a pair is a near-duplicate.
    near_duplicates : tuple of NearDuplicate
        Most similar first. For each test image its closest training image; within train, pairs
        with different labels, at most `probe.runs.duplicates.MOST`. With `every_pair` all pairs
        within and across splits, at most so many; exact copies are in `copies` alone.
    label_errors : tuple of LabelError
        Largest margin first.
    copies : tuple of Copies
        Images that occur more than once: those with different labels first, then those in
        several splits.
    scores : mapping of str to float
        ``test_top1`` and ``test_top1_without`` (the near-duplicates' test images left out),
        ``duplicates_top1`` (those alone), ``oof_top1``; ``n_leaked`` test images, and how many
        with lower thresholds, as ``n_from_0.90``: with `every_pair` pairs. With multi-label images
        ``map`` replaces ``top1``, and ``oof_hamming_loss`` is added. Figures that were not measured
        are absent.
    n_train, n_val, n_test : int
        Images.
    every_pair : bool
        Labels tell no images apart: there are none, or all are the same.
    undoubted : str or None
        Why no label was doubted: `every_pair`, or the folds cannot be made.
    """

    __repr__ = short_repr

    entry: str
    dataset: str
    command: str
    created: str
    threshold: float
    n_train: int
    n_test: int
    near_duplicates: tuple[NearDuplicate, ...] = ()
    label_errors: tuple[LabelError, ...] = ()
    copies: tuple[Copies, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    n_val: int = 0
    every_pair: bool = False
    undoubted: str | None = None
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        return {"schema": self.schema, **to_plain(self)}


def save_audit(folder: Path, audit: Audit) -> Path:
    """Write `audit.json` by rename and return its path."""
    path = folder / FILE_NAME
    write_record(path, audit.to_dict())
    return path


def load_audit(folder: Path) -> Audit:
    """Read a folder's `audit.json`.

    Raises
    ------
    DataError
        There is none, or it is not what `save_audit` writes; the message has the path.
    """
    return read_record(
        folder / FILE_NAME, "an audit", partial(from_plain, Audit),
        schema=SCHEMA, absent="`probe audit` writes one",
    )  # fmt: skip
