"""Predict image files in order, decoding them on threads while the network computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.machine import computing_threads
from probe.core.version import installed_versions
from probe.datasets import BadImage, decode
from probe.datasets.images.decode import WithinMemory, read_file
from probe.datasets.images.image_inputs import file_content
from probe.datasets.images.notes import Notes
from probe.datasets.images.prefetch import load_batches
from probe.datasets.spec import encoded_of
from probe.engines import engine_version
from probe.errors import DataError, ImageError
from probe.evaluation.multilabel import reached
from probe.predict.inputs import StoredImage
from probe.predict.predictor import Answers, Predictor
from probe.schedulers import Scheduler, spread

TOP_K = 5
BLOCK = 256  # images that a worker answers at a time


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
    notes: Notes | None = None,
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
    notes : Notes, optional
        Where unusual images are counted; by default they are warned of at the end.

    Yields
    ------
    Prediction or BadImage
        One for each image; the rest is predicted if one cannot be read.
    """
    bad: dict[int, str] = {}
    noted = Notes() if notes is None else notes
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
                return predictor.pack(decode(data, names[row], noted))
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
    if notes is None:
        noted.warn()


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


@dataclass(frozen=True, kw_only=True)
class PredictTask:
    """The work of `predict_images` that workers do; see `probe.schedulers.Task`.

    A block is images; what comes back is their predictions, and what was noted of the images.
    Workers find bundles and images where this process does.

    Parameters
    ----------
    load : callable
        Makes the predictor, there.
    engines : tuple of str
        What runs its networks.
    folder : str
        What the paths of images are relative to.
    """

    load: Callable[[], Predictor]
    engines: tuple[str, ...]
    top_k: int | None
    folder: str

    def versions(self) -> dict[str, str]:
        """Return the versions of what decodes images and of what runs the networks."""
        found = installed_versions(("pillow",))
        for name in self.engines:
            found |= engine_version(name)
        return found

    def open(self) -> Callable[[list[str | StoredImage]], tuple[list[Any], Any]]:
        """Return the function of a block."""
        predictor, threads = self.load(), computing_threads()

        def predict(images: list[str | StoredImage]) -> tuple[list[Any], Any]:
            notes = Notes()
            there = [
                os.path.join(self.folder, one) if isinstance(one, str) else one for one in images
            ]
            found = predict_images(predictor, there, top_k=self.top_k, workers=threads, notes=notes)
            return list(found), (notes.counts, notes.first)

        return predict


def predict_spread(
    task: PredictTask, images: Sequence[str | StoredImage], scheduler: Scheduler
) -> Iterator[Prediction | BadImage]:
    """Predict images on a scheduler's workers; the answers come in the images' order.

    Yields
    ------
    Prediction or BadImage
        As `predict_images`.
    """
    starts = range(0, len(images), BLOCK)
    blocks = ((list(images[start : start + BLOCK]), min(BLOCK, len(images) - start))
              for start in starts)  # fmt: skip
    ready: dict[int, list[Prediction | BadImage]] = {}
    notes, following = Notes(), 0
    for number, (answers, (counts, first)), _ in spread(scheduler, task, blocks):
        notes.absorb(Notes(counts, first))
        ready[number] = answers
        while following in ready:
            start = following * BLOCK
            for one, answer in zip(images[start : start + BLOCK], ready.pop(following),
                                   strict=True):  # fmt: skip
                name = one if isinstance(one, str) else one.name
                if isinstance(answer, BadImage):
                    yield replace(answer, id=name)
                else:
                    yield replace(answer, image=name)
            following += 1
    notes.warn()
