"""Words as a sentence has them."""

from __future__ import annotations


def capital(word: str) -> str:
    """Return a word as a sentence begins with it; ``mAP`` stays as it is."""
    return word if word != word.lower() else word[:1].upper() + word[1:]
