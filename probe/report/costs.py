"""A table of what each row costs: time, compute, memory."""

from __future__ import annotations

from collections.abc import Callable

from probe.bench.record import Row
from probe.report.markup import (
    DASH,
    Markup,
    column_header,
    number,
    percent,
    row_header,
    table,
)
from probe.report.material import Material

Column = tuple[str, Callable[[Row], float | None], Callable[[float], str]]


def count(value: float) -> str:
    """Return a large number with a unit: 4.65 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def rate(value: float) -> str:
    """Return a number of images per second as text."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """Return a time with a unit: 1.5 min."""
    if value < 60:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"


COSTS: tuple[Column, ...] = (
    ("features", lambda row: row.feature_dim, lambda value: f"{value:,.0f}"),
    ("images/s", lambda row: row.cost.images_per_second, rate),
    ("extraction", lambda row: row.cost.extract_seconds, seconds),
    ("head fit", lambda row: row.cost.head_seconds, seconds),
    ("multiply-adds", lambda row: row.cost.multiply_adds, count),
    ("parameters", lambda row: row.cost.parameters, count),
    ("disk", lambda row: row.cost.disk, lambda value: f"{count(value)}B"),
    ("ImageNet top-1", lambda row: row.cost.imagenet_top1, lambda value: percent(value, 1)),
)


def cost_table(material: Material) -> Markup:
    """Return the sortable table of all costs that were measured or are known."""
    known = [one for one in COSTS if any(one[1](row) is not None for row in material.rows)]
    headers = [column_header("features and head", css="")]
    headers += [column_header(name) for name, _, _ in known]
    rows = []
    for row in material.rows:
        label = material.labels[row.id]
        cells = [row_header(label, label)]
        for _, of, say in known:
            value = of(row)
            cells.append(number(DASH if value is None else say(value), value))
        rows.append(cells)
    caption = "Extraction time is for all images of the dataset, with decoding."
    return table(headers, rows, caption=caption, css="sortable")
