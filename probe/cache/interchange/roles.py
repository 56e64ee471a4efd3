"""Infer the role (features, labels, ids, class names) and split of an array from its name.

Names are divided at anything but letters and digits and before capitals, so that ``X_train``,
``train/features``, ``featuresTrain`` and ``xtest`` are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from probe.core.records import shown
from probe.errors import DataError, UsageError

SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "te": "test", "tst": "test",
}  # fmt: skip
ROLE_WORDS = {
    "features": "features", "feature": "features", "feats": "features", "feat": "features",
    "x": "features", "embeddings": "features", "embedding": "features", "embeds": "features",
    "embs": "features", "emb": "features", "fea": "features",
    "labels": "labels", "label": "labels", "y": "labels", "targets": "labels",
    "target": "labels", "gnd": "labels",
    "ids": "ids", "id": "ids", "filenames": "ids", "filename": "ids", "paths": "ids",
    "path": "ids", "filepaths": "ids",
    "classes": "classes", "classnames": "classes", "labelnames": "classes",
}  # fmt: skip
NEUTRAL = {"image", "img", "bottleneck", "clip", "cnn"}  # words that give no role
SPLITS = {
    "split",
    "splits",
    "subset",
    "partition",
    "fold",
    "folds",
    "set",
}  # names of arrays with the split of each row
ROLES = ("features", "labels", "ids", "classes")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_FUSED = {
    fused: (split, role)
    for split_word, split in SPLIT_WORDS.items()
    for role_word, role in ROLE_WORDS.items()
    for fused in (split_word + role_word, role_word + split_word)
    if fused not in SPLIT_WORDS  # "valid" is no "val" of "id"
}
# replaced by one word before names are divided
_WHOLE = {"class_names": "classnames", "label_names": "labelnames"}


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of a file's arrays; None for the usual ones.

    Parameters
    ----------
    labels : str, optional
        Also the path of a .npy file.
    """

    features: str | None = None
    labels: str | None = None
    ids: str | None = None


def split_and_role(name: str) -> tuple[str | None, str] | None:
    """Return the split (or None) and the role in an array's name; None where there is no role.

    Groups that lead to an array (``data/train/features``) may have any name.
    """
    *groups, last = re.split(r"/", name)
    split, role = None, None
    for part in (*groups, last):
        found = _taken_apart(part)
        if found is None:
            if part is last:
                return None
            continue
        if (split and found[0]) or (role and found[1]):
            return None
        split, role = split or found[0], role or found[1]
    return None if role is None else (split, role)


def _taken_apart(text: str) -> tuple[str | None, str | None] | None:
    split, role = None, None
    for old, new in _WHOLE.items():
        text = text.replace(old, new)
    whole = text.lower()
    words = [whole] if whole in _FUSED else [word.lower() for word in WORD.findall(text)]
    if not words or len("".join(words)) != len(re.sub(r"[\W_]", "", text)):
        return None
    for word in words:
        if word in NEUTRAL:
            continue
        one = _FUSED.get(word, (SPLIT_WORDS.get(word), ROLE_WORDS.get(word)))
        if one == (None, None) or (split and one[0]) or (role and one[1]):
            return None
        split, role = split or one[0], role or one[1]
    return split, role


def calls_itself_ids(name: str) -> bool:
    """Whether an array is named ids, and not, say, paths."""
    return any(word in {"id", "ids"} for word in re.split(r"[^a-z]+", name.lower()))


def tells_splits(name: str) -> bool:
    """Whether an array's name shows that it gives rows' splits: ``split``, ``train_idx``."""
    words = [word.lower() for word in WORD.findall(name.rpartition("/")[2])]
    if len(words) == 1:
        return words[0] in SPLITS
    of_split = {"is", "mask", "idx", "index", "indices", "inds", "ind", "loc"}
    return len(words) == 2 and any(
        one in SPLIT_WORDS and other in of_split for one, other in (words, words[::-1])
    )


def split_in(stem: str) -> str | None:
    """Return the split in a file's name, the last if there are several."""
    words = [word for word in re.split(r"[^a-z]+", stem.lower()) if word in SPLIT_WORDS]
    return SPLIT_WORDS[words[-1]] if words else None


def assign_roles(
    path: Path, found: Iterable[str], names: Names
) -> tuple[dict[str | None, dict[str, str]], list[str]]:
    """Return the array of each split and role by name, and the arrays without a role.

    Raises
    ------
    UsageError
        A requested name is missing.
    DataError
        Two arrays have the same split and role.
    """
    there = list(found)
    places: dict[str | None, dict[str, str]] = {}
    given = {role: getattr(names, role, None) for role in ROLES}
    asked = {role: _asked(path, there, role, name) for role, name in given.items() if name}
    taken = {name for one in asked.values() for name in one}
    for name in there:
        roles = [
            (split, role) for role, one in asked.items() for n, split in one.items() if n == name
        ]
        if not roles and name not in taken:
            place = split_and_role(name)
            roles = [place] if place is not None and place[1] not in asked else []
        for split, role in roles:
            other = places.setdefault(split, {}).setdefault(role, name)
            if other != name:
                raise DataError(
                    f"{path}: {shown(other)} and {shown(name)} are both "
                    f"{f'{split} ' if split else ''}{role}; say which is meant (--{role} NAME)"
                    if role != "classes"
                    else f"{path}: {shown(other)} and {shown(name)} both name the classes; "
                    "keep one of them"
                )
    used = {name for one in places.values() for name in one.values()}
    return places, [name for name in there if name not in used]


def _asked(path: Path, there: list[str], role: str, name: str) -> dict[str, str | None]:
    """Return the arrays that a requested name means: that array, or the one of each split."""
    if name in there:
        place = split_and_role(name)
        return {name: place[0] if place else None}
    found: dict[str, str | None] = {}
    for one in there:
        for word, split in SPLIT_WORDS.items():
            spelt = {f"{word}{mark}{name}" for mark in "_/.-"} | {
                f"{name}{mark}{word}" for mark in "_/.-"
            }
            if one in spelt:
                found[one] = split
    if not found:
        raise UsageError(
            f"--{role} {shown(name)}: {path} has {list_names(there)}; give one of these names"
        )
    return found


def list_names(names: Iterable[str]) -> str:
    """Return the first names and how many more there are."""
    all_of = list(names)
    more = f" and {len(all_of) - 8} more" if len(all_of) > 8 else ""
    return (", ".join(shown(name) for name in all_of[:8]) or "no arrays") + more


def merge_unnamed_split(
    path: Path, places: Mapping[str | None, dict[str, str]], unnamed: str
) -> dict[str, dict[str, str]]:
    """Assign arrays without a split to the split `unnamed`.

    Raises
    ------
    DataError
        There is another array of the same role, as ``X`` beside ``X_train``.
    """
    found = {split: dict(one) for split, one in places.items() if split is not None}
    for role, name in places.get(None, {}).items():
        if role == "classes":
            continue
        other = found.setdefault(unnamed, {}).setdefault(role, name)
        if other != name:
            raise DataError(
                f"{path}: {shown(name)} and {shown(other)} both are the {role} of {unnamed}; "
                f"import one alone (--features NAME --labels NAME), or name another --split"
            )
    return found
