"""Predict image files in order, decoding them on threads while the network computes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.datasets import BadImage, decode
from probe.datasets.images.decode import WithinMemory, read_file
from probe.datasets.images.image_inputs import file_content
from probe.datasets.images.notes import Notes
from probe.datasets.images.prefetch import load_batches
from probe.datasets.spec import encoded_of
from probe.errors import DataError, ImageError
from probe.evaluation.multilabel import reached
from probe.predict.inputs import StoredImage
from probe.predict.predictor import Answers, Predictor

TOP_K = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction of one image, its most probable classes first; with a threshold its answer.

    Parameters
    ----------
    image : str
        Its name in the arguments.
    given : tuple of str or None
        Multi-label: the labels whose thresholds are reached, maybe none. None for single-label.
    flags : tuple of str
        ``low-confidence`` and ``out-of-distribution``, where they apply.
    distance : float or None
        Distance to the training images, if the bundle keeps some.
    columns : mapping of name to str
        What a table says of the image, where one named it.
    """

    image: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    given: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()
    distance: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def predict_images(
    predictor: Predictor,
    images: Sequence[str | StoredImage],
    *,
    top_k: int | None = None,
    workers: int = 1,
) -> Iterator[Prediction | BadImage]:
    """Predict images in order.

    Parameters
    ----------
    images : sequence of str or StoredImage
        Paths, or images within files.
    top_k : int, optional
        Number of classes for each image, at least 1. By default TOP_K; with a multi-label bundle
        the predicted labels, or if there are none the most probable.
    workers : int, default=1
        Threads that decode.

    Yields
    ------
    Prediction or BadImage
        One for each image; the rest is predicted if one cannot be read.
    """
    bad: dict[int, str] = {}
    notes = Notes()
    known: dict[int, bytes] = {}
    nothing = np.zeros(predictor.pixels, np.uint8)

    names = [one if isinstance(one, str) else one.name for one in images]

    def load(row: int) -> NDArray[np.uint8]:
        one = images[row]
        try:
            with WithinMemory(names[row]):
                data = read_file(one) if isinstance(one, str) else encoded_of(one.images, one.row)
                if data is None:
                    assert isinstance(one, StoredImage)
                    return predictor.pack(one.images.image(one.row))
                if predictor.has_cached_features and predictor.is_cached(
                    content := file_content(data)
                ):
                    known[row] = content
                    return nothing
                return predictor.pack(decode(data, names[row], notes))
        except DataError as error:
            bad[row] = error.reason if isinstance(error, ImageError) else str(error)
            return nothing

    step, numbers = predictor.batch_size, np.arange(len(images))
    batches = [numbers[start : start + step] for start in range(0, len(images), step)]
    for rows, batch in load_batches(load, batches, workers=workers):
        contents = [known.pop(row, None) for row in rows.tolist()]
        answers = predictor.answer(predictor.features(batch, contents))
        for place, row in enumerate(rows.tolist()):
            if row in bad:
                yield BadImage(id=names[row], reason=bad.pop(row))
            else:
                yield prediction_of(names[row], answers, place, predictor.classes, top_k)
    for line in notes.lines():
        log.warning("%s", line)


def prediction_of(
    image: str, answers: Answers, row: int, classes: Sequence[str], top_k: int | None
) -> Prediction:
    """Return the prediction of one image; see `predict_images`."""
    probabilities, distances = answers.probabilities[row], answers.verdicts.distances
    order, given = np.argsort(-probabilities, kind="stable"), None
    if answers.thresholds is None and order[0] != (winner := answers.winners[row]):
        order = np.concatenate([[winner], order[order != winner]])  # by a threshold
    best = order[: top_k or TOP_K]
    if answers.thresholds is not None:
        numbers = reached(probabilities, answers.thresholds)
        given = tuple(classes[number] for number in numbers.tolist())
        if top_k is None:
            best = numbers if len(numbers) else order[:1]
    return Prediction(
        image=image,
        labels=tuple(classes[number] for number in best.tolist()),
        probabilities=tuple(float(probabilities[number]) for number in best),
        given=given,
        flags=answers.verdicts.flags(row),
        distance=float(distances[row]) if distances is not None else None,
    )
