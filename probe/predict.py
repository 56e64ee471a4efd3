"""Images to labels: what is predicted, and finding the images that were meant."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle
from probe.datasets import BadImage, Split, decode_file
from probe.errors import ImageError, UsageError
from probe.loader import load_batches
from probe.metrics import Metrics, score
from probe.resize import resize_image

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
LISTS = (".txt", ".lst")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most probable classes of one image, best first.

    Parameters
    ----------
    image : str
        As it was named.
    labels : tuple of str
    probabilities : tuple of float
    """

    image: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


def find_images(inputs: Iterable[str], lines: Iterable[str] = ()) -> list[str]:
    """Return the paths that are meant, in order.

    Parameters
    ----------
    inputs : iterable of str
        An image; a folder, searched to the bottom; a pattern with ``*``; a ``.txt`` or ``.lst``
        file with a path a line; or ``-``, for `lines`.
    lines : iterable of str
        One path each.

    Raises
    ------
    UsageError
        A name stands for nothing, or nothing is left.
    """
    found: list[str] = []
    for name in inputs:
        if name == "-":
            found += _paths(lines)
        elif os.path.isdir(name):
            found += _below(name)
        elif os.path.isfile(name) and name.lower().endswith(LISTS):
            found += _paths(Path(name).read_text(encoding="utf-8").splitlines())
        elif os.path.isfile(name):
            found.append(name)
        elif matches := sorted(glob.glob(name, recursive=True)):
            found += [path for path in matches if os.path.isfile(path)]
        else:
            raise UsageError(f"{name}: no such image, folder or list, and no pattern that matches")
    if not found:
        raise UsageError("no images found; name files, a folder, a pattern or a list")
    return found


def _paths(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]


def _below(folder: str) -> list[str]:
    return sorted(
        os.path.join(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    )


def predict_images(
    bundle: Bundle, images: Sequence[str], *, top_k: int = 5, workers: int = 1
) -> Iterator[Prediction | BadImage]:
    """Predict image files in order, decoding them beside the network.

    Parameters
    ----------
    images : sequence of str
        Paths.
    top_k : int, default=5
        Classes told for each, at least 1; all of them where there are fewer.
    workers : int, default=1
        Threads that decode.

    Yields
    ------
    Prediction or BadImage
        One for each image; one that cannot be read does not keep the rest from being predicted.
    """
    size, bad = bundle.preprocess.size, dict[int, str]()

    def load(row: int) -> NDArray[np.uint8]:
        try:
            return resize_image(decode_file(images[row]), bundle.preprocess)
        except ImageError as error:
            bad[row] = error.reason
            return np.zeros((size, size, 3), np.uint8)

    step = bundle.engine.batch_size
    numbers = np.arange(len(images))
    batches = [numbers[start : start + step] for start in range(0, len(images), step)]
    for rows, batch in load_batches(load, batches, batch_size=step, workers=workers):
        probabilities = bundle.probabilities(bundle.features(batch)[: len(rows)])
        for row, one in zip(rows.tolist(), probabilities, strict=True):
            if row in bad:
                yield BadImage(id=images[row], reason=bad.pop(row))
            else:
                yield _prediction(images[row], one, bundle.about.classes, top_k)


def evaluate(
    bundle: Bundle,
    split: Split,
    classes: Sequence[str],
    *,
    workers: int = 1,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Metrics:
    """Score a bundle on labelled images; classes are matched by name.

    Parameters
    ----------
    split : Split
    classes : sequence of str
        What the split's labels stand for; every one of them has to be one of the bundle's.
    on_rows : callable, optional
        Told how many more images are done.

    Raises
    ------
    UsageError
        The dataset has a class that the bundle does not know.
    ImageError
        An image cannot be read.
    """
    known = {name: number for number, name in enumerate(bundle.about.classes)}
    if strangers := [name for name in classes if name not in known]:
        raise UsageError(
            f"the bundle knows no class {strangers[0]!r} ({len(strangers)} of {len(classes)} are "
            f"strange to it); its classes are {', '.join(bundle.about.classes[:10])}"
        )
    labels = np.array([known[name] for name in classes])[split.labels]
    step, numbers = bundle.engine.batch_size, np.arange(len(split))
    batches = [numbers[start : start + step] for start in range(0, len(split), step)]

    def load(row: int) -> NDArray[np.uint8]:
        return resize_image(split.images.image(row), bundle.preprocess)

    probabilities = []
    for rows, batch in load_batches(load, batches, batch_size=step, workers=workers):
        probabilities.append(bundle.probabilities(bundle.features(batch)[: len(rows)]))
        on_rows(len(rows))
    return score(np.concatenate(probabilities), labels, len(bundle.about.classes))


def _prediction(
    image: str, probabilities: NDArray[np.float64], classes: Sequence[str], top_k: int
) -> Prediction:
    best = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    return Prediction(
        image=image,
        labels=tuple(classes[number] for number in best),
        probabilities=tuple(float(probabilities[number]) for number in best),
    )
