"""Words and values as sentences have them."""

from __future__ import annotations


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
