"""Check weights against a known answer on two photographs, in seconds and without a dataset.

Wrong preprocessing raises no error, and a wrong conversion only where shapes differ. So the weights
are run on scikit-learn's two sample photographs, resized to their native size, and a projection of
the features is compared with a recorded one. This tests the channel order, scale, mean and std, the
conversion and the network, but not the size that a pass runs at.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.foreign import BACKGROUND, ForeignBackbone
from probe.backbones.spec import BackboneSpec, Layer, resolve_pool
from probe.core.memo import Memo, stamp_of
from probe.core.version import installed_versions
from probe.engines import first_not_finite, forward
from probe.errors import WeightsError
from probe.preprocess.photographs import photographs
from probe.preprocess.spec import PreprocessSpec
from probe.weights.digest import file_digests
from probe.weights.known import KnownAnswer, record_answer, recorded_answers, shipped_answers
from probe.weights.load import CONVERSION
from probe.weights.resolve import OwnWeights, ResolvedWeights
from probe.weights.spec import WeightsSpec

log = logging.getLogger(__name__)

NUMBERS = 16  # length of the projection of a photograph's features
TOP = 5
SMALL = 64  # pixels, in the pass that only searches for NaN and infinity
# On the same pixels engines differ by less than 1e-4. Another JPEG decoder gives other pixels: one
# grey level of noise everywhere moves the features by up to 0.07 (Lite0), while the mildest wrong
# preprocessing moves them by 0.34 (VGG16 without its mean).
TOLERANCE, TOLERANCE_OTHER_PIXELS = 1e-3, 0.2
VERSION = 2  # increase it when the check of the same weights can have another result


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How weights compare with a known answer.

    Parameters
    ----------
    answer : KnownAnswer or None
        None if no answer was recorded.
    now : KnownAnswer
        The answer computed now, with the preprocessing that is checked.
    deviation : float or None
        Distance of the two projections over the norm of the known one; the larger of the
        two photographs.
    """

    answer: KnownAnswer | None
    now: KnownAnswer
    deviation: float | None

    @property
    def tolerance(self) -> float:
        """Return the largest deviation that counts as agreement."""
        same = self.answer is not None and self.answer.pixels == self.now.pixels
        return TOLERANCE if same else TOLERANCE_OTHER_PIXELS

    @property
    def agrees(self) -> bool:
        """Return whether the features, and the classes if there is a classifier, are the known."""
        if self.answer is None or self.deviation is None:
            return False
        if not self.deviation <= self.tolerance:  # NaN is no agreement
            return False
        resized = [_resizing(one.preprocess) for one in (self.answer, self.now)]
        if resized[0] != resized[1] and self.answer.pixels != self.now.pixels:
            return False
        # within the tolerance the fifth class may be another one, but not the first
        tops = list(zip(self.answer.top5, self.now.top5, strict=bool(self.answer.top5)))
        return all(a[0] == b[0] and len(set(a) & set(b)) >= TOP - 1 for a, b in tops)


def check_weights(
    weights: ResolvedWeights, backbone: BackboneSpec, *, cache_dir: Path, memo: Memo
) -> Verdict:
    """Run weights on the photographs and compare with the known answer, if there is one.

    Raises
    ------
    WeightsError, UnsafeFileError
        The weights cannot be read, do not fit, or hold no layer that works at their native size.
    """
    answer = find_answer(weights, backbone, cache_dir=cache_dir, memo=memo)
    if answer is None:
        return Verdict(answer=None, now=answer_now(weights, backbone, memo), deviation=None)
    preprocess = weights.preprocess  # whose resizing is as sure as its arithmetic, where foreign
    if not isinstance(backbone, ForeignBackbone):
        preprocess = with_arithmetic(answer.preprocess, preprocess)
    now = answer_now(
        replace(weights, preprocess=preprocess), backbone, memo, backbone.layer(answer.layer)
    )
    known, found = np.array(answer.projection), np.array(now.projection)
    off = np.linalg.norm(found - known, axis=1) / np.linalg.norm(known, axis=1)
    return Verdict(answer=answer, now=now, deviation=float(off.max()))


def check_first_use(
    weights: ResolvedWeights, backbone: BackboneSpec, *, cache_dir: Path, memo: Memo
) -> None:
    """Check weights unless they were checked before with this preprocessing.

    Raises
    ------
    WeightsError
        The features differ from the known answer; the message says what differs. Or there is no
        known answer, and a block of the network gives NaN or infinity.
    """
    if weights.path is None:
        return
    judged = json.dumps(_judged(weights.preprocess, weights))
    answers = [one.to_json() for one in _answers(backbone, cache_dir)]
    judged_by = hashlib.blake2b(f"{judged}{json.dumps(answers)}".encode(), digest_size=16)
    kind = f"known:{backbone.name}:{VERSION}:{CONVERSION}:{judged_by.hexdigest()}"
    place = str(weights.path.resolve())
    stamp = stamp_of(place)
    if place in memo.get_many(kind, {place: stamp}):
        return
    if find_answer(weights, backbone, cache_dir=cache_dir, memo=memo) is None:
        log.info("%s: unverified, no answer was recorded for these weights", weights.name)
        if isinstance(backbone, ForeignBackbone):
            record_answer(answer_now(weights, backbone, memo), cache_dir)
        else:
            require_finite(weights, backbone, memo)
    else:
        require_agreement(check_weights(weights, backbone, cache_dir=cache_dir, memo=memo), weights)
    memo.put_many(kind, [(place, stamp, b"passed")])


def require_finite(weights: ResolvedWeights, backbone: BackboneSpec, memo: Memo) -> None:
    """Run weights on the photographs and check every block's output for NaN and infinity.

    Finite parameters can overflow in a product, infinity minus infinity is NaN, and a ReLU turns
    NaN into 0, so that the features look normal. A small input size is enough to see it.

    Raises
    ------
    WeightsError
        A block gives NaN or infinity; the message names the first one.
    """
    layer = backbone.layer(weights.held(backbone, memo)[-1])
    side = layer.min_size if layer.min_size == layer.max_size else max(layer.min_size, SMALL)
    spec = weights.preprocess.with_size(side)
    parameters = weights.load(backbone, layer).parameters
    found = first_not_finite(backbone, parameters, [(layer, "none")], spec, photographs(spec))
    if found is not None:
        block, bad, count = found
        raise WeightsError(
            f"{weights.path}: on two photographs {block} gives NaN or infinity in {bad} of {count} "
            "numbers, which the ReLU behind it can hide; the weights are damaged, or need another "
            f"preprocessing than {spec.describe()}"
        )


def require_agreement(verdict: Verdict, weights: ResolvedWeights) -> None:
    """Raise an error if weights do not give their known answer.

    Raises
    ------
    WeightsError
        The message has the deviation and the part of the preprocessing that differs.
    """
    answer = verdict.answer
    if answer is None or verdict.agrees:
        return
    known, given = (_judged(one, weights) for one in (answer.preprocess, weights.preprocess))
    differing = [
        f"{field} is {_short(given[field])}, not {_short(known[field])}"
        for field in known
        if known[field] != given[field]
    ]
    take = f"take --preprocess {answer.preprocess.name}"
    if isinstance(weights, OwnWeights):
        stated = weights.network.published
        known_by = "leave --preprocess out" if answer.preprocess == stated else "give the known one"
        take = (
            f"{known_by}, or, if yours is right, make it the known one: the same --preprocess with "
            f"`probe weights check {weights.path} --record`"
        )
    advice = (
        f"{', '.join(differing)}; {take}"
        if differing
        else "the preprocessing is the known one, so the conversion or the network is at fault: "
        "please report it"
    )
    raise WeightsError(
        f"{weights.path}: on two photographs the features at {answer.layer} are off by "
        f"{100 * (verdict.deviation or 0):.0f} % from those of {answer.name}, so every accuracy "
        f"would suffer: {advice}"
    )


def find_answer(
    weights: ResolvedWeights, backbone: BackboneSpec, *, cache_dir: Path, memo: Memo
) -> KnownAnswer | None:
    """Return the known answer for weights; the user's own answers come first."""
    if weights.path is None:
        return None
    answers = _answers(backbone, cache_dir)
    own = isinstance(weights, OwnWeights)  # arrays beside the file may have changed
    sha256 = "" if own or not answers else file_digests(weights.path, memo).sha256
    for answer in answers:
        if answer.sha256 == sha256:
            return answer
    held = weights.held(backbone, memo) if answers else ()
    for answer in answers:
        if answer.layer in held:
            layer = backbone.layer(answer.layer)
            if weights.digest(backbone, layer, memo) == answer.parameters:
                return answer
    return _publishers_answer(weights, memo) if isinstance(weights, OwnWeights) else None


def _publishers_answer(weights: OwnWeights, memo: Memo) -> KnownAnswer | None:
    """Return the answer with the preprocessing that is published, if another is asked for."""
    network = weights.network
    stated = network.published
    if stated is None or network.fixed_side not in (None, stated.size):
        return None
    if _judged(stated, weights) == _judged(weights.preprocess, weights):
        return None
    answer = answer_now(replace(weights, preprocess=stated), network, memo)
    return replace(answer, name=network.published_by)


def answer_now(
    weights: ResolvedWeights, backbone: BackboneSpec, memo: Memo, layer: Layer | None = None
) -> KnownAnswer:
    """Run weights on the photographs.

    Parameters
    ----------
    layer : Layer, optional
        Default: the last one that the file holds.

    Raises
    ------
    WeightsError
        The weights are random, or do not fit.
    """
    if weights.path is None:
        raise WeightsError(f"{weights.name}: random weights have no known answer")
    if layer is None:
        usual = backbone.usual if isinstance(backbone, ForeignBackbone) else None
        layer = usual or backbone.layer(weights.held(backbone, memo)[-1])
    cuts = [(layer, resolve_pool(layer, None))]
    if weights.has_top(backbone) and weights.preprocess.size == backbone.input_size:
        cuts.append((backbone.logits, "none"))
    loaded = weights.load(backbone, cuts[-1][0])
    batch = photographs(weights.preprocess)
    features, *logits = forward(backbone, loaded.parameters, cuts, weights.preprocess, batch)
    projection = [tuple(float(f"{v:.6g}") for v in row) for row in project(features)]
    return KnownAnswer(
        name=weights.name,
        backbone=backbone.name,
        layer=layer.name,
        sha256=file_digests(weights.path, memo).sha256,
        parameters=weights.digest(backbone, layer, memo),
        preprocess=weights.preprocess,
        pixels=hashlib.blake2b(batch.tobytes(), digest_size=8).hexdigest(),
        projection=tuple(projection),
        top5=tuple(_top(row[row.size == BACKGROUND :]) for one in logits for row in one),
        made_with=", ".join(
            f"{name} {one}" for name, one in installed_versions(("onnxruntime", "pillow")).items()
        ),
    )


def project(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Project features (N, D) to (N, 16): multiply by fixed signs and divide by the root of D.

    The projection preserves distances between rows on average (Achlioptas, Database-friendly random
    projections, 2003). The signs are bits of SHAKE-256, which no version of a library changes.
    """
    count, width = features.shape
    stream = hashlib.shake_256(b"probe: known answers").digest(-(-NUMBERS * width // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=NUMBERS * width)
    signs = bits.reshape(width, NUMBERS) * 2.0 - 1.0
    projected: NDArray[np.float64] = features.astype(np.float64) @ signs / np.sqrt(width)
    return projected.reshape(count, NUMBERS)


def with_arithmetic(native: PreprocessSpec, given: PreprocessSpec) -> PreprocessSpec:
    """Return `native`'s resizing with the channel order, scale, mean and std of `given`."""
    return replace(
        native, name=given.name, channels=given.channels, scale=given.scale, mean=given.mean,
        std=given.std,
    )  # fmt: skip


def verified_by(spec: WeightsSpec, cache_dir: Path) -> str:
    """Return where the known answer of a catalog entry comes from.

    Returns
    -------
    str
        ``known answer`` (of this package), ``your answer`` (of `--record`) or ``unverified``.
    """
    if any(one.name == spec.name for one in shipped_answers()):
        return "known answer"
    own = any(one.name == spec.name for one in recorded_answers(cache_dir))
    return "your answer" if own else "unverified"


def _arithmetic(spec: PreprocessSpec) -> dict[str, object]:
    return {field: getattr(spec, field) for field in ("channels", "scale", "mean", "std")}


def _judged(spec: PreprocessSpec, weights: ResolvedWeights) -> dict[str, object]:
    """Return what of a preprocessing is compared with that of a known answer."""
    own = isinstance(weights, OwnWeights)
    return _arithmetic(spec) | (_resizing(spec) if own else {})


def _resizing(spec: PreprocessSpec) -> dict[str, object]:
    fields = ("size", "resize", "crop_fraction", "crop_rounding", "interpolation", "antialias")
    return {field: getattr(spec, field) for field in fields}


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{one:.6g}" for one in value) + ")"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _answers(backbone: BackboneSpec, cache_dir: Path) -> list[KnownAnswer]:
    every = (*recorded_answers(cache_dir), *shipped_answers())
    return [one for one in every if one.backbone == backbone.name]


def _top(row: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(-row, kind="stable")[:TOP])
