"""What a bundle says of itself in `bundle.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import LOGITS, POOLS, BackboneSpec, Layer, Pool, resolve_pool
from probe.errors import BundleError, ProbeError
from probe.preprocess import PreprocessSpec

SCHEMA = 3
SEAL = "seal"  # a digest of all the rest: a class name that changed on the way changes answers
ABOUT = "bundle.json"
WEIGHTS = "weights.safetensors"
REFERENCE = "reference.safetensors"
NEIGHBOURS = "neighbours.safetensors"
OWN_TOP = "own top"
REMEMBERED = ("labels", "ids", "pictures")
TEXTS = ("backbone", "layer", "pool", "parameters", "weights", "licence", "dataset", "head", "run")


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """When a bundle says that it does not know, and what that did to held-out rows.

    Parameters
    ----------
    rate : float, in (0, 1)
        The share of held-out images that each of the two flags may hit.
    confidence : float or None
        ``unsure``: the highest probability is below it. None without held-out predictions.
    distance : float or None
        ``stranger``: the distance to the k-th nearest training image is above it. None where the
        bundle remembers no features.
    k : int
    confidence_rows, distance_rows : int
        Held-out rows that each was chosen on.
    top1_answered : float or None
        Accuracy on the held-out rows that are not unsure.
    errors_caught : float or None
        The share of wrong held-out predictions that are unsure.
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
    """What `bundle.json` says.

    Parameters
    ----------
    backbone, layer, pool : str
        `layer` is ``logits`` where the weights' own classifier is kept.
    preprocess : mapping
        Fields of a PreprocessSpec.
    classes : tuple of str
        In the order of the probabilities.
    parameters : str
        Digest of the network's parameters, as in a cache key.
    weights, licence : str
        Where the parameters came from, and under which terms.
    dataset, head, run : str
        What it was fitted on, with which solver, in which run.
    heads : tuple of str
        Files; the mean of their probabilities is the answer. Empty for the weights' own classifier.
    temperature : float or None
        Scores are divided by it before the softmax; fitted on held-out rows.
    rejection : Rejection or None
    remembers : str or None
        What is told of the nearest training images: one of `REMEMBERED`.
    metrics : mapping of split to mapping of name to float
        As the run measured them.
    intervals : mapping of split to mapping of name to (low, high)
        95 % intervals of some of them.
    files : mapping of name to SHA256
    schema : int
    """

    backbone: str
    layer: str
    pool: str
    preprocess: Mapping[str, Any]
    classes: tuple[str, ...]
    parameters: str
    weights: str
    licence: str
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
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the text of `bundle.json`."""
        data = json.loads(json.dumps(asdict(self), allow_nan=False))
        return json.dumps({**data, SEAL: seal_of(data)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes, where: str) -> About:
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            It is something else, of another version, was changed, or contradicts itself.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where}: {ABOUT} cannot be read ({_line(error)})") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise BundleError(
                f"{where}: {ABOUT} is not of a bundle that this version reads (schema {SCHEMA}); "
                "make the bundle again with `probe bundle`"
            )
        if data.pop(SEAL, None) != seal_of(data):
            raise BundleError(
                f"{where}: {ABOUT} is not what was written, by its own digest; copy the bundle "
                "again, or make it anew with `probe bundle`"
            )
        if odd := sorted(set(data) ^ {field.name for field in fields(cls)}):
            raise BundleError(f"{where}: {ABOUT} lacks fields or has strange ones: {odd[0]}")
        try:
            return _checked(data)
        except (TypeError, ValueError, LookupError) as error:
            raise BundleError(f"{where}: {ABOUT} makes no sense: {_line(error)}") from None

    @property
    def spec(self) -> BackboneSpec:
        """The architecture."""
        return BACKBONES[self.backbone]

    @property
    def cut(self) -> tuple[Layer, Pool]:
        """Where the network ends."""
        if self.layer == LOGITS:
            return self.spec.logits, "none"
        layer = self.spec.layer(self.layer)
        return layer, resolve_pool(layer, next((one for one in POOLS if one == self.pool), None))

    @property
    def expected_files(self) -> set[str]:
        """The files that have to be there, `bundle.json` and the card not counted."""
        beside = {NEIGHBOURS} if self.remembers else set()
        return {WEIGHTS, REFERENCE, *self.heads} | beside


def seal_of(data: Mapping[str, Any]) -> str:
    """Return the SHA256 of what `bundle.json` says, however it is laid out."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _checked(data: dict[str, Any]) -> About:
    """Return the fields with their types; whatever is wrong raises."""
    for name in TEXTS:
        _require(isinstance(data[name], str), f"{name} is no text")
    classes, heads = _strings(data["classes"], "classes"), _strings(data["heads"], "heads")
    _require(len(set(classes)) == len(classes) >= 2, "classes are not two or more names, all other")
    own = all(one.startswith("head") and one.endswith(".safetensors") for one in heads)
    _require(own and not set("/\\") & set("".join(heads)), "heads are no files of a bundle")
    temperature = data["temperature"]
    _require(temperature is None or _positive(temperature), "the temperature is no positive number")
    _require(data["remembers"] in (None, *REMEMBERED), "what it remembers has no known name")
    for name in ("metrics", "intervals", "files"):
        _require(isinstance(data[name], dict), f"{name} are no JSON object")
    _require(all(isinstance(one, str) for one in data["files"].values()), "files have no digests")
    PreprocessSpec.from_json(data["preprocess"], "preprocess")
    about = About(
        **{**data, "classes": classes, "heads": heads, "rejection": _rejection(data["rejection"])}
    )
    _check_cut(about)
    return about


def _rejection(data: Any) -> Rejection | None:
    if data is None:
        return None
    found = Rejection(**data)
    _require(isinstance(found.k, int) and found.k > 0, "k is no positive number")
    for value in (found.confidence, found.distance):
        _require(value is None or _positive(value), "a threshold is no positive number")
    return found


def _check_cut(about: About) -> None:
    try:
        layer, _ = about.cut
    except ProbeError as error:  # an unknown backbone, layer or pool
        raise ValueError(str(error)) from error
    _require(bool(about.heads) == (about.layer != LOGITS), "it has no head, or one too many")
    if about.layer == LOGITS:
        _require(len(about.classes) == layer.width, f"its top has {layer.width} classes")


def _strings(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} are no list of names")
    return tuple(value)


def _positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0  # type: ignore[arg-type, operator]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
