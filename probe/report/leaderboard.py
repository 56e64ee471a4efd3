"""The page's heading, which names the best features, and the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence

from probe.bench.record import Row
from probe.report.costs import COSTS, Column
from probe.report.markup import (
    DASH,
    Markup,
    column_header,
    element,
    join,
    number,
    percent,
    row_header,
    scrolling,
)
from probe.report.material import Material
from probe.runs.results import LOSSES, METRIC_WORDS, RunResult, span_text

SPLIT_NAMES = {"val": "validation", "oof": "out of fold", "test": "test"}
SECOND = {"top1": ("mean_recall", "balanced accuracy"), "map": ("macro_auc", "macro AUC")}
OTHERWISE = ("top1", "top-1")
HERE = ("extraction", "head fit")  # costs in the leaderboard; the table of costs has all


def answer(material: Material) -> Markup:
    """Return the heading's paragraph: which features to take, and on what evidence."""
    comparison, leader = material.comparison, material.leader
    if comparison and comparison.verdict:
        return element("p", comparison.verdict + _caution(material), {"class": "lead"})
    if leader is None:
        text = (
            "No run held out rows from training, so nothing is ranked: fit heads with --val-size "
            "or --folds. Test figures are not used for ranking."
        )
        return element("p", text, {"class": "lead"})
    split = material.choosing(leader) or ""
    value = material.figure(leader.metrics[split][material.metric])
    words: list[object] = [
        "Best on held-out rows: ",
        element("strong", material.labels[leader.id]),
        f", {value} {material.word} ({SPLIT_NAMES[split]}).",
    ]
    if len([row for row in material.rows if row.rank is not None]) > 1:
        words.append(" No paired tests were made; probe bench tests which differences are real.")
    return element("p", [*words, _caution(material)], {"class": "lead"})


def _caution(material: Material) -> str:
    """Return a sentence on runs whose figures are too high; empty without such runs."""
    if not material.flattered:
        return ""
    return (
        f" Caution: the best epoch of {', '.join(material.flattered)} was chosen on the same "
        "images, so these figures are too high."
    )


def key_figures(material: Material, n_classes: int) -> Markup:
    """Return the leader's main figures in large type."""
    leader, facts = material.leader, list[tuple[str, str, str]]()
    if leader:
        split = material.choosing(leader) or ""
        metric, word = material.metric, material.word
        metrics, bounds = leader.metrics[split], leader.intervals.get(split, {}).get(metric)
        between = "" if bounds is None else f"95 %: {_between(metric, bounds)}"
        if bounds is not None and split in (leader.groups or {}):
            between += f", over {(leader.groups or {})[split]:,} groups"
        value = material.figure(metrics[metric])
        facts.append((f"{word}, {SPLIT_NAMES[split]}", value, between))
        run = material.runs.get(leader.id)
        if run is not None and (words := baseline_of(run.result, split, metric)) is not None:
            facts.append(words)
        if "test" in leader.metrics:
            test = material.figure(leader.metrics["test"].get(metric))
            facts.append((f"{word}, test", test, "reported, not used for ranking"))
        if leader.cost.images_per_second:
            rate = f"{leader.cost.images_per_second:,.0f}"
            facts.append(("images per second", rate, "forward pass, decoding included"))
    kind = "classes" if material.task.exclusive else "labels"
    facts.append((kind, f"{n_classes:,}", f"dataset {material.dataset}"))
    facts.append(("runs", f"{len(material.rows):,}", material.why))
    return element(
        "dl",
        [
            element(
                "div",
                [element("dt", word), element("dd", [value, element("small", more)])],
            )
            for word, value, more in facts
        ],
        {"class": "key"},
    )


def baseline_of(result: RunResult, split: str, metric: str) -> tuple[str, str, str] | None:
    """Return the figure of always predicting the largest class; None if unknown."""
    known = result.baseline
    if known is None or split not in known["figures"]:
        return None
    figures = known["figures"][split]
    name = metric if metric in figures else "top1"
    what = f"always {known['class']}" + f": {METRIC_WORDS[name]}" * (name != metric)
    return "largest class alone", percent(figures[name]), what


def leaderboard(material: Material) -> Markup:
    """Return the sortable table, at first ordered by the figures on held-out rows."""
    rows = material.rows
    splits = [material.choosing(row) for row in rows]
    costs = [one for one in COSTS if one[0] in HERE and any(one[1](row) for row in rows)]
    tests = any("test" in row.metrics for row in rows)
    letters = any(row.letters for row in rows)
    named = {split for split in splits if split}
    where = SPLIT_NAMES[named.pop()] if len(named) == 1 else "held out"
    headers = [column_header("#", "ascending"), column_header("features and head", css="")]
    headers += [column_header("ties")] if letters else []
    word = material.word
    headers += [column_header(f"{word}, {where}"), element("th", "95 % interval", {"scope": "col"})]
    headers += [
        column_header(SECOND.get(material.metric, OTHERWISE)[1]),
        *[column_header("log loss")] * (material.metric not in LOSSES),
        column_header("ECE"),
    ]
    headers += [column_header(f"{word}, test, reported", css="number reported")] if tests else []
    headers += [column_header(name) for name, _, _ in costs]
    scale = _scale(material)
    body = [
        element(
            "tr",
            _cells(material, row, costs, tests=tests, letters=letters, scale=scale),
            {"class": "first" if material.leader is row else None},
        )
        for row in rows
    ]
    caption = element(
        "caption",
        "Click a heading to sort. At first rows are ordered by their figures on held-out rows.",
    )
    content = [caption, element("thead", element("tr", headers)), element("tbody", body)]
    made = element("table", content, {"id": "leaderboard-table", "class": "sortable"})
    return scrolling(made, "Leaderboard")


def _scale(material: Material) -> tuple[float, float]:
    """Return the lowest and the highest end of all intervals."""
    values, metric = list[float](), material.metric
    for row in material.rows:
        split = material.choosing(row)
        if split and row.rank is not None:
            values += [row.metrics[split][metric], *row.intervals.get(split, {}).get(metric, ())]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _cells(
    material: Material,
    row: Row,
    costs: Sequence[Column],
    *,
    tests: bool,
    letters: bool,
    scale: tuple[float, float],
) -> list[Markup]:
    split = material.choosing(row)
    figures = row.metrics.get(split, {}) if split else {}
    cells = [number("" if row.rank is None else str(row.rank), row.rank), _name(material, row)]
    if letters:
        tie = element("span", row.letters, {"class": "tie"}) if row.letters else DASH
        cells.append(element("td", tie, {"class": "number", "data-value": row.letters or "~"}))
    metric = material.metric
    value = figures.get(metric)
    cells.append(number(material.figure(value), value))
    bounds = row.intervals.get(split, {}).get(metric) if split else None
    cells.append(element("td", _whisker(metric, value, bounds, scale)))
    second = figures.get(SECOND.get(metric, OTHERWISE)[0])
    cells.append(number(percent(second), second))
    if metric not in LOSSES:
        loss = figures.get("log_loss")
        cells.append(number(DASH if loss is None else f"{loss:.4f}", loss))
    error = figures.get("calibration_error")
    cells.append(number(percent(error), error))
    if tests:
        test = row.metrics.get("test", {}).get(metric)
        cells.append(number(material.figure(test), test, css="reported"))
    for _, of, say in costs:
        cost = of(row)
        cells.append(number(DASH if cost is None else say(cost), cost))
    return cells


def _name(material: Material, row: Row) -> Markup:
    title: object = row.name
    if row.id in material.runs:
        title = element("a", row.name, {"href": f"#run-{row.id}"})
    about = f"{row.head} head, {row.weights} weights"
    if row.penalty and row.best is not None:
        about += f", {row.penalty} {row.best:.3g}"
    small = [element("small", about)]
    if row.reason:
        summary = element("summary", f"{row.status}: why")
        small = [element("details", [summary, element("div", row.reason)])]
    return row_header([title, *small], row.name)


def _between(metric: str, bounds: tuple[float, float]) -> str:
    return span_text(metric, *bounds) + " %" * (metric not in LOSSES)


def _whisker(
    metric: str, value: float | None, bounds: tuple[float, float] | None, scale: tuple[float, float]
) -> Markup:
    """Return an interval as a small picture on a common scale, and as text."""
    if value is None or bounds is None:
        return element("span", DASH)
    low, high = scale
    span = max(high - low, 1e-9)
    x = [4 + 112 * (one - low) / span for one in (bounds[0], value, bounds[1])]
    words = _between(metric, bounds)
    line = element("line", "", {"x1": f"{x[0]:.1f}", "x2": f"{x[2]:.1f}", "y1": 8, "y2": 8})
    middle = {"class": "value", "x1": f"{x[1]:.1f}", "x2": f"{x[1]:.1f}", "y1": 3, "y2": 13}
    tick = element("line", "", middle)
    attributes = {"class": "whisker", "viewBox": "0 0 120 16", "aria-hidden": "true"}
    return join([element("svg", [line, tick], attributes), element("small", words)])
