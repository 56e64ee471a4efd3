"""Which features win on a dataset, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from probe.bench.record import DONE, Agreement, Comparison, Matrix, Protocol, Row, Score
from probe.core.text import counted
from probe.errors import DataError
from probe.evaluation.gains import mean_interval
from probe.evaluation.paired import NEMENYI_LEAST, average_ranks, compact_letters, friedman
from probe.evaluation.pairs import Evidence, Pair, compare_all, evidence_of
from probe.evaluation.predictions import load_predictions
from probe.evaluation.statistics import LEVEL
from probe.runs.results import LOSSES, METRIC_WORDS, difference_text, figure_text, span_text
from probe.runs.tie_words import settling_words

NAMED = 3  # rows that a sentence lists
COMPARABLE = 3  # features below which a rank correlation is no figure


def compare_rows(
    rows: Sequence[Row],
    runs: Path,
    protocol: Protocol,
    *,
    n_classes: int,
    images: Mapping[str, int],
    scores: Sequence[Score] = (),
) -> tuple[list[Row], Comparison]:
    """Rank the rows of one dataset, test every pair, and say which to take.

    Only predictions of the protocol's split are read: test rows choose nothing.

    Parameters
    ----------
    rows : sequence of Row
        Of one dataset, failed ones included.
    runs : Path
        The folder of runs.

    Returns
    -------
    rows : list of Row
        As given, with rank and letters.
    comparison : Comparison

    Raises
    ------
    DataError
        A run kept no predictions, or two speak of different images.
    """
    done = [row for row in rows if row.status == DONE]
    found = {row.id: _evidence(runs, row, protocol) for row in done}
    _check_same_rows([own for own, _ in found.values()])
    value = {name: one.value for name, (_, one) in found.items()}
    rows = [_with_interval(row, found[row.id][1], protocol) if row.id in found else row
            for row in rows]  # fmt: skip
    done = [row for row in rows if row.status == DONE]
    order = sorted(done, key=lambda row: (-value[row.id], _price(row)))
    ids = [row.id for row in order]
    ranking = {name: found[name][1] for name in ids}
    fitted_on = order[0].n_train if order else None
    pairs = [
        _with_labelled(pair, fitted_on, protocol, images)
        for pair in compare_all(ranking, seed=protocol.seed)
    ]
    place = {name: number for number, name in enumerate(ids)}
    letters = compact_letters(
        len(ids), [(place[pair.a], place[pair.b]) for pair in pairs if pair.different]
    )
    beaten = {pair.b for pair in pairs if ids[:1] == [pair.a] and pair.different}
    tied = [name for name in ids if name not in beaten]
    ranks = {name: 1 + sum(one > value[name] for one in value.values()) for name in ids}
    ranked = [
        replace(row, rank=ranks[row.id], letters=letters[place[row.id]]) if row.id in place else row
        for row in rows
    ]
    by_id = {row.id: row for row in ranked}
    cheapest = min(tied, key=lambda name: _price(by_id[name])) if tied else None
    comparison = Comparison(
        dataset=rows[0].dataset,
        n_classes=n_classes,
        images=dict(images),
        rows=tuple(ids),
        pairs=tuple(pairs),
        tied=tuple(tied),
        verdict="",
        scores=tuple(scores),
        agreement=tuple(agreement(scores, [by_id[name] for name in ids], value)),
        winner=ids[0] if ids else None,
        cheapest=cheapest,
    )
    return ranked, replace(comparison, verdict=verdict(comparison, by_id, protocol))


def _evidence(runs: Path, row: Row, protocol: Protocol) -> tuple[list[str], Evidence]:
    """Return ids in order, and their predictions."""
    found = load_predictions(runs / (row.run or "")).get(protocol.split)
    if found is None:
        raise DataError(
            f"{runs / (row.run or '')}: keeps no {protocol.split} predictions; fit it again"
        )
    order = np.argsort(found.ids, kind="stable")
    said = evidence_of(found, protocol.metric, order=order, seed=protocol.seed)
    return found.ids[order].tolist(), said


def _with_interval(row: Row, one: Evidence, protocol: Protocol) -> Row:
    """Return a row with an interval of the figure it is ranked by, where its run has none."""
    split, metric = protocol.split, protocol.metric
    if one.gains is None or metric in row.intervals.get(split, {}):
        return row
    found = mean_interval(one.gains, one.units, one.freedom)
    count = one.n if one.units is None else len(np.unique(one.units))
    unseen = 0.0
    if not found.high - found.low > 1e-9:  # all rows alike: as many may be otherwise, unseen
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / count)
    ends = (max(0.0, found.low - unseen), min(1.0, found.high + unseen))
    if metric in LOSSES:
        ends = (max(0.0, -found.high), -found.low)
    bounds = {**row.intervals.get(split, {}), metric: ends}
    return replace(row, intervals={**row.intervals, split: bounds})


def _with_labelled(
    pair: Pair, fitted_on: int | None, protocol: Protocol, images: Mapping[str, int]
) -> Pair:
    """Return a pair whose held-out images that would settle it are told in labelled images."""
    told = pair.settling
    if told is None or fitted_on is None:
        return pair
    labelled, least = fitted_on + told.count, None
    if protocol.split == "oof":  # each image is held out once, and fitted on otherwise
        labelled = told.count
    elif "val" not in images and protocol.val_size < 1:
        labelled, least = ceil(told.count * (fitted_on + told.n) / told.n), labelled
    return replace(pair, settling=replace(told, labelled=labelled, least_labelled=least))


def _check_same_rows(all_ids: Sequence[list[str]]) -> None:
    if any(ids != all_ids[0] for ids in all_ids):
        raise DataError("two rows were measured on different images; they cannot be compared")


def _price(row: Row) -> tuple[float, float, float]:
    """Return the sort key for cost: the forward pass, then the head's size and time."""
    cost = row.cost
    passes = float("inf") if cost.multiply_adds is None else float(cost.multiply_adds)
    return passes, float(row.feature_dim or 0), cost.head_seconds or 0.0


def agreement(
    scores: Sequence[Score], rows: Sequence[Row], value: Mapping[str, float]
) -> list[Agreement]:
    """Return how well each score ranked the features, each taken with its best head."""
    from scipy.stats import kendalltau, weightedtau

    best: dict[str, float] = {}
    for row in rows:
        best[row.name] = max(best.get(row.name, -np.inf), value[row.id])
    found = []
    for name in dict.fromkeys(score.name for score in scores):
        own = {
            one.features: one.value for one in scores if one.name == name and one.value is not None
        }
        names = [one for one in own if one in best]
        if len(names) < COMPARABLE:
            continue
        values, reached = [own[one] for one in names], [best[one] for one in names]
        tau = kendalltau(values, reached)
        weighted = float(weightedtau(values, reached).statistic)
        if not (np.isfinite(tau.statistic) and np.isfinite(weighted)):
            continue  # all equal: nothing was ranked
        chosen = max(names, key=lambda one: own[one])
        found.append(
            Agreement(
                score=name, n=len(names), kendall=float(tau.statistic), weighted=weighted,
                p=float(tau.pvalue), best=chosen, loss=max(reached) - best[chosen],
            )
        )  # fmt: skip
    return found


def verdict(comparison: Comparison, rows: Mapping[str, Row], protocol: Protocol) -> str:
    """Return the answer: what to take, by how much, how sure, at what cost."""
    if comparison.winner is None:
        return f"Nothing could be compared on {comparison.dataset}."
    best = rows[comparison.winner]
    text = f"Take {_called(best, protocol)}: {_figure(best, protocol.split, protocol.metric)}."
    others = [rows[name] for name in comparison.tied[1:]]
    if others:
        names = ", ".join(_called(row, protocol) for row in others[:NAMED])
        if len(others) > NAMED:
            names += f" and {len(others) - NAMED} more"
        text += f" Not distinguishable from it with these data: {names}."
        cheapest = rows[comparison.cheapest or best.id]
        rival = next((row for row in others if row.name != best.name), others[0])
        pair = next(one for one in comparison.pairs if (one.a, one.b) == (best.id, rival.id))
        both = f"{_called(best, protocol)} and {_called(rival, protocol)}"
        if said := settling_words(pair, both, protocol.metric):
            text += f" {said}"
        if _price(cheapest)[0] < _price(best)[0]:  # another head on the same pass saves nothing
            text += f" The cheapest of them is {_called(cheapest, protocol)} ({_cost(cheapest)})."
    first = _next_beaten(comparison, best, rows)
    if first is not None:
        count = len(comparison.pairs)
        p = "< 0.001" if first.p_adjusted < 0.001 else f"= {first.p_adjusted:.3f}"
        corrected = f", corrected for {count} comparisons" if count > 1 else ""
        text += (
            f" {_called(best, protocol)} beats {_called(rows[first.b], protocol)} by "
            f"{difference_text(protocol.metric, first.difference)} "
            f"({span_text(protocol.metric, first.low, first.high)}; {first.test}, "
            f"p {p}{corrected})."
        )
    text += f" Cost: {_cost(best)}."
    if protocol.metric in best.metrics.get("test", {}):  # test images without a label have no mAP
        test = _figure(best, "test", protocol.metric)
        text += f" On test images, which chose nothing: {test}."
    return text


def _next_beaten(comparison: Comparison, best: Row, rows: Mapping[str, Row]) -> Pair | None:
    """Return the best row significantly below the winner; other features before other heads."""
    beaten = [pair for pair in comparison.pairs if pair.a == best.id and pair.different]
    others = [pair for pair in beaten if rows[pair.b].name != best.name]
    return next(iter(others or beaten), None)


def _called(row: Row, protocol: Protocol) -> str:
    return row.name if len(protocol.heads) == 1 else f"{row.name} with {row.head}"


def _figure(row: Row, split: str, metric: str) -> str:
    counts = {"val": row.n_val, "test": row.n_test, "oof": row.n_train}
    words = {"val": "validation images", "test": "images", "oof": "training images, out of fold"}
    text = figure_text(metric, row.metrics[split][metric])
    if bounds := row.intervals.get(split, {}).get(metric):
        text += f" ({span_text(metric, *bounds)})"
    rows = f"{counts[split]:,} {words[split]}"
    if row.groups is not None and split in row.groups:
        rows += f" in {counted(row.groups[split], 'group')}"
    if metric != "top1":
        return f"{METRIC_WORDS[metric]} {text} on {rows}"
    return f"{text} of {rows}{',' * (split == 'oof')} right"


def _cost(row: Row) -> str:
    cost, parts = row.cost, []
    if cost.multiply_adds is not None:
        parts.append(f"{_si(cost.multiply_adds)} multiply-adds an image")
    if cost.images_per_second is not None:
        parts.append(f"{cost.images_per_second:,.0f} images/s here")
    parts.append(f"{row.feature_dim:,} features")
    return ", ".join(parts)


def _si(count: float) -> str:
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {word}"
    return f"{count:.3g}"


def make_matrix(rows: Sequence[Row], protocol: Protocol) -> Matrix | None:
    """Return figures by features and dataset, with average ranks; None for one dataset alone.

    Features that lack a figure on some dataset are left out: an average rank over other datasets
    would be another figure.
    """
    datasets = tuple(dict.fromkeys(row.dataset for row in rows))
    if len(datasets) < 2:
        return None
    figures: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.status == DONE:
            own = figures.setdefault(_called(row, protocol), {})
            own[row.dataset] = row.metrics[protocol.split][protocol.metric]
    names = [name for name, own in figures.items() if len(own) == len(datasets)]
    if not names:
        return None
    values = np.array([[figures[name][dataset] for dataset in datasets] for name in names])
    better = -values if protocol.metric in LOSSES else values
    ranks = average_ranks(better)
    tested = friedman(better)
    note = (
        "Friedman's test with Iman and Davenport's correction, and Nemenyi's critical difference."
        if tested
        else f"Average ranks only: with {len(datasets)} datasets and {len(names)} rows, Friedman's "
        f"and Nemenyi's tests say nothing (at least {NEMENYI_LEAST} and 3 are needed)."
    )
    order = np.argsort(ranks, kind="stable")
    return Matrix(
        datasets=datasets,
        names=tuple(names[i] for i in order),
        values=tuple(tuple(float(value) for value in values[i]) for i in order),
        average_ranks=tuple(float(ranks[i]) for i in order),
        note=note,
        friedman_p=tested[0] if tested else None,
        critical_difference=tested[1] if tested else None,
    )
