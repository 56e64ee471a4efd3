"""A table of figures by the values of a table's columns, with columns that may be a shortcut."""

from __future__ import annotations

from probe.bench.record import Row, Subgroups
from probe.report.markup import (
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

MOST = 20  # values of a row


def subgroups_of(material: Material, row: Row) -> Subgroups | None:
    """Return a row's figures by column; for an older bench those of its run."""
    if row.subgroups is not None or row.id not in material.runs:
        return row.subgroups
    return Subgroups.of(material.runs[row.id].result.subgroups)


def by_column(material: Material) -> Markup | None:
    """Return a table with each row's worst values first; None if no list has columns."""
    found = {row.id: subgroups_of(material, row) for row in material.rows}
    body, notes = [], list[str]()
    for name, groups in found.items():
        if groups is None:
            continue
        label, lines = material.labels[name], groups.lines
        if len(lines) > MOST:
            notes.append(f"{label}: the {MOST} worst of {len(lines)} values.")
        for column, one in lines[:MOST]:
            cells = [
                row_header(label), element("td", column),
                element("td", one.value), number(f"{one.n:,}", one.n),
                number(percent(one.figure), one.figure),
                number(f"{100 * one.low:.1f} to {100 * one.high:.1f}", one.low),
            ]  # fmt: skip
            body.append(element("tr", cells))
        notes += [
            f"{label}: {column} may be a shortcut (strength {of.shortcut:.2f}): the features "
            "predict it, and it is associated with the label."
            for column, of in groups.columns.items()
            if of.shortcut is not None
        ]
    if not body:
        return None
    splits = " and ".join(sorted({one.split for one in found.values() if one is not None}))
    heads = [column_header(word, css="") for word in ("features and head", "column", "value")]
    heads += [
        column_header(word)
        for word in ("images", f"{material.task.metric_label} on {splits}", "95 %")
    ]
    parts = [element("caption", "Each row's worst value first; click a heading to sort")]
    parts += [element("thead", element("tr", heads)), element("tbody", body)]
    made = element("table", parts, {"class": "sortable"})
    box = scrolling(made, "Figures by column", tall=True)
    listed = element("ul", [element("li", one) for one in notes], {"class": "notes"})
    return join([box, listed]) if notes else box
