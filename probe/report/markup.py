"""Build HTML from Python values; everything that is not `Markup` is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

REPLACEMENT, DASH = "\N{REPLACEMENT CHARACTER}", "\N{EN DASH}"
VOID = {"br", "hr", "img", "input", "meta"}


class Markup(str):
    """Text that is already HTML and is not escaped again."""

    __slots__ = ()


def element(
    name: str, content: object = "", attributes: Mapping[str, object] | None = None
) -> Markup:
    """Return one element.

    Parameters
    ----------
    content : str, Markup or iterable of them
        Plain text is escaped; so are the values of attributes.
    attributes : mapping, optional
        True gives an attribute without a value; None and False give none.
    """
    opening = name
    for key, value in (attributes or {}).items():
        if value is True:
            opening += f" {key}"
        elif value is not None and value is not False:
            opening += f' {key}="{escape(printable(str(value)))}"'
    if name in VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(content)}</{name}>")


def join(content: object) -> Markup:
    """Return the parts joined, with plain text escaped."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str) or not isinstance(content, Iterable):
        return Markup(escape(printable(str(content)), quote=False))
    return Markup("".join(join(part) for part in content))


def printable(text: str) -> str:
    """Return the text without control characters, which HTML does not allow."""
    return "".join(c if c.isprintable() or c in "\n\t" else REPLACEMENT for c in text)


def script_json(value: Any) -> Markup:
    """Return JSON for the inside of ``<script>``: no character in it can end the element.

    Raises
    ------
    ValueError
        A number is NaN or infinite.

    References
    ----------
    HTML Living Standard, "Restrictions for contents of script elements".
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # lone surrogates (file names that are not UTF-8) cannot be written to a file
    return Markup(text.encode("utf-8", "replace").decode())


def table(
    columns: Iterable[object],
    rows: Iterable[Iterable[object]],
    *,
    caption: str,
    css: str = "",
) -> Markup:
    """Return a table with a caption in a box that scrolls sideways."""
    head = element("tr", [as_header(column) for column in columns])
    body = [element("tr", [as_cell(cell) for cell in row]) for row in rows]
    made = element(
        "table",
        [element("caption", caption), element("thead", head), element("tbody", body)],
        {"class": css or None},
    )
    return scrolling(made, caption)


def scrolling(content: Markup, label: str, *, tall: bool = False) -> Markup:
    """Return a box that scrolls, also with the keyboard, if its content is too wide or tall."""
    css = "scroll tall" if tall else "scroll"
    attributes = {"class": css, "tabindex": 0, "role": "group", "aria-label": label}
    return element("div", content, attributes)


def as_cell(cell: object) -> Markup:
    """Return a ``td``, unless the content is already a cell."""
    if isinstance(cell, Markup) and cell.startswith(("<td", "<th")):
        return cell
    return element("td", cell)


def as_header(cell: object) -> Markup:
    """Return a ``th`` of a column, unless the content is already one."""
    if isinstance(cell, Markup) and cell.startswith("<th"):
        return cell
    return element("th", cell, {"scope": "col"})


def column_header(text: str, sort: str | None = None, *, css: str = "number") -> Markup:
    """Return a ``th`` that sorts when it is clicked; `sort` is the first order (``aria-sort``)."""
    button = element("button", text, {"type": "button"})
    return element("th", button, {"scope": "col", "class": css or None, "aria-sort": sort})


def row_header(content: object, value: str | None = None) -> Markup:
    """Return a ``th`` with the name of a row; `value` is what its column is sorted by."""
    return element("th", content, {"scope": "row", "class": "name", "data-value": value})


def number(text: str, value: float | None, *, css: str = "") -> Markup:
    """Return a cell with the number by which its column is sorted; None comes last."""
    attributes = {"class": f"number {css}".strip(), "data-value": None if value is None else value}
    return element("td", text, attributes)


def percent(value: float | None, digits: int = 2) -> str:
    """Return a fraction in percent; a dash for None."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"
