"""Paired tests between runs that no bench compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bench.record import Comparison, Row
from probe.evaluation.paired import compact_letters
from probe.evaluation.pairs import Evidence, Pair, compare_all
from probe.report.analysis import AnyView
from probe.report.markup import percent
from probe.report.material import Material
from probe.report.pictures import Views, class_names
from probe.runs.tie_words import settling_words

WORDS = {"val": "validation", "oof": "out-of-fold"}


def compared(material: Material, views: Views) -> Material:
    """Return the material with tests of every pair of runs that held out the same rows.

    With a bench, which has its own tests, or with a single run the material is returned unchanged.
    Runs that held out other rows than the best run, or have other labels for them, are not tested.
    """
    leader = material.leader
    split = material.choosing(leader) if leader else None
    if material.bench or leader is None or split is None or split not in views.get(leader.id, {}):
        return material
    found = _same_rows(material, views, views[leader.id][split])
    if len(found) < 2:
        return material
    ids, pairs = list(found), compare_all(found)
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
        verdict=_verdict(material, leader, split, tied, pairs),
        scores=(),
        agreement=(),
        winner=leader.id,
    )
    rows = tuple(replace(row, letters=letters.get(row.id, "")) for row in material.rows)
    return replace(material, rows=rows, tested=comparison)


def _same_rows(material: Material, views: Views, leading: AnyView) -> dict[str, Evidence]:
    """Return the evidence of each run on the same rows, in the order of the leaderboard."""
    found: dict[str, Evidence] = {}
    wanted, labels = _in_order(leading)
    for row in material.rows:
        view = views.get(row.id, {}).get(leading.split)
        said = None if view is None or row.rank is None else view.evidence
        if view is None or said is None:
            continue
        ids, own = _in_order(view)
        if np.array_equal(ids, wanted) and np.array_equal(own, labels):
            found[row.id] = said
    return found


def _in_order(view: AnyView) -> tuple[NDArray[np.str_], NDArray[Any]]:
    """Return ids in order, and the labels of their rows."""
    order = np.argsort(view.ids, kind="stable")
    return view.ids[order], view.labels[order]


def _verdict(
    material: Material, leader: Row, split: str, tied: tuple[str, ...], pairs: Sequence[Pair]
) -> str:
    value = percent(leader.metrics[split][material.metric])
    text = f"Best on held-out rows: {material.labels[leader.id]}, "
    if material.task.exclusive:
        text += f"{value} of the {WORDS[split]} images right. "
    else:
        text += f"{material.word} {value} on the {WORDS[split]} images. "
    others = [material.labels[one] for one in tied if one != leader.id]
    if others:
        text += f"Not distinguishable from it with these data: {', '.join(others)}."
        pair = next(one for one in pairs if one.a == leader.id and one.b in tied)
        both = f"{material.labels[pair.a]} and {material.labels[pair.b]}"
        said = settling_words(pair, both, material.metric)
        return text if said is None else f"{text} {said}"
    return text + "It differs significantly from every other run on these rows."
