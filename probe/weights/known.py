"""Known answers: features of two photographs that were recorded when the weights were right.

The answers of this package are in `known.json` beside this file; `probe weights check --record`
adds a user's own to ``cache_dir/weights/known.json``. An answer is found by the file's SHA256, so
that a wrong conversion is noticed, or by the digest of the converted parameters, so that a copy of
the weights in another format is recognised.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from probe.core.records import read_record, write_record
from probe.core.short_repr import short_repr
from probe.errors import DataError, WeightsError
from probe.preprocess.spec import PreprocessSpec

SHIPPED = Path(__file__).with_name("known.json")
CLASSES = Path(__file__).with_name("imagenet_classes.txt")
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class KnownAnswer:
    """Recorded features of one set of weights for scikit-learn's two sample photographs.

    Parameters
    ----------
    name : str
        The name of the weights, for messages.
    backbone, layer : str
        The layer whose features were projected: the last one that the file holds.
    sha256 : str
        The digest of the file.
    parameters : str
        Digest of the converted parameters up to `layer`.
    preprocess : PreprocessSpec
        The preprocessing of the weights.
    pixels : str
        Digest of the two resized photographs, as decoded where the answer was recorded.
    projection : tuple of tuple of float
        The features of each photograph, averaged over the map, times fixed signs: (2, 16).
    top5 : tuple of tuple of int
        ImageNet classes of each photograph, likeliest first; empty if there is no classifier.
    made_with : str
        Versions of the libraries, for messages.
    """

    __repr__ = short_repr

    name: str
    backbone: str
    layer: str
    sha256: str
    parameters: str
    preprocess: PreprocessSpec
    pixels: str
    projection: tuple[tuple[float, ...], ...]
    top5: tuple[tuple[int, ...], ...] = ()
    made_with: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: dict[str, Any], where: str) -> KnownAnswer:
        """Build an answer from decoded JSON.

        Raises
        ------
        UsageError, KeyError, TypeError, ValueError
            The data are not those of an answer.
        """
        rows = [tuple(float(value) for value in row) for row in data["projection"]]
        top5 = tuple(tuple(int(one) for one in row) for row in data["top5"])
        if len(rows) != 2 or len({len(row) for row in rows}) != 1 or len(top5) not in (0, 2):
            raise ValueError("a projection or a top 5 is not of two photographs")
        words = ("name", "backbone", "layer", "sha256", "parameters", "pixels", "made_with")
        return cls(
            **{word: str(data[word]) for word in words},
            preprocess=PreprocessSpec.from_json(data["preprocess"], where),
            projection=tuple(rows),
            top5=top5,
        )


@lru_cache(maxsize=1)
def shipped_answers() -> tuple[KnownAnswer, ...]:
    """Return the answers that come with this package."""
    return _read(SHIPPED)


def recorded_answers(cache_dir: Path) -> tuple[KnownAnswer, ...]:
    """Return the user's own answers.

    Raises
    ------
    WeightsError
        Their file is damaged.
    """
    path = _own(cache_dir)
    return _read(path) if path.is_file() else ()


def record_answer(answer: KnownAnswer, cache_dir: Path) -> Path:
    """Add an answer to the user's own; it replaces one of the same file and backbone.

    Returns
    -------
    Path
        The file of the user's answers.
    """
    same = (answer.backbone, answer.sha256)
    kept = [one for one in recorded_answers(cache_dir) if (one.backbone, one.sha256) != same]
    plain = [one.to_json() for one in [*kept, answer]]
    write_record(_own(cache_dir), {"schema": SCHEMA, "answers": plain}, indent=1)
    return _own(cache_dir)


@lru_cache(maxsize=1)
def class_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes in the order of their numbers.

    References
    ----------
    Russakovsky et al., ImageNet large scale visual recognition challenge, arXiv:1409.0575; a name
    is the first word of the class in WordNet 3.0, with an addition where two classes share it.
    """
    return tuple(CLASSES.read_text(encoding="utf-8").splitlines())


def _own(cache_dir: Path) -> Path:
    return cache_dir / "weights" / "known.json"


def _read(path: Path) -> tuple[KnownAnswer, ...]:
    def answers(data: Any) -> tuple[KnownAnswer, ...]:
        return tuple(KnownAnswer.from_json(one, str(path)) for one in data["answers"])

    mend = "remove it and record them again"
    try:
        return read_record(path, "known answers", answers, schema=SCHEMA, mend=mend)
    except DataError as error:
        raise WeightsError(str(error)) from None
