"""The race before a bench: figures against images, and where each of the candidates stopped."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from probe.bench.race_record import Race, dropped_words, race_words
from probe.core.text import capital
from probe.report.markup import Markup, element, join, row_header, scrolling, table
from probe.report.material import Material
from probe.runs.results import METRIC_WORDS, figure_text

WIDTH, HEIGHT, LEFT, BELOW, ROOM = 640, 240, 72, 28, 12

Point = tuple[int, float]  # images, figure


def race(material: Material) -> Markup | None:
    """Return what a race did; None where this dataset had none."""
    races = material.bench.races if material.bench else ()
    found = next((one for one in races if one.dataset == material.dataset), None)
    if found is None:
        return None
    parts = [element("h3", "Race"), element("p", race_words(found))]
    if found.stages:
        parts += [_picture(found), _stops(found)]
    return join(parts)


def _lines(found: Race) -> dict[str, list[Point]]:
    """Return where each of the features stood at each size."""
    lines: dict[str, list[Point]] = {}
    for stage in found.stages:
        for one in stage.standings:
            lines.setdefault(one.name, []).append((stage.images, one.value))
    return lines


def _picture(found: Race) -> Markup:
    """Return a line for each of the features; one that was dropped ends with a cross."""
    lines = _lines(found)
    sizes = [stage.images for stage in found.stages]
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    span, octaves = max(high - low, 1e-9), max(log2(sizes[-1] / sizes[0]), 1e-9)

    def place(point: Point) -> tuple[float, float]:
        across = log2(point[0] / sizes[0]) / octaves if len(sizes) > 1 else 0.5
        x = LEFT + across * (WIDTH - LEFT - ROOM)
        return x, ROOM + (high - point[1]) / span * (HEIGHT - BELOW - 2 * ROOM)

    drawn = [_line(name, [place(one) for one in points], dropped=name in found.dropped)
             for name, points in lines.items()]  # fmt: skip
    for size in sizes:
        x, _ = place((size, high))
        drawn.append(_text(f"{size:,}", x, HEIGHT - ROOM, "middle"))
    for value in dict.fromkeys((low, high)):
        _, y = place((sizes[0], value))
        drawn.append(_text(figure_text(found.metric, value), LEFT - 8, y + 4, "end"))
    word = METRIC_WORDS[found.metric]
    label = f"{capital(word)} of {found.head} heads against the images of the sample"
    attributes = {"class": "race", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img",
                  "aria-label": label}  # fmt: skip
    caption = f"{label}. A line that ends with a cross is of features that were dropped there."
    picture = scrolling(element("svg", drawn, attributes), label)
    return element("figure", [picture, element("figcaption", caption, {"class": "note"})])


def _line(name: str, points: Sequence[tuple[float, float]], *, dropped: bool) -> Markup:
    x, y = points[-1]
    end = element("circle", "", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": 4})
    if dropped:
        strokes = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        end = element("path", "", {"d": strokes})
    way = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = [element("title", name), element("polyline", "", {"points": way}), end]
    return element("g", drawn, {"class": "dropped" if dropped else "kept"})


def _text(words: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", words, {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})


def _stops(found: Race) -> Markup:
    """Return a table of where each of the features stopped, and why."""
    rows = [(name, f"run on all {found.images:,} images") for name in found.kept]
    rows += list(found.left_out.items())
    rows += [
        (name, dropped_words(stage, one, found.metric))
        for name, (stage, one) in reversed(found.dropped.items())
    ]
    cells = [[row_header(name), element("td", words, {"class": "long"})] for name, words in rows]
    return table(["features", "how far they went"], cells, caption="Where each stopped")
