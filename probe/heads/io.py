"""A fitted head as one safetensors file: arrays, and a JSON header for the rest. No pickle.

The header's `__metadata__` has one item, `probe.head`: the JSON of format, head, params, classes
and history. Loading needs NumPy and scikit-learn, not MXNet.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import HeadError, UnknownNameError
from probe.files import replacing
from probe.heads.catalog import HEADS
from probe.results import plain_params

if TYPE_CHECKING:
    from probe.heads.linear import LinearHead

FORMAT = 1
KEY = "probe.head"
ARRAYS = ("coef", "intercept", "mean", "scale")
LABEL_KINDS = "biufU"  # bool, integers, floats, text


def save_head(head: LinearHead, path: Path) -> None:
    """Write a fitted head by rename.

    Raises
    ------
    HeadError
        It is not in the catalog, not fitted, or its labels are neither numbers nor text.
    """
    from safetensors.numpy import save_file

    name = next((s.name for s in HEADS.values() if type(head) is s.load()), None)
    if name is None or not hasattr(head, "coef_"):
        raise HeadError(
            f"{type(head).__name__} is not a fitted head of the catalog; nothing was written"
        )
    classes, kind = _labels_to_json(head.classes_)
    about = {
        "format": FORMAT,
        "head": name,
        "params": plain_params(head.get_params(deep=False)),
        "classes": classes,
        "classes_dtype": kind,
        "normalize": head.normalizer_.kind,
        "history": [asdict(epoch) for epoch in head.history_],
    }
    arrays = {
        "coef": np.ascontiguousarray(head.coef_),
        "intercept": np.ascontiguousarray(head.intercept_),
        "mean": head.normalizer_.mean,
        "scale": head.normalizer_.scale,
    }
    with replacing(Path(path)) as temporary:
        save_file(arrays, temporary, metadata={KEY: json.dumps(about, allow_nan=False)})


def load_head(path: Path) -> LinearHead:
    """Read a head that `save_head` wrote; it predicts the same bits.

    Raises
    ------
    HeadError
        The file is missing, is something else, or contradicts itself.
    """
    path = Path(path)
    about, arrays = _read(path)
    try:
        return _restore(about, arrays)
    except (KeyError, TypeError, ValueError, UnknownNameError) as error:
        raise HeadError(
            f"{path}: not a head that this version can load: {_reason(error)}"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise HeadError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = sorted(file.keys())
            about = json.loads(metadata[KEY])
            arrays = {name: file.get_tensor(name) for name in names if name in ARRAYS}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise HeadError(f"{path}: not a head written by probe ({_reason(error)})") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or names != sorted(ARRAYS):
        raise HeadError(f"{path}: a head of another format than {FORMAT}; fit it again")
    return about, arrays


def _restore(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LinearHead:
    from probe.heads.linear import Epoch
    from probe.heads.normalize import NORMALIZATIONS, Normalizer

    classes = _labels_from_json(about["classes"], about["classes_dtype"])
    coef, mean = arrays["coef"], arrays["mean"]
    if coef.ndim != 2 or len(coef) < 2:
        raise ValueError(f"coef has the shape {coef.shape}")
    wanted = {"coef": (len(classes), coef.shape[1]), "intercept": (len(classes),)}
    wanted |= {"mean": (coef.shape[1],), "scale": (coef.shape[1],)}
    for name, array in arrays.items():
        if array.shape != wanted[name] or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} is not {wanted[name]} finite numbers")
    if about["normalize"] not in NORMALIZATIONS:
        raise ValueError(f"normalize is {about['normalize']!r}")
    head = HEADS[str(about["head"])].load()(**about["params"])
    head.classes_, head.coef_, head.intercept_ = classes, coef, arrays["intercept"]
    head.normalizer_ = Normalizer(kind=about["normalize"], mean=mean, scale=arrays["scale"])
    head.history_ = [Epoch(**epoch) for epoch in about["history"]]
    head.n_features_in_ = coef.shape[1]
    return head


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
