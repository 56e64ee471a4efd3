"""Words and values as sentences have them."""

from __future__ import annotations

import re

# what a terminal or a browser acts on: control characters (C0, DEL, C1), line and paragraph
# separators, marks that turn the direction of writing, and halves of surrogate pairs
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return a text of somebody else's as it can be shown: what would act is escaped.

    A class called ``ESC [2J`` would clear the screen, and one with a line break could forge lines.
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_json(text: str) -> str:
    """Return the same JSON with such signs as the escapes that JSON itself has for them."""
    lines = text.split("\n")  # JSON has none within a text
    return "\n".join(_ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", one) for one in lines)


def capital(word: str) -> str:
    """Return a word with a capital first letter; ``mAP`` stays as it is."""
    return word if word != word.lower() else word[:1].upper() + word[1:]


def counted(count: int, thing: str, things: str = "") -> str:
    """Return a number with what it counts: ``1 image``, ``2,000 images``.

    Parameters
    ----------
    things : str, optional
        The plural, where it is not the word with an s.
    """
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def shown(value: object) -> str:
    """Return a value as Python writes it; the `repr` of NumPy 2 is ``np.int64(0)`` for a 0."""
    return repr(value.tolist() if hasattr(value, "tolist") else value)
