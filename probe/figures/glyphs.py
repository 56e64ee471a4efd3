"""Find fonts for letters that matplotlib's own font lacks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

OWN = "DejaVu Sans"  # comes with matplotlib
EMPTY = ("Last Resort",)  # fonts that draw a box for every letter
MOST_LISTED = 10  # class names in a message
MOST_FONTS = 500  # fonts opened in search of letters


@lru_cache(maxsize=1)
def _own_letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(OWN)).get_charmap())


def lacking(text: str) -> frozenset[str]:
    """Return the letters of a text that matplotlib's own font cannot draw."""
    return frozenset(c for c in text if c.isprintable() and ord(c) not in _own_letters())


@lru_cache(maxsize=256)
def family_for(letters: frozenset[str]) -> tuple[str, ...]:
    """Return font families that together can draw these letters, matplotlib's own first.

    For letters that no installed font has, see `undrawable`.
    """
    from matplotlib.font_manager import fontManager, get_font

    families, left = [OWN], {ord(c) for c in letters}
    fonts = {font.fname: font for font in fontManager.ttflist}
    for path, font in list(fonts.items())[:MOST_FONTS]:
        if not left:
            break
        if font.name.startswith(EMPTY) or font.name in families:
            continue
        try:
            found = left & set(get_font(path).get_charmap())
        except (OSError, RuntimeError):  # a font file that is damaged
            continue
        if found:
            families.append(font.name)
            left -= found
    return tuple(families)


@lru_cache(maxsize=256)
def undrawable(letters: frozenset[str]) -> frozenset[str]:
    """Return the letters that no installed font has."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    left = set(letters)
    for family in family_for(letters)[1:]:
        path = fontManager.findfont(FontProperties(family=family))
        left = {c for c in left if ord(c) not in get_font(path).get_charmap()}
    return frozenset(left)


def readable(names: Sequence[str]) -> list[str]:
    """Return class names that can be drawn: ``class N`` where no font has a name's letters.

    This is logged the first time for each list of names.
    """
    return list(_readable(tuple(names)))


@lru_cache(maxsize=8)
def _readable(names: tuple[str, ...]) -> list[str]:
    made = [
        f"class {number}" if undrawable(lacking(name)) else name
        for number, name in enumerate(names)
    ]
    numbered = [f"{one} for {name}" for one, name in zip(made, names, strict=True) if one != name]
    if numbered:
        more = " ..." if len(numbered) > MOST_LISTED else ""
        log.warning(
            "no installed font has the letters of these class names; the pictures show %s; a font "
            "such as Noto Sans CJK would have them",
            ", ".join(numbered[:MOST_LISTED]) + more,
        )
    return made


def mend(figure: Figure) -> None:
    """Set fonts that have the letters of each text; replace letters that no font has by "?"."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        letters = lacking(text.get_text())
        if letters:
            missing = undrawable(letters)
            text.set_text("".join("?" if c in missing else c for c in text.get_text()))
            text.set_fontfamily(list(family_for(letters)))
