"""The page about features without runs: what images they are of, in place of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from probe.cache.joining import Joined
from probe.core.columns import Column, names_of
from probe.core.text import counted
from probe.datasets.classes import has_labels
from probe.datasets.head_check import NO_LABELS
from probe.evaluation.task import task_of
from probe.report.markup import Markup, column_header, element, join, number, scrolling, table
from probe.report.material import Material
from probe.runs.columns import columns_of

MOST_CLASSES = 1000  # rows of the table
MOST_SHOWN = 20  # of them at a time
MOST_VALUES = 3  # of a column, the most frequent ones


def _joined(material: Material) -> Joined:
    (found,) = material.entries.values()
    return found


def answer(material: Material) -> Markup:
    """Return the heading's paragraph: what is on the page, what is not, and why."""
    entry = _joined(material).entry
    key = entry.key
    words: list[object] = [f"The images by their features: {key.backbone}, layer {key.layer}."]
    if has_labels(entry.classes):
        words += [
            " No head was fitted to them yet, so nothing is ranked and no errors are shown: ",
            element("code", f"probe head {entry.name}"), " fits one.",
        ]  # fmt: skip
    else:
        words.append(
            f" As {NO_LABELS}, no head can be fitted to them: nothing is ranked and no errors are "
            "shown."
        )
    if not material.audits:
        words += [" ", element("code", f"probe audit {entry.name}"), " adds duplicates."]
    return element("p", words, {"class": "lead"})


def key_figures(material: Material) -> Markup:
    """Return the number of images, classes and duplicates in large type."""
    joined = _joined(material)
    counts = {name: len(split) for name, split in joined.splits.items()}
    each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    classes, shape = joined.entry.classes, joined.entry.row_shape
    of_map = " x ".join(map(str, shape)) if len(shape) > 1 else ""
    labels = ("classes", f"{len(classes):,}") if has_labels(classes) else ("labels", "none")
    facts = [
        ("images", f"{sum(counts.values()):,}", each),
        (*labels, f"dataset {material.dataset}"),
        ("features an image", f"{joined.entry.width:,}", of_map),
    ]
    for audit in material.audits:
        copies = counted(len(audit.copies), "exact copy", "exact copies")
        more = f"cosine from {audit.threshold:.3g}; {copies}"
        facts.append(("near-duplicates", f"{len(audit.near_duplicates):,}", more))
    return element(
        "dl",
        [
            element("div", [element("dt", word), element("dd", [value, element("small", more)])])
            for word, value, more in facts
        ],
        {"class": "key"},
    )


def images(material: Material) -> Markup | None:
    """Return tables of the images by class and split, and of the columns of their table."""
    joined = _joined(material)
    found = [_classes(joined)] if has_labels(joined.entry.classes) else []
    if (columns := _columns(columns_of(joined))) is not None:
        found.append(columns)
    return join(found) if found else None


def _classes(joined: Joined) -> Markup:
    """Return how many images of each class each split has."""
    classes, splits = joined.entry.classes, joined.splits
    each = [task_of(split.labels).counts(split.labels, len(classes)) for split in splits.values()]
    lines = list(zip(classes, np.stack(each, axis=1).tolist(), strict=True))
    body = [
        element(
            "tr",
            [element("th", name, {"scope": "row"}), *(number(f"{one:,}", one) for one in line)],
        )
        for name, line in lines[:MOST_CLASSES]
    ]
    caption = "Click a heading to sort"
    if len(lines) > len(body):
        caption += f". The first {len(body):,} of {len(lines):,} classes"
    heads = [column_header("class", css=""), *(column_header(name) for name in splits)]
    content = [
        element("caption", caption), element("thead", element("tr", heads)), element("tbody", body)
    ]  # fmt: skip
    made = element("table", content, {"class": "sortable"})
    return scrolling(made, "Images by class", tall=len(body) > MOST_SHOWN)


def _columns(columns: Mapping[str, Mapping[str, Column]]) -> Markup | None:
    """Return a table of the columns: how many values, and which are the most frequent."""
    rows = []
    for name in names_of(columns.values()):
        counts: dict[str, int] = {}
        for own in columns.values():
            for value, count in (own[name].counts() if name in own else {}).items():
                counts[value] = counts.get(value, 0) + count
        empty = counts.pop("", 0)
        most = sorted(counts.items(), key=lambda one: -one[1])[:MOST_VALUES]
        frequent = ", ".join(f"{value} ({count:,})" for value, count in most)
        cells = [
            element("th", name, {"scope": "row"}),
            number(f"{sum(counts.values()):,}", sum(counts.values())),
            number(f"{empty:,}", empty), number(f"{len(counts):,}", len(counts)),
            element("td", frequent, {"class": "long"}),
        ]  # fmt: skip
        rows.append(cells)
    if not rows:
        return None
    heads = ("images", "without", "values")
    named = [
        "column",
        *(element("th", one, {"scope": "col", "class": "number"}) for one in heads),
        "most frequent",
    ]
    return table(named, rows, caption="Columns of the images' table")
