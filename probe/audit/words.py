"""An audit in words: what was found, a line each, and tables of the first of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probe.audit.record import Audit
from probe.datasets.copies import copies_in_words
from probe.runs.duplicates import MOST, NearDuplicate

LISTED = 10  # of each kind; audit.json has all


@dataclass(frozen=True, kw_only=True)
class Table:
    """Findings of one kind.

    Parameters
    ----------
    columns : tuple of str
    rows : list of list of str
    numbers : tuple of int
        Columns that hold numbers.
    """

    columns: tuple[str, ...]
    rows: list[list[str]]
    numbers: tuple[int, ...]


def audit_facts(found: Audit) -> dict[str, str]:
    """Return what was found, by what it is about."""
    leaked, within = _pairs(found)
    facts = {"entry": found.entry}
    if found.every_pair:
        facts["duplicates"] = _counted(found)
    elif found.n_test:
        facts["leaks"] = (
            f"{len(leaked):,} of {found.n_test:,} test images have a near-duplicate in train "
            f"(cosine from {found.threshold:g}{_looser(found)})"
        )
    if found.copies:
        facts["copies"] = copies_in_words(found.copies)
    elif found.every_pair:
        facts["copies"] = "no image is there twice"
    if not found.every_pair:
        facts["contradictions"] = f"{len(within):,} near-duplicates in train with other labels"
    facts["labels"] = _doubts(found)
    if "test_top1_without" in found.scores:
        facts["accuracy"] = (
            f"{100 * found.scores['test_top1']:.2f} % of the test images, "
            f"{100 * found.scores['test_top1_without']:.2f} % without those that leaked, "
            f"{100 * found.scores['duplicates_top1']:.2f} % of those"
        )
    elif "test_map_without" in found.scores:
        facts["mAP"] = (
            f"{100 * found.scores['test_map']:.2f} % on the test images, "
            f"{100 * found.scores['test_map_without']:.2f} % without those that leaked"
        )
    return facts


def audit_tables(found: Audit) -> list[Table]:
    """Return the first findings of each kind that there is: pairs, copies, labels."""
    if found.every_pair:
        return _tables_of_images(found)
    leaked, within = _pairs(found)
    pairs = [
        [f"{pair.similarity:.3f}", pair.a, pair.label_a, pair.b, pair.label_b]
        for pair in [*leaked[:LISTED], *within[:LISTED]]
    ]
    copies = [
        [str(len(one.ids)), one.ids[0], one.labels[0], one.ids[at], one.labels[at]]
        for one in found.copies[:LISTED]
        for at in [next((i for i, la in enumerate(one.labels) if la != one.labels[0]), 1)]
    ]
    labels = [
        [
            one.id, one.given, f"{100 * one.given_probability:.1f} %", one.suggested,
            f"{100 * one.probability:.1f} %",
        ]
        for one in found.label_errors[:LISTED]
    ]  # fmt: skip
    beside = ("image", "label", "and", "label")
    tables = [
        Table(columns=("cosine", *beside), rows=pairs, numbers=(0,)),
        Table(columns=("copies", *beside), rows=copies, numbers=(0,)),
        Table(columns=("image", "given", "", "suggested", ""), rows=labels, numbers=(2, 4)),
    ]
    return [one for one in tables if one.rows]


def _tables_of_images(found: Audit) -> list[Table]:
    """Return pairs and copies without labels."""
    pairs = [
        [f"{pair.similarity:.3f}", pair.a, pair.b, _splits((pair.split_a, pair.split_b))]
        for pair in found.near_duplicates[:LISTED]
    ]
    copies = [
        [str(len(one.ids)), one.ids[0], one.ids[-1], _splits(one.splits)]
        for one in found.copies[:LISTED]
    ]
    beside = ("image", "and", "in")
    tables = [
        Table(columns=("cosine", *beside), rows=pairs, numbers=(0,)),
        Table(columns=("copies", *beside), rows=copies, numbers=(0,)),
    ]
    return [one for one in tables if one.rows]


def _splits(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _counted(found: Audit) -> str:
    """Say how many pairs there are within each split and between any two."""
    counts = Counter((pair.split_a, pair.split_b) for pair in found.near_duplicates)
    where = [
        f"{count:,} " + (f"within {a}" if a == b else f"between {a} and {b}")
        for (a, b), count in sorted(counts.items(), key=lambda one: -one[1])
    ]
    n = len(found.near_duplicates)
    text = f"{n:,} {'pair' if n == 1 else 'pairs'} of near-duplicates, exact copies left out "
    text += f"(cosine from {found.threshold:g}{_looser(found)})"
    several = sum(map(bool, (found.n_train, found.n_val, found.n_test))) > 1
    return text + (f": {', '.join(where)}" if counts and several else "")


def _pairs(found: Audit) -> tuple[list[NearDuplicate], list[NearDuplicate]]:
    """Return the near-duplicates between train and test, and those within train."""
    leaked = [pair for pair in found.near_duplicates if pair.split_b == "test"]
    return leaked, [pair for pair in found.near_duplicates if pair.split_b != "test"]


def _looser(found: Audit) -> str:
    """Say how many images lower thresholds would name."""
    counts = {
        name.removeprefix("n_from_"): int(count)
        for name, count in found.scores.items()
        if name.startswith("n_from_")
    }
    return "".join(
        f"; from {cosine}: {count:,}" + " or more" * (found.every_pair and count == MOST)
        for cosine, count in counts.items()
    )


def _doubts(found: Audit) -> str:
    """Say how many labels are doubted, and how far the doubt can be trusted; or why none is."""
    if found.undoubted is not None:
        return f"none is doubted: {found.undoubted}"
    count = f"{len(found.label_errors):,}"
    if (wrong := found.scores.get("oof_hamming_loss")) is not None:
        return (
            f"{count} decisions (a label is there, or not) worth a look in {found.n_train:,} "
            f"training images, the surest first; out of fold the heads get {100 * wrong:.2f} % of "
            "all decisions wrong themselves, so most are hard images, not wrong labels"
        )
    return (
        f"{count} of {found.n_train:,} training labels worth a look, the surest first; out of fold "
        f"the heads get {100 * (1 - found.scores['oof_top1']):.2f} % wrong themselves, so most are "
        "hard images, not wrong labels"
    )
