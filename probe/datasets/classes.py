"""Class names: which of them are equal, the order that numbers them, and whether there are any."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_WHOLE_FLOAT = re.compile(r"([+-]?[0-9]{1,400})\.0*")
_SHOWN = 3
UNLABELED = "unlabeled"  # the one class of images without labels


def has_labels(classes: Sequence[str]) -> bool:
    """Whether the images of a dataset or an entry with these classes have labels."""
    return tuple(classes) != (UNLABELED,)


def class_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which both ways to write "é" are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def lookalikes(classes: Sequence[str]) -> str | None:
    """Return a warning about classes that differ only in case, spaces or punctuation, or None."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_plain(name), []).append(name)
    groups = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if not groups:
        return None
    more = f" and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
    return (
        f"{', '.join(groups[:_SHOWN])}{more} are different classes, though their names differ only "
        "in case, spaces or signs"
    )


def called_instead(name: str, others: Iterable[str]) -> str:
    """Return a hint at a name that differs only in case, spaces or punctuation, or ``""``."""
    found = next((other for other in others if _plain(other) == _plain(name)), None)
    return "" if found is None else f" (where one is called {found!r})"


def _plain(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    return plain if _WHOLE.fullmatch(name) else re.sub(r"[\W_]+", "", plain) or plain


def same_numbers(names: Iterable[str]) -> dict[str, str]:
    """Return the class name of each label in a list.

    Where all are whole numbers, ``3.0`` is ``3``, since a table that once had an empty cell writes
    whole numbers like that. Leading zeros stay, so ``03`` and ``3`` are two classes.
    """
    names = list(names)
    floats = {name: match[1] for name in names if (match := _WHOLE_FLOAT.fullmatch(name))}
    if not all(name in floats or _WHOLE.fullmatch(name) for name in names):
        floats = {}
    return {name: floats.get(name) or class_name(name) for name in names}


def ordered_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return different names in the order that numbers the classes.

    By number where all are whole numbers, so that ``10`` comes after ``9`` (and ``01`` before
    ``1``, for both are 1); otherwise by text.
    """
    found = set(names)
    if all_whole(found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def all_whole(names: Iterable[str]) -> bool:
    """Whether all names are whole numbers."""
    return all(_WHOLE.fullmatch(name) for name in names)


def numbering(classes: Sequence[str]) -> str | None:
    """Return a line that says how classes named by whole numbers were ordered, or None."""
    if not classes or not all_whole(classes):
        return None
    shown = [f"{name!r} is {number}" for number, name in enumerate(classes[:_SHOWN])]
    if len(classes) > _SHOWN:
        shown[-1:] = ["...", f"{classes[-1]!r} is {len(classes) - 1}"]
    by_number = [*classes] == sorted(classes, key=lambda name: (int(name), name))
    order = "by number" if by_number else "not by number"
    values = {int(name) for name in classes}
    twice = "" if len(values) == len(classes) else "; names that differ in leading zeros are two"
    return f"names are whole numbers, in order {order}: class {', '.join(shown)}{twice}"
