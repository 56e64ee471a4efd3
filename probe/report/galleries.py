"""Lists with thumbnails: likely label errors and near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from probe.audit.record import Audit, LabelError
from probe.core.text import capital
from probe.datasets.classes import has_labels
from probe.datasets.copies import Copies, copies_in_words
from probe.report.markup import Markup, element, join, percent
from probe.report.pictures import MOST_LISTED, Pictures
from probe.report.provenance import command_line
from probe.report.thumbnails import COLUMNS, PER_SHEET
from probe.runs.duplicates import NearDuplicate
from probe.runs.results import METRIC_WORDS

SHOWN = 96  # CSS pixels of a thumbnail's side


def thumbnail(pictures: Pictures, split: str, name: str, words: str, shown: int = SHOWN) -> Markup:
    """Return an image's thumbnail, or an empty frame if there is none."""
    number = pictures.items.numbers.get((split, name))
    sheets = pictures.sheets
    if number is None or sheets is None or not sheets.there[number]:
        attributes = {"class": "thumb none", "role": "img", "aria-label": f"no picture: {words}"}
        return element("span", "", attributes)
    sheet, place = divmod(number, PER_SHEET)
    columns = min(COLUMNS, len(pictures.items) - PER_SHEET * sheet)
    x, y = place % COLUMNS * shown, place // COLUMNS * shown
    style = f"--shown:{shown}px;background-size:{columns * shown}px auto;"
    style += f"background-position:-{x}px -{y}px"
    attributes = {"class": f"thumb s{sheet}", "style": style, "role": "img", "aria-label": words}
    return element("span", "", attributes)


def audits(found: Sequence[Audit], pictures: Pictures) -> Markup:
    """Return the lists of all audits."""
    return join([_audit(audit, pictures) for audit in found])


def _audit(audit: Audit, pictures: Pictures) -> Markup:
    return join(
        [
            *_errors(audit, pictures),
            element("h3", f"Near-duplicates: {len(audit.near_duplicates):,}"),
            element("p", _leak(audit)),
            _listed(
                [_pair(one, pictures) for one in audit.near_duplicates[:MOST_LISTED]],
                "gallery wide",
            ),
            _more(len(audit.near_duplicates)),
            element("h3", f"Exact copies: {len(audit.copies):,}"),
            element("p", copies_in_words(audit.copies) + ".") if audit.copies else "",
            _listed([_copies(one, pictures) for one in audit.copies[:MOST_LISTED]], "gallery wide"),
            _more(len(audit.copies)),
            command_line(audit.command),
        ]
    )


def _errors(audit: Audit, pictures: Pictures) -> list[Markup]:
    """Return the list of doubtful labels; or why none was doubted."""
    if audit.undoubted is not None:
        said = element("p", f"No label was doubted: {audit.undoubted}.", {"class": "note"})
        return [said]
    several = "oof_hamming_loss" in audit.scores
    what = "lacks or has this label" if several else "is of another class"
    return [
        element("h3", f"Likely label errors: {len(audit.label_errors):,}"),
        element(
            "p",
            f"Among {audit.n_train:,} training images of {audit.entry}: heads that never saw "
            f"the image are confident that it {what}. Check an image before you relabel it.",
        ),
        _listed([_error(one, pictures) for one in audit.label_errors[:MOST_LISTED]], "gallery"),
        _more(len(audit.label_errors)),
    ]


def _leak(audit: Audit) -> str:
    text = f"Pairs whose features have a cosine of {audit.threshold:.3g} or more. "
    scores = audit.scores
    if "n_leaked" in scores:
        text += f"{int(scores['n_leaked']):,} of {audit.n_test:,} test images have one in train. "
    for metric, word in METRIC_WORDS.items():
        whole, without = scores.get(f"test_{metric}"), scores.get(f"test_{metric}_without")
        if whole is not None and without is not None:
            text += f"{capital(word)} on test is {percent(whole)}, and without those images "
            text += f"{percent(without)}."
    return text


def _error(one: LabelError, pictures: Pictures) -> Markup:
    words = f"{one.id}: labelled {one.given}, suggested {one.suggested}"
    text = [
        "labelled ",
        element("span", one.given, {"class": "wrong"}),
        element("br"),
        "looks like ",
        element("strong", one.suggested),
        element(
            "small", f"{percent(one.probability, 1)} against {percent(one.given_probability, 1)}"
        ),
        element("small", one.id),
    ]
    return _button(pictures, (one.split, one.id), words, text)


def _pair(one: NearDuplicate, pictures: Pictures) -> Markup:
    labels = _labels((one.label_a, one.label_b))
    sides = ((one.split_a, one.a, one.label_a), (one.split_b, one.b, one.label_b))
    both = [
        _button(pictures, (split, name), f"{name}: {label}" if labels else name, "")
        for split, name, label in sides
    ]
    return join(
        [
            element("div", both, {"class": "two"}),
            labels,
            element("small", f"{one.split_a} {one.a}"),
            element("small", f"{one.split_b} {one.b}"),
            element("small", f"cosine {one.similarity:.4f}"),
        ]
    )


def _copies(one: Copies, pictures: Pictures) -> Markup:
    """Return the first two of some copies, and how many there are."""
    places = list(zip(one.splits, one.ids, strict=True))
    both = [_button(pictures, place, place[1], "") for place in places[:2]]
    more = len(places) - 2
    return join(
        [
            element("div", both, {"class": "two"}),
            _labels(one.labels),
            *(element("small", f"{split} {name}") for split, name in places[:2]),
            element("small", f"and {more:,} more") if more else "",
        ]
    )


def _labels(labels: Sequence[str]) -> Markup:
    """Return the labels of the same picture, marked where they differ; nothing without labels."""
    different = list(dict.fromkeys(labels))
    if not has_labels(different):
        return Markup("")
    css = None if len(different) == 1 else "wrong"
    return element("span", " / ".join(different), {"class": css})


def _button(pictures: Pictures, key: tuple[str, str], words: str, text: object) -> Markup:
    picture = thumbnail(pictures, *key, words)
    number = pictures.items.numbers.get(key)
    if number is None:
        return join([picture, element("div", text)])
    inner = [picture, element("div", text) if text else ""]
    return element("button", inner, {"type": "button", "data-item": number, "title": words})


def _listed(parts: Sequence[Markup], css: str) -> Markup:
    if not parts:
        return element("p", "None found.", {"class": "note"})
    return element("ul", [element("li", part) for part in parts], {"class": css})


def _more(count: int) -> Markup:
    if count <= MOST_LISTED:
        return Markup("")
    text = f"The first {MOST_LISTED} of {count:,}; audit.json has them all."
    return element("p", text, {"class": "note"})
