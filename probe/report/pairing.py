"""Paired tests between runs that no bench compared."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from probe.outcome import Comparison, Pair, Row
from probe.paired import compact_letters, compare_pair, holm
from probe.report.analysis import SplitView
from probe.report.markup import percent
from probe.report.material import Material
from probe.report.pictures import Views, class_names

LEVEL = 0.95
WORDS = {"val": "validation", "oof": "out-of-fold"}


def compared(material: Material, views: Views) -> Material:
    """Return the material with tests of every pair of runs that held out the same rows.

    A bench has its own tests, and one run alone has nothing to be tested against: then the
    material comes back as it is. Runs that held out other rows than the best one take no part.
    """
    leader = material.leader
    split = material.choosing(leader) if leader else None
    if material.bench or leader is None or split is None or split not in views.get(leader.id, {}):
        return material
    right = _same_rows(material, views, views[leader.id][split])
    if len(right) < 2:
        return material
    ids = list(right)
    tests = [(a, b, compare_pair(right[a], right[b], level=LEVEL)) for a, b in combinations(ids, 2)]
    adjusted = holm([test.p for _, _, test in tests])
    pairs = [
        Pair(
            a=a, b=b, n=test.n, only_a=test.only_a, only_b=test.only_b, difference=test.difference,
            low=test.interval.low, high=test.interval.high, p=test.p, p_adjusted=p,
            different=p <= 1 - LEVEL,
        )
        for (a, b, test), p in zip(tests, adjusted, strict=True)
    ]  # fmt: skip
    place = {one: number for number, one in enumerate(ids)}
    different = [(place[pair.a], place[pair.b]) for pair in pairs if pair.different]
    letters = dict(zip(ids, compact_letters(len(ids), different), strict=True))
    beaten = {pair.b for pair in pairs if pair.a == leader.id and pair.different}
    tied = tuple(one for one in ids if one not in beaten)
    comparison = Comparison(
        dataset=material.dataset,
        n_classes=len(class_names(material)),
        images={},
        rows=tuple(ids),
        pairs=tuple(pairs),
        tied=tied,
        verdict=_verdict(material, leader, split, tied),
        scores=(),
        agreement=(),
        winner=leader.id,
    )
    rows = tuple(replace(row, letters=letters.get(row.id, "")) for row in material.rows)
    return replace(material, rows=rows, tested=comparison)


def _same_rows(
    material: Material, views: Views, leading: SplitView
) -> dict[str, NDArray[np.bool_]]:
    """Return what each run got right, in the order of the leaderboard, ids in one order."""
    found: dict[str, NDArray[np.bool_]] = {}
    wanted = np.sort(leading.ids)
    for row in material.rows:
        view = views.get(row.id, {}).get(leading.split)
        if view is not None and row.rank is not None:
            order = np.argsort(view.ids, kind="stable")
            if np.array_equal(view.ids[order], wanted):
                found[row.id] = (view.predicted == view.labels)[order]
    return found


def _verdict(material: Material, leader: Row, split: str, tied: tuple[str, ...]) -> str:
    value = percent(leader.metrics[split]["top1"])
    text = f"Best on held-out rows: {material.labels[leader.id]}, {value} of the {WORDS[split]} "
    text += "images right. "
    others = [material.labels[one] for one in tied if one != leader.id]
    if others:
        return text + f"Not distinguishable from it with these data: {', '.join(others)}."
    return text + "It differs significantly from every other run on these rows."
