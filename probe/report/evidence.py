"""The paired tests behind a leaderboard, and how well transferability scores predicted it."""

from __future__ import annotations

from collections.abc import Mapping

from probe.bench.record import SCORE_TITLES, Agreement, Comparison, Matrix, unbounded_words
from probe.core.text import capital, counted
from probe.evaluation.pairs import Pair
from probe.report.markup import DASH, Markup, element, join, number, row_header, table
from probe.report.material import Material
from probe.report.race import race
from probe.runs.results import METRIC_WORDS, difference_text, figure_text, span_text
from probe.runs.tie_words import settling_cell

MOST_PAIRS = 200


def tests(material: Material) -> Markup:
    """Return the race, the paired tests and the transferability scores of a bench."""
    comparison = material.comparison
    if comparison is None:
        return Markup("")
    parts = []
    if (raced := race(material)) is not None:
        parts.append(raced)
    if comparison.pairs:
        parts += _pairs(comparison, material.labels, material.metric)
    if comparison.agreement or comparison.scores:
        parts.append(_scores(comparison, material.metric))
    if material.bench and material.bench.matrix:
        parts.append(_matrix(material.bench.matrix, material.metric))
    return join(parts)


def _pairs(comparison: Comparison, names: Mapping[str, str], metric: str) -> list[Markup]:
    """Return the tests against the winner, and the other tests in a closed box."""
    n_pairs = len(comparison.pairs)
    several = comparison.pairs[0].only_a is None
    test = comparison.pairs[0].test or "a paired test"
    note = (
        f"Each row was tested on the same held-out images: {test}, two-sided, with "
        f"Holm's correction for {n_pairs:,} {'pair' if n_pairs == 1 else 'pairs'}. Rows that share "
        "a letter in the leaderboard are not distinguishable with these data."
    )
    if any(not pair.different and not pair.low <= 0 <= pair.high for pair in comparison.pairs):
        note += (
            " Each interval is for one pair alone: it can leave out 0 although the pair does not "
            "differ after the correction for the number of pairs."
        )
    settled = any(pair.settling for pair in comparison.pairs)
    if settled:
        note += (
            " Of those that are not told apart the last column says with how many held-out images "
            "the test would show the difference that was seen in four of five cases, were it real, "
            "and from how few to how many it takes for any that these images leave open."
        )
    words = ("difference", "95 %", *["only one right"] * (not several), "p, Holm")
    columns = [*map(_number, words), "different?", *["images that would show it"] * settled]
    first = [pair for pair in comparison.pairs if pair.a == comparison.winner]
    others = [pair for pair in comparison.pairs if pair.a != comparison.winner]
    winner = names[comparison.winner] if comparison.winner else ""
    rows = [[row_header(names[one.b]), *_pair(one, metric, settled)] for one in first]
    parts = [
        element("h3", "Is the difference real?"),
        element("p", note),
        table(["against", *columns], rows, caption=f"{winner} against each other row"),
    ]
    if others:
        rows = [
            [row_header(names[name]) for name in (one.a, one.b)] + _pair(one, metric, settled)
            for one in others[:MOST_PAIRS]
        ]
        caption = f"{len(rows):,} of {counted(len(others), 'pair')}"
        made = table(["higher", "lower", *columns], rows, caption=caption)
        summary = element("summary", f"The other pairs: {len(others):,}")
        attributes = {"class": "more"}
        parts.append(element("details", [summary, element("div", made)], attributes))
    return parts


def _number(text: str) -> Markup:
    return element("th", text, {"scope": "col", "class": "number"})


def _pair(pair: Pair, metric: str, settled: bool) -> list[Markup]:
    between = span_text(metric, pair.low, pair.high, "+")
    p = "< 0.0001" if pair.p_adjusted < 1e-4 else f"{pair.p_adjusted:.4f}"
    counts = None if pair.only_a is None else number(f"{pair.only_a:,} / {pair.only_b:,}", None)
    return [
        number(difference_text(metric, pair.difference, "+"), pair.difference),
        number(between, None),
        *([counts] if counts else []),
        number(p, pair.p_adjusted),
        element("td", element("strong", "yes") if pair.different else "not shown"),
        *[element("td", settling_cell(pair) or DASH, {"class": "long"})] * settled,
    ]


def _scores(comparison: Comparison, metric: str) -> Markup:
    names = list(dict.fromkeys(score.name for score in comparison.scores))
    features = list(dict.fromkeys(score.features for score in comparison.scores))
    values = {(score.features, score.name): score.value for score in comparison.scores}
    rows = []
    for one in features:
        figures = [values.get((one, name)) for name in names]
        cells = [number(DASH if value is None else f"{value:.4g}", value) for value in figures]
        rows.append([one, *cells])
    unbounded = [one.features for one in comparison.scores if one.value is None]
    agreement = [_agreement(one, metric) for one in comparison.agreement]
    columns = ["score", *map(_number, ("features", "Kendall's τ", "weighted τ", "p"))]
    columns += ["would have chosen", _number("loses")]
    parts = [
        element("h3", "Ranking without training"),
        element(
            "p",
            "Scores of the features on training rows, without fitting a head; higher is better."
            + f" {unbounded_words(unbounded)}" * bool(unbounded),
        ),
        table(
            ["features", *(_number(SCORE_TITLES.get(name, name)) for name in names)],
            rows,
            caption="Scores",
        ),
    ]
    if agreement:
        caption = "How well each score ranked the features, against each one's best head"
        parts.append(table(columns, agreement, caption=caption))
    return join(parts)


def _agreement(one: Agreement, metric: str) -> list[object]:
    return [
        SCORE_TITLES.get(one.score, one.score),
        number(str(one.n), one.n),
        number(f"{one.kendall:+.2f}", one.kendall),
        number(f"{one.weighted:+.2f}", one.weighted),
        number(f"{one.p:.3f}", one.p),
        one.best,
        number(difference_text(metric, one.loss), one.loss),
    ]


def _matrix(matrix: Matrix, metric: str) -> Markup:
    rows = []
    for name, values, rank in zip(matrix.names, matrix.values, matrix.average_ranks, strict=True):
        cells = [number(figure_text(metric, value), value) for value in values]
        rows.append([name, *cells, number(f"{rank:.2f}", rank)])
    columns = ["features and head", *map(_number, matrix.datasets), _number("average rank")]
    note = matrix.note
    if matrix.friedman_p is not None:
        note += f" Friedman's p {matrix.friedman_p:.4f}."
    if matrix.critical_difference is not None:
        note += f" Nemenyi's critical difference {matrix.critical_difference:.2f} ranks."
    caption = f"{capital(METRIC_WORDS[metric])} on held-out rows of each dataset"
    return join(
        [
            element("h3", "Several datasets"),
            element("p", note),
            table(columns, rows, caption=caption),
        ]
    )
