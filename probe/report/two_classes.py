"""A table of the figures that only two classes have, run by run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.evaluation.two_classes import Threshold
from probe.report.leaderboard import SPLIT_NAMES
from probe.report.markup import (
    DASH,
    Markup,
    column_header,
    element,
    join,
    number,
    row_header,
    scrolling,
)
from probe.report.material import Material

NAMES = {
    "precision": "precision", "recall": "recall", "specificity": "specificity", "f1": "F1",
    "auc": "ROC AUC", "average_precision": "average precision", "cost": "cost an image",
}  # fmt: skip
SPLITS = ("oof", "val", "test")


def two_classes(material: Material) -> Markup | None:
    """Return the figures and thresholds of all runs on two classes; None without such runs."""
    lines = []
    results = {
        row.id: material.runs[row.id].result
        for row in material.rows
        if row.id in material.runs and material.runs[row.id].result.two_classes is not None
    }
    for name, result in results.items():
        lines += _lines(material.labels[name], result.two_classes or {})
    if not lines:
        return None
    used = [name for name in NAMES if any(name in figures for *_, figures, _ in lines)]
    heads = [column_header("run and answers", css=""), column_header("rows", css="")]
    heads += [column_header("positive"), *(column_header(NAMES[name]) for name in used)]
    body = []
    for title, about, positive, split, figures, bounds in lines:
        cells = [
            row_header([title, element("small", about)], title),
            element("td", SPLIT_NAMES[split], {"data-value": SPLITS.index(split)}),
            element(
                "td",
                [f"{figures['positives']:,}", element("small", positive)],
                {"class": "number", "data-value": figures["positives"]},
            ),
            *(_cell(name, figures.get(name), bounds.get(name)) for name in used),
        ]
        body.append(element("tr", cells))
    caption = "In percent, with 95 % intervals; costs in the unit in which they were given"
    made = element(
        "table",
        [
            element("caption", caption),
            element("thead", element("tr", heads)),
            element("tbody", body),
        ],
        {"class": "sortable"},
    )
    notes = [
        element(
            "li",
            f"{material.labels[name]}: {Threshold(**result.two_classes['threshold']).words()}.",
        )
        for name, result in results.items()
        if result.two_classes and "threshold" in result.two_classes
    ]
    parts = [scrolling(made, "Two classes")]
    if notes:
        parts += [element("h3", "Thresholds"), element("ul", notes, {"class": "said"})]
    return join(parts)


def _lines(
    title: str, two: Mapping[str, Any]
) -> list[tuple[str, str, str, str, Mapping[str, Any], Mapping[str, Any]]]:
    """Return a line for each held-out split, and another one if a threshold was chosen."""
    answers = {"the more probable class": two, "at the threshold": two.get("at_threshold")}
    return [
        (title, words, two["positive"], split, at["figures"][split], at["intervals"].get(split, {}))
        for split in SPLITS
        for words, at in answers.items()
        if at is not None and split in at["figures"]
    ]


def _cell(name: str, value: float | None, bounds: Any) -> Markup:
    if value is None:
        return number(DASH, None)
    if name == "cost":
        text, between = f"{value:.3g}", bounds and f"{bounds[0]:.3g} to {bounds[1]:.3g}"
    else:
        text = f"{100 * value:.1f}"
        between = bounds and f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"
    return element(
        "td", [text, element("small", between)] if between else text,
        {"class": "number", "data-value": value},
    )  # fmt: skip
