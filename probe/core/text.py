"""Capitalise the beginning of a sentence."""

from __future__ import annotations


def capital(word: str) -> str:
    """Return a word with a capital first letter; ``mAP`` stays as it is."""
    return word if word != word.lower() else word[:1].upper() + word[1:]
