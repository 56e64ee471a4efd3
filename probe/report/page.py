"""Write the page: one HTML file that contains its styles, scripts, pictures and data."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from probe.core.files import write_text
from probe.core.version import __version__
from probe.errors import ProbeError
from probe.report import leaderboard, overview
from probe.report.analysis import AnyView, views_of
from probe.report.markup import Markup, element, join, script_json
from probe.report.material import Material
from probe.report.payload import payload
from probe.report.pictures import MOST_DETAILED, Advance, Pictures, Views
from probe.report.sections import asset, limits, sections_of
from probe.runs.results import now

SCRIPTS = (
    "data.js",
    "table.js",
    "plots.js",
    "confusion.js",
    "labels.js",
    "gallery.js",
    "map.js",
    "main.js",
)
PLOTLY_NOTICE = "Drawn by plotly.js, MIT licence, which is inside this file."


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that was written.

    Parameters
    ----------
    size : int
        Bytes.
    notes : tuple of str
        What the page does not show, and why.
    """

    path: Path
    size: int
    points: int
    thumbnails: int
    notes: tuple[str, ...]


def read_views(material: Material, advance: Advance) -> Views:
    """Reduce the predictions of the first runs, one run in memory at a time."""
    rows = [row for row in material.rows if row.id in material.runs][:MOST_DETAILED]
    views: dict[str, dict[str, AnyView]] = {}
    for row in rows:
        try:
            views[row.id] = views_of(material.runs[row.id])
        except ProbeError as error:  # the page shows the other runs
            material.notes.append(str(error))
            views[row.id] = {}
        advance("runs", 1, len(rows))
    return views


def write_page(
    path: Path, material: Material, views: Views, pictures: Pictures, *, command: str
) -> Page:
    """Build the page and write it.

    Parameters
    ----------
    command : str
        The command line that is shown on the page.

    Raises
    ------
    CacheError
        The path cannot be written.
    """
    write_text(path, render(material, views, pictures, command=command))
    return Page(
        path=path,
        size=path.stat().st_size,
        points=pictures.items.n_points if pictures.maps else 0,
        thumbnails=int(pictures.sheets.there.sum()) if pictures.sheets else 0,
        notes=tuple(notes_of(material, views, pictures)),
    )


def notes_of(material: Material, views: Views, pictures: Pictures) -> list[str]:
    """Return notes on what the page does not show."""
    return [*material.notes, *pictures.notes, *limits(material, views)]


def render(material: Material, views: Views, pictures: Pictures, *, command: str) -> str:
    """Return the page's HTML."""
    from plotly.offline import get_plotlyjs

    early = asset("theme.js")
    main = "(() => {\n'use strict';\n" + "\n".join(map(asset, SCRIPTS)) + "\n})();\n"
    scripts = [_closed(one) for one in (early, get_plotlyjs(), main)]
    sections = sections_of(material, views, pictures)
    notes = notes_of(material, views, pictures)
    title = f"{material.dataset}: " + ("which features to take" if material.rows else "its images")
    if material.rows:
        answer = leaderboard.answer(material)
        figures = leaderboard.key_figures(material, len(pictures.classes))
    else:
        answer, figures = overview.answer(material), overview.key_figures(material)
    return Template(asset("page.html")).substitute(
        policy=_policy(scripts),
        title=element("title", title),
        style=asset("page.css") + _sheet_rules(pictures),
        early=scripts[0],
        navigation=join([section.link() for section in sections]),
        heading=element("h1", title),
        answer=answer,
        figures=figures,
        notes=element("ul", [element("li", note) for note in notes], {"class": "notes"})
        if notes
        else "",
        sections=join([section.element() for section in sections]),
        footer=_footer(command),
        data=script_json(payload(material, views, pictures)),
        plotly=scripts[1],
        scripts=scripts[2],
    )


def _closed(script: str) -> str:
    """Return a script whose strings cannot end its ``<script>`` element."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _policy(scripts: Sequence[str]) -> Markup:
    """Return a policy under which only these scripts run and nothing is loaded from elsewhere.

    Plotly compiles code for WebGL with Function, which needs 'unsafe-eval'. Plotly and the
    thumbnails set styles of single elements, which needs 'unsafe-inline'.
    """
    sums = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in sums)
    policy = (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    attributes = {"http-equiv": "Content-Security-Policy", "content": policy}
    return element("meta", "", attributes)


def _sheet_rules(pictures: Pictures) -> str:
    sheets = pictures.sheets.sheets if pictures.sheets else ()
    return "".join(
        f"\n.s{n} {{ background-image: url(data:image/webp;base64,{one}); }}"
        for n, one in enumerate(sheets)
    )


def _footer(command: str) -> Markup:
    made = f"Made {now()} by probe {__version__} with "
    return element("p", [made, element("code", command), ". ", PLOTLY_NOTICE])
