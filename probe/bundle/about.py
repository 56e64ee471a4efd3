"""The content of `bundle.json`: what a bundle is, and the checks when it is read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.bundle.network import WEIGHTS_FILE, NetworkAbout, passes_of
from probe.core.records import loads_json
from probe.core.short_repr import short_repr
from probe.errors import BundleError, ProbeError
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL, Task
from probe.evaluation.two_classes import Threshold
from probe.heads.projection import FILE_NAME as PROJECTION

SCHEMA = 5
ENSEMBLE = 6  # the schema of bundles whose heads read one network each, which older versions refuse
# In the schema before, the temperature divides the logarithms of probabilities, which are cut off
# at the smallest float64. Such bundles are still read, and answer as they did.
FROM_PROBABILITIES = 4
SEAL = "seal"  # a digest of the other fields, since a changed class name would change answers
ABOUT = "bundle.json"
REFERENCE = "reference.safetensors"
NEIGHBOURS = "neighbours.safetensors"
OWN_TOP = "own top"
REMEMBERED = ("labels", "ids", "pictures")
TEXTS = ("dataset", "head", "run")


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Thresholds of the two flags on doubtful answers, and their effect on held-out rows.

    Parameters
    ----------
    rate : float, in (0, 1)
        The share of held-out images that each of the two flags may apply to.
    confidence : float or None
        An image is ``low-confidence`` if its highest probability is below. None without held-out
        rows.
    distance : float or None
        An image is ``out-of-distribution`` if its distance to the k-th nearest training image is
        above. None if the bundle keeps no training features.
    confidence_rows, distance_rows : int
        Number of held-out rows that each threshold was chosen on.
    top1_answered : float or None
        Accuracy on the held-out rows without the flag ``low-confidence``.
    errors_caught : float or None
        The share of wrong held-out predictions with that flag.
    """

    rate: float
    confidence: float | None
    distance: float | None
    k: int
    confidence_rows: int
    distance_rows: int
    top1_answered: float | None = None
    errors_caught: float | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """The fields of `bundle.json`.

    Parameters
    ----------
    networks : tuple of NetworkAbout
        One or more; the head takes their concatenated features, in this order.
    pca : int or None
        Number of features after a PCA, which has its own file; None without a PCA.
    classes : tuple of str
        In the order of the probabilities.
    several : bool
        The bundle is multi-label: each class has a probability, and a row need not sum to 1.
    thresholds : tuple of float, or None
        Lowest probability at which each class is predicted, chosen on held-out rows; multi-label
        only.
    threshold : Threshold or None
        With two classes, from which log odds on the positive class is predicted, after the
        temperature. Older files lack the field.
    dataset, head, run : str
        The dataset it was fitted on, the kind of head, and the run.
    heads : tuple of str
        File names; their probabilities are averaged. Empty for the pretrained classifier.
    ensemble : bool
        Head n takes the features of network n alone: whole models, whose probabilities are
        averaged. Otherwise each head takes the features of all networks.
    temperature : float or None
        Scores are divided by it before the softmax; fitted on held-out rows.
    remembers : str or None
        What is kept of the nearest training images: one of `REMEMBERED`.
    metrics : mapping of split to mapping of name to float
        Figures that the run measured.
    intervals : mapping of split to mapping of name to (low, high)
        95 % intervals of some of them.
    files : mapping of name to SHA256
    """

    __repr__ = short_repr

    networks: tuple[NetworkAbout, ...]
    classes: tuple[str, ...]
    dataset: str
    head: str
    run: str
    heads: tuple[str, ...]
    temperature: float | None
    rejection: Rejection | None
    remembers: str | None
    metrics: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    files: Mapping[str, str]
    pca: int | None = None
    several: bool = False
    thresholds: tuple[float, ...] | None = None
    threshold: Threshold | None = None
    ensemble: bool = False
    schema: int = SCHEMA

    @property
    def task(self) -> Task:
        """Whether an image has one label or may have several."""
        return MULTI_LABEL if self.several else SINGLE_LABEL

    def to_json(self) -> str:
        """Return the text of `bundle.json`."""
        data = json.loads(json.dumps(asdict(self), allow_nan=False))
        if not self.ensemble:  # as bundles were before there were any
            del data["ensemble"]
        if self.threshold is None:
            del data["threshold"]
        else:
            data["threshold"] = self.threshold.to_dict()
        return json.dumps({**data, SEAL: seal_of(data)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes, where: str) -> About:
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            The text is no such file, of another version, was changed, or is inconsistent.
        """
        try:
            data = loads_json(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where}: {ABOUT} cannot be read ({_line(error)})") from None
        if not isinstance(data, dict) or not _readable(data.get("schema")):
            raise BundleError(f"{where}: {_other_schema(data)}")
        if data.pop(SEAL, None) != seal_of(data):
            raise BundleError(
                f"{where}: {ABOUT} is not what was written, by its own digest; copy the bundle "
                "again, or make it anew with `probe bundle`"
            )
        data.setdefault("threshold", None)
        data.setdefault("ensemble", False)
        if odd := sorted(set(data) ^ {field.name for field in fields(cls)}):
            raise BundleError(f"{where}: {ABOUT} lacks fields or has unknown ones: {odd[0]}")
        try:
            return _checked(data)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise BundleError(f"{where}: {ABOUT} makes no sense: {_line(error)}") from None

    @property
    def backbone(self) -> str:
        """The backbones' names, joined by ``+``; in an ensemble they are all of one."""
        if self.ensemble:
            return self.networks[0].backbone
        return "+".join(one.backbone for one in self.networks)

    @property
    def weights(self) -> str:
        """Where the networks' parameters came from, without repeats."""
        return ", ".join(dict.fromkeys(one.weights for one in self.networks))

    @property
    def licence(self) -> str:
        """The licence of the networks' parameters; if they differ, that of each network."""
        terms = {one.licence for one in self.networks}
        each = dict.fromkeys(f"{one.backbone}: {one.licence}" for one in self.networks)
        return terms.pop() if len(terms) == 1 else "; ".join(each)

    @cached_property
    def passes(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the networks that share each forward pass, in the order of its outputs."""
        return passes_of(self.networks)

    @property
    def expected_files(self) -> set[str]:
        """The names of the files of the bundle, without `bundle.json` and the model card."""
        beside = {NEIGHBOURS} if self.remembers else set()
        learnt = {PROJECTION} if self.pca else set()
        weights = {one.file for one in self.networks}
        return {REFERENCE, *weights, *self.heads} | learnt | beside

    @property
    def graph_files(self) -> set[str]:
        """The files that older bundles have, too; nothing reads them."""
        return {f"graph-{n + 1}.json" if n else "graph.json" for n in range(len(self.passes))}


MOST_NETWORKS = 64


def seal_of(data: Mapping[str, Any]) -> str:
    """Return the SHA256 of the fields of `bundle.json`, whatever the lay-out of the file."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _checked(data: dict[str, Any]) -> About:
    """Return the fields with their types; raises whatever a wrong field raises."""
    for name in TEXTS:
        _require(isinstance(data[name], str), f"{name} is no text")
    classes, heads = _strings(data["classes"], "classes"), _strings(data["heads"], "heads")
    _require(len(set(classes)) == len(classes) >= 2, "classes are not two or more names, all other")
    own = all(one.startswith("head") and one.endswith(".safetensors") for one in heads)
    _require(own and not set("/\\") & set("".join(heads)), "heads are no files of a bundle")
    _require(len(set(heads)) == len(heads), "a head is named twice")  # each would be loaded again
    temperature = data["temperature"]
    _require(temperature is None or _positive(temperature), "the temperature is no positive number")
    _require(
        data["remembers"] in (None, *REMEMBERED),
        "what it keeps of training images has no known name",
    )
    for name in ("metrics", "intervals", "files"):
        _require(isinstance(data[name], dict), f"{name} are no JSON object")
    _require(all(isinstance(one, str) for one in data["files"].values()), "files have no digests")
    figures = [one for split in data["metrics"].values() for one in split.values()]
    _require(all(map(_number, figures)), "a metric is no number")
    ends = [end for split in data["intervals"].values() for low, high in split.values()
            for end in (low, high)]  # fmt: skip
    _require(all(map(_number, ends)), "an interval is not two numbers")
    _require(isinstance(data["networks"], list) and data["networks"] != [], "there are no networks")
    _require(len(data["networks"]) <= MOST_NETWORKS, f"more than {MOST_NETWORKS} networks")
    _require(data["pca"] is None or _whole(data["pca"]), "the width after a PCA is no number")
    _require(data["ensemble"] is (data["schema"] == ENSEMBLE), "its schema is not an ensemble's")
    about = About(
        **{
            **data,
            "networks": tuple(_network(one) for one in data["networks"]),
            "classes": classes,
            "heads": heads,
            "rejection": _rejection(data["rejection"]),
            "threshold": _threshold(data["threshold"], classes, data["several"]),
            "thresholds": _thresholds(data["thresholds"], data["several"], len(classes)),
        }
    )
    _check_networks(about)
    return about


def _network(data: Any) -> NetworkAbout:
    """Return the description of a network, if it can be built."""
    _require(isinstance(data, dict), "a network is no JSON object")
    found = NetworkAbout(**data)
    for field in fields(found):
        value = getattr(found, field.name)
        _require(isinstance(value, str) != (field.name == "preprocess"), f"{field.name} is no text")
    _require(WEIGHTS_FILE.fullmatch(found.file) is not None, "weights are no file of a bundle")
    try:
        _ = found.preprocessing
        if not found.foreign:
            BACKBONES[found.backbone].cut(found.layer, found.pool)
    except ProbeError as error:  # an unknown backbone, layer or pool
        raise ValueError(str(error)) from error
    return found


def _thresholds(data: Any, several: Any, n_classes: int) -> tuple[float, ...] | None:
    _require(isinstance(several, bool), "whether it is multi-label is not recorded")
    if data is None:
        return None
    _require(several, "thresholds are for images of several labels")
    _require(isinstance(data, list) and len(data) == n_classes, "thresholds are not one a class")
    _require(all(_number(one) and 0 <= one <= 1 for one in data), "a threshold is not from 0 to 1")
    return tuple(float(one) for one in data)


def _threshold(data: Any, classes: tuple[str, ...], several: Any) -> Threshold | None:
    if data is None:
        return None
    _require(len(classes) == 2 and several is False, "a threshold is for two classes")
    found = Threshold(**data)
    _require(found.positive in classes, "the positive class is none of its classes")
    _require(isinstance(found.split, str), "the rows a threshold was chosen on have no name")
    _require(_number(found.log_odds), "a threshold is no number")
    _require(_whole(found.positives), "the rows a threshold was chosen on are no number")
    if found.recall is None:
        for cost in (found.false_positive, found.false_negative):
            _require(_positive(cost), "a cost of mistakes is no positive number")
        estimate = (found.expected, found.low, found.high)
        known = all(map(_number, estimate)) or estimate == (None, None, None)
        _require(known, "an expected cost is not three numbers")
        _require(found.always in (None, *classes), "the class always answered is none of its own")
        return found
    for share in (found.recall, found.bound):
        within = share is not None and _number(share) and 0 < share < 1
        _require(within, "a recall is not between 0 and 1")
    return found


def _rejection(data: Any) -> Rejection | None:
    if data is None:
        return None
    found = Rejection(**data)
    _require(_whole(found.k), "k is no positive number")
    _require(_number(found.rate) and 0 < found.rate < 1, "the rate is not between 0 and 1")
    for value in (found.confidence, found.distance):
        _require(value is None or _positive(value), "a threshold is no positive number")
    for rows in (found.confidence_rows, found.distance_rows):
        _require(rows == 0 or _whole(rows), "the held-out rows are no number of rows")
    for share in (found.top1_answered, found.errors_caught):
        _require(share is None or (_number(share) and 0 <= share <= 1), "a share is not 0 to 1")
    return found


def _check_networks(about: About) -> None:
    """Refuse networks that contradict each other or the heads."""
    own = [one for one in about.networks if one.own_top]
    _require(bool(about.heads) == (not own), "it has no head, or one too many")
    if own:
        _require(
            len(about.networks) == 1 and not about.pca, "a pretrained classifier is of one network"
        )
        layer, _ = BACKBONES[own[0].backbone].cut(own[0].layer, own[0].pool)
        _require(len(about.classes) == layer.width, f"its top has {layer.width} classes")
    if about.ensemble:
        each = len(about.heads) == len(about.networks) > 1 and not about.pca
        _require(each, "an ensemble has a head for each of several networks, and no PCA")
        alike = len({(one.backbone, one.layer, one.pool) for one in about.networks}) == 1
        _require(alike, "the networks of an ensemble are of several backbones")
    held = {one.file: one.backbone for one in about.networks}
    shared = all(held[one.file] == one.backbone for one in about.networks)
    _require(shared, "networks of two backbones have one file of weights")


def _readable(schema: Any) -> bool:
    return not isinstance(schema, bool) and schema in (FROM_PROBABILITIES, SCHEMA, ENSEMBLE)


def _other_schema(data: Any) -> str:
    """Return what to do with a bundle of another version, or with what is none."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        return f"{ABOUT} is not of a bundle"
    made = f"made by {'a newer' if schema > ENSEMBLE else 'an older'} probe (schema {schema})"
    if schema > ENSEMBLE:
        return f"{made}, and this one reads up to schema {ENSEMBLE}; update probe"
    run = data.get("run")
    name = run if isinstance(run, str) and re.fullmatch(r"[\w.-]+", run) else "RUN"
    return (
        f"{made}, and this one reads schema {SCHEMA}; make it again with "
        f"`probe bundle {name} --out ...`"
    )


def _strings(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} are no list of names")
    return tuple(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: object) -> bool:
    return _number(value) and value > 0  # type: ignore[operator]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
