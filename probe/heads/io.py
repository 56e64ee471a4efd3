"""A fitted head as one safetensors file: arrays, and a JSON header for the rest. No pickle.

The header's `__metadata__` has one item, `probe.head`: the JSON of format (1, or 2 where a row may
have several labels), head, params, classes and history. The arrays are the normaliser's `mean` and
`scale` and the head's own: `coef` and `intercept` of the last layer and `hidden.N.weight` and
`hidden.N.bias` of ReLU layers before it. An ensemble has its members' JSON in a list, and their
arrays under `member.N.`. Loading an estimator needs NumPy and scikit-learn, not MXNet; predicting
with a stack of layers NumPy alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.core.plain import plain_params
from probe.core.records import loads_json
from probe.core.regular import refuse
from probe.errors import HeadError, UnknownNameError
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL
from probe.heads.catalog import HEADS
from probe.heads.fitted import FittedHead, LayeredHead, layers_of
from probe.heads.normalize import NORMALIZATIONS, Normalizer

if TYPE_CHECKING:
    from probe.heads.base import BaseHead

FORMATS = {1: SINGLE_LABEL, 2: MULTI_LABEL}  # of a sigmoid a class older versions know nothing
KEY = "probe.head"
ENSEMBLE = "ensemble"
SAVED_ROWS = 4096  # at a time, of rows that are not in memory
LABEL_KINDS = "biufU"  # bool, integers, floats, text

Arrays = dict[str, NDArray[Any]]


def save_head(head: BaseHead, path: Path) -> None:
    """Write a fitted head by rename.

    Raises
    ------
    HeadError
        It is not in the catalog, not fitted, or its labels are neither numbers nor text.
    """
    from safetensors.numpy import save_file

    from probe.heads.ensemble import EnsembleHead

    if isinstance(head, EnsembleHead):
        about, arrays = _describe_ensemble(head)
    else:
        about, arrays = _describe(head)
    metadata = {KEY: json.dumps(about, allow_nan=False)}
    with replacing(Path(path)) as temporary:
        if all(isinstance(array, np.ndarray) for array in arrays.values()):
            whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            save_file(whole, temporary, metadata=metadata)
        else:
            _save_by_blocks(arrays, temporary, metadata)


def load_head(path: Path) -> BaseHead:
    """Read a head that `save_head` wrote; it predicts the same bits.

    Raises
    ------
    HeadError
        The file is missing, is something else, or contradicts itself.
    """
    about, arrays = _read(Path(path))
    with _one_line(path):
        if about["head"] == ENSEMBLE:
            return _restore_ensemble(about, arrays)
        return _restore(about, arrays)


def load_fitted(path: Path) -> FittedHead:
    """Read a head to predict with, the same bits as `load_head`'s.

    A stack of layers comes without its estimator, and so without scikit-learn.

    Raises
    ------
    HeadError
        As `load_head`.
    """
    about, arrays = _read(Path(path))
    if "coef" not in arrays:  # nearest neighbours, and ensembles
        return load_head(path)
    with _one_line(path):
        classes, normalizer, own = _common(about, arrays)
        layers = layers_of(own, len(normalizer.mean), len(classes))
        return LayeredHead(
            classes_=classes, normalizer_=normalizer, stack=layers,
            task_=FORMATS[about["format"]],
        )  # fmt: skip


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, UnknownNameError) as error:
        raise HeadError(
            f"{path}: not a head that this version can load: {_reason(error)}"
        ) from error


def _describe(head: BaseHead) -> tuple[dict[str, Any], Arrays]:
    name = type(head).name
    if name not in HEADS or HEADS[name].load() is not type(head) or not hasattr(head, "classes_"):
        raise HeadError(
            f"{type(head).__name__} is not a fitted head of the catalog; nothing was written"
        )
    classes, kind = _labels_to_json(head.classes_)
    about = {
        "format": next(number for number, task in FORMATS.items() if task is head.task_),
        "head": name,
        "params": plain_params(head.get_params(deep=False)),
        "classes": classes,
        "classes_dtype": kind,
        "normalize": head.normalizer_.kind,
        "history": [asdict(epoch) for epoch in head.history_],
    }
    normalizer = {"mean": head.normalizer_.mean, "scale": head.normalizer_.scale}
    return about, normalizer | head.arrays()


def _save_by_blocks(arrays: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file a block of rows at a time, for rows that are not in memory.

    References
    ----------
    https://github.com/huggingface/safetensors, "Format": the header's length, 8 bytes; the header;
    the arrays.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in arrays.items():
        size = array.dtype.itemsize * int(np.prod(array.shape))
        kind = f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"  # F32, I64
        header[name] = {
            "dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + size]
        }  # fmt: skip
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            for start in range(0, len(array), SAVED_ROWS):
                file.write(np.ascontiguousarray(array[start : start + SAVED_ROWS]).tobytes())


def _describe_ensemble(head: Any) -> tuple[dict[str, Any], Arrays]:
    described = [_describe(member) for member in head.members_]
    arrays = {
        f"member.{number}.{name}": array
        for number, (_, own) in enumerate(described)
        for name, array in own.items()
    }
    members = [about for about, _ in described]
    number = members[0]["format"]
    return {"format": number, "head": ENSEMBLE, "how": head.how, "members": members}, arrays


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise HeadError(f"{path}: no such file")
    try:
        refuse(path, path.stat())
        with safe_open(path, framework="numpy") as file:
            about = loads_json((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (
        SafetensorError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        MemoryError,
    ) as error:
        raise HeadError(f"{path}: not a head written by probe ({_reason(error)})") from error
    if not isinstance(about, dict) or about.get("format") not in FORMATS:
        raise HeadError(
            f"{path}: a head of another format than {' or '.join(map(str, FORMATS))}; fit it again"
        )
    return about, arrays


def _common(about: Mapping[str, Any], arrays: Arrays) -> tuple[NDArray[Any], Normalizer, Arrays]:
    """Return what every head has, classes and normaliser, and the arrays of its own."""
    own = dict(arrays)
    mean, scale = own.pop("mean"), own.pop("scale")
    if mean.ndim != 1 or scale.shape != mean.shape:
        raise ValueError(f"mean and scale have the shapes {mean.shape} and {scale.shape}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite numbers")
    if about["normalize"] not in NORMALIZATIONS:
        raise ValueError(f"normalize is {about['normalize']!r}")
    classes = _labels_from_json(about["classes"], about["classes_dtype"])
    if len(classes) < 2:
        raise ValueError(f"{len(classes)} classes")
    exclusive = FORMATS[about["format"]].exclusive
    if not exclusive and classes.tolist() != list(range(len(classes))):
        raise ValueError("several labels a row, and the classes are not their columns")
    return classes, Normalizer(kind=about["normalize"], mean=mean, scale=scale), own


def _restore(about: Mapping[str, Any], arrays: Arrays) -> BaseHead:
    from probe.heads.history import Epoch

    classes, normalizer, own = _common(about, arrays)
    head: BaseHead = HEADS[str(about["head"])].load()(**about["params"])
    head.classes_, head.normalizer_ = classes, normalizer
    head.task_ = FORMATS[about["format"]]
    head.history_ = [Epoch(**epoch) for epoch in about["history"]]
    head.n_features_in_ = len(normalizer.mean)
    head.set_arrays(own)
    return head


def _restore_ensemble(about: Mapping[str, Any], arrays: Arrays) -> BaseHead:
    from probe.heads.ensemble import EnsembleHead

    owned: list[Arrays] = [{} for _ in about["members"]]
    for name, array in arrays.items():
        _, number, own = name.split(".", 2)
        owned[int(number)][own] = array
    members = [_restore(one, own) for one, own in zip(about["members"], owned, strict=True)]
    return EnsembleHead.of(members, how=about["how"])


def _labels_to_json(classes: NDArray[Any]) -> tuple[list[Any], str]:
    labels = classes.tolist()
    if classes.dtype == object and all(isinstance(label, str) for label in labels):
        return labels, "object"
    if classes.dtype.kind not in LABEL_KINDS:
        raise HeadError(f"labels of type {classes.dtype} cannot be saved; use numbers or text")
    return labels, classes.dtype.str


def _labels_from_json(labels: Any, kind: Any) -> NDArray[Any]:
    if not isinstance(labels, list) or not isinstance(kind, str):
        raise ValueError("classes are not a list")
    if kind == "object" and all(isinstance(label, str) for label in labels):
        return np.array(labels, dtype=object)
    if kind == "object" or np.dtype(kind).kind not in LABEL_KINDS:
        raise ValueError(f"classes are of type {kind}")
    return np.array(labels, dtype=kind)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
