"""Recognise names of splits (train, val, test and synonyms), folds, masks and unlabelled images."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

EXACT = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
EITHER = "either"  # val or test
_WORDS = {
    **EXACT,
    **dict.fromkeys(("training", "trn", "trainval"), "train"),
    **dict.fromkeys(("validate", "validating", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("testing", "tst"), "test"),
    **dict.fromkeys(
        ("eval", "evaluation", "evaluate", "holdout", "heldout", "infer", "inference"), EITHER
    ),
}
_SHORT = {"tr": "train", "va": "val", "te": "test", "ts": "test"}  # only beside each other
_SUFFIXES = frozenset(
    ["data", "dataset", "dir", "flag", "folder", "images", "img", "imgs", "set", "sets", "split"]
)
_FILLERS = _SUFFIXES | frozenset(
    (
        "datasets", "for", "image", "in", "is", "of", "part", "phase", "photo", "photos", "pic",
        "pics", "picture", "pictures", "public", "private", "sample", "samples", "subset", "the",
    )
)  # fmt: skip
_MASKS = frozenset(
    (
        "annotation", "annotations", "groundtruth", "gt", "label", "labels", "mask", "masks",
        "segmentation", "segmentations", "trimap", "trimaps",
    )
)  # fmt: skip
_IMAGES = frozenset(
    (
        "image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture", "pictures",
        "rgb",
    )
)  # fmt: skip
_OF_MASK = re.compile(r"(.+)[ _.-](?:mask|masks|seg|segmentation)(?:[ _.-]?\d+)?", re.IGNORECASE)
_UNLABELLED = frozenset(("unlabeled", "unlabelled", "unannotated"))
_FOLD = re.compile(r"k?(fold|split|cv)s?[\W_]*\d+", re.IGNORECASE)


def split_words(names: Iterable[str], *, whole: bool) -> dict[str, str] | None:
    """Return the split that each name means; None unless all of them mean one.

    Case, separators, digits at the end and words such as ``set`` or ``images`` are ignored:
    ``Training``, ``test_set``, ``train2017``. ``eval`` and ``holdout`` are test, or val where
    there is another test. ``tr`` and ``te`` count only beside each other.

    Parameters
    ----------
    whole : bool
        Whether other words are forbidden: ``seg_train`` is train only where this is False.

    Returns
    -------
    dict of name to {"train", "val", "test"}, or None
    """
    names = list(names)
    found = {name: _split_of(name, whole=whole) for name in names}
    known = {split for split in found.values() if split is not None}
    for name in names:
        short = _SHORT.get(name.strip().lower())
        if found[name] is None and short is not None and len(names) > 1:
            found[name] = short
    if not names or None in found.values():
        return None
    if known != {*found.values()} and "train" not in found.values():
        return None  # nothing but short words, and no train among them
    held_out = "val" if "test" in found.values() else "test"
    return {
        name: held_out if split == EITHER else split
        for name, split in found.items()
        if split is not None
    }


def split_called(name: str) -> str:
    """Return train, val or test for a name of it that somebody types, else the name as it is.

    ``validation`` and ``dev`` are val. ``eval`` could be val or test, and stays.
    """
    found = _WORDS.get(name.strip().lower(), EITHER)
    return name if found == EITHER else found


def tells_apart(splits: Collection[str]) -> bool:
    """Whether splits are train and at least one other, so that they must not become classes."""
    return "train" in splits and len(set(splits)) > 1


def are_folds(names: Collection[str]) -> bool:
    """Whether there are two names or more and all are folds: ``fold_0``, ``split1``."""
    return len(names) > 1 and all(_FOLD.fullmatch(name.strip()) for name in names)


def without_labels(names: Collection[str]) -> list[str]:
    """Return the names of folders with unlabelled images, such as ``unlabeled``."""
    return [name for name in names if _UNLABELLED & {*name_words(name)}]


def are_images_and_masks(names: Collection[str]) -> bool:
    """Whether the names are those of folders of images and of their masks, and of nothing else.

    ``images`` and ``masks``, ``JPEGImages`` and ``SegmentationClass``; not ``mask``, ``no_mask``.
    """
    kinds = set()
    for name in names:
        words = {*name_words(re.sub(r"ground[\W_]*truth", "gt", name, flags=re.IGNORECASE))}
        if words & _MASKS and words <= _MASKS | _IMAGES | {"class", "object"}:
            kinds.add("masks")
        elif words and words <= _IMAGES:
            kinds.add("images")
        else:
            return False
    return len(kinds) > 1


def masks_among(stems: Collection[str]) -> list[str]:
    """Return the names, without endings, that are masks of others: ``1_mask`` beside ``1``."""
    there = set(stems)
    perhaps = [stem for stem in stems if "mask" in (lower := stem.lower()) or "seg" in lower]
    return [s for s in perhaps if (match := _OF_MASK.fullmatch(s)) and match[1] in there]


def name_words(name: str) -> list[str]:
    """Return the words of a name in lower case, without digits at their ends."""
    plain = unicodedata.normalize("NFC", name)
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()
    plain = re.sub(r"(hold|held)[\W_]+out", r"\1out", plain)
    words = re.split(r"[\W_]+", plain)
    return [stripped for word in words if (stripped := word.rstrip("0123456789"))]


def _split_of(name: str, *, whole: bool) -> str | None:
    found, others = set(), 0
    for word in name_words(name):
        split = _WORDS.get(word) or next(
            (_WORDS[w] for w in _WORDS if word.startswith(w) and word[len(w) :] in _SUFFIXES), None
        )
        if split is not None:
            found.add(split)
        elif word not in _FILLERS:
            others += 1
    return found.pop() if len(found) == 1 and not (whole and others) else None
