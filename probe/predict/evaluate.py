"""Score bundles on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.html import Html
from probe.datasets import Split
from probe.datasets.images.decode import WithinMemory
from probe.datasets.images.notes import warn_of_unusual
from probe.datasets.images.prefetch import load_batches
from probe.errors import UsageError
from probe.evaluation.answer_table import Answered, write_answers
from probe.evaluation.many import Blocks
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.scored import (
    Scored,
    describe_labels,
    figures_of,
    intervals_of,
    measure,
    measure_blocks,
)
from probe.evaluation.splitting import Labels
from probe.evaluation.task import task_of
from probe.evaluation.two_classes import baseline_of, describe_two, positive_class
from probe.evaluation.units import Units, count_units, dealt
from probe.predict.predictor import Answers, Predictor
from probe.runs.results import METRIC_WORDS, figure_text, span_text

Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    Parameters
    ----------
    scored : Scored
        Probabilities, labels and metrics.
    figures : mapping of name to float
        Metrics; with multi-label images also F1 at the thresholds.
    labels : mapping of class name to its figures, or None
        Multi-label only, as in `RunResult.multilabel`.
    intervals : mapping of metric to (low, high)
        95 % intervals over the rows.
    low_confidence, out_of_distribution : float or None
        The share of rows with each flag; None if the bundle has no such threshold.
    top1_answered : float or None
        Top-1 on the rows without a flag; None for multi-label images.
    from_cache : int
        Number of rows whose features were in the cache.
    n_groups : int or None
        Number of groups of rows, over which intervals are computed; None without groups.
    subgroups : mapping or None
        Figures by columns of the list, as in `RunResult.subgroups`.
    baseline : mapping or None
        ``class``, the largest one of these rows, and ``top1`` and ``mean_recall`` of always
        predicting it. None for multi-label images.
    two_classes : mapping or None
        Two classes only: ``positive``, ``figures``, ``intervals``, as `RunResult.two_classes` has
        them for a split; if the bundle has a threshold also
        ``threshold`` and ``at_threshold``.
    dataset, split : str
        Empty where rows were given without them.
    n_images : int
    test_evaluations : int or None
        How often these test images were scored until now; None for another split.
    classes : tuple of str
        Of the bundle, in the order of the probabilities.
    answers : intp, (n_images,), or uint8, (n_images, n_classes)
        Number of the class that each image is answered; multi-label: 1 for each label.
    predictions : Predictions or None
        Of each image, with its id and what a table says of it; None where rows were given without
        a dataset.
    """

    scored: Scored
    figures: dict[str, float]
    labels: dict[str, Any] | None
    intervals: dict[str, tuple[float, float]]
    low_confidence: float | None
    out_of_distribution: float | None
    top1_answered: float | None
    from_cache: int = 0
    n_groups: int | None = None
    subgroups: Mapping[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    two_classes: dict[str, Any] | None = None
    dataset: str = ""
    split: str = ""
    n_images: int = 0
    test_evaluations: int | None = None
    classes: tuple[str, ...] = ()
    answers: NDArray[Any] | None = None
    predictions: Predictions | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{METRIC_WORDS.get(name, name)} {figure_text(name, value)}"
                          for name, value in self.figures.items())  # fmt: skip
        return f"<Evaluation on {self.n_images:,} {self.split} images of {self.dataset}: {shown}>"

    def _repr_html_(self) -> str:
        rows = [
            [METRIC_WORDS.get(name, name), figure_text(name, value),
             span_text(name, *self.intervals[name]) if name in self.intervals else ""]
            for name, value in self.figures.items()
        ]  # fmt: skip
        title = f"Evaluation on {self.n_images:,} {self.split} images of {self.dataset}"
        return Html().title(title).table(["", "", "95 % interval"], rows).text()

    def to_csv(self, path: Path) -> None:
        """Write a CSV file with a row an image; see `write_answers`.

        Raises
        ------
        CacheError
            The file cannot be written.
        """
        if self.predictions is None or self.answers is None:
            raise ValueError("rows without a dataset have no names")
        told = Answered(said=self.predictions, answers=self.answers)
        write_answers(path, {self.split: told}, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; figures that were not measured are absent."""
        flags = {
            "low_confidence": self.low_confidence,
            "out_of_distribution": self.out_of_distribution,
            "top1_answered": self.top1_answered,
        }
        return {
            "dataset": self.dataset,
            "split": self.split,
            "n": self.n_images,
            "metrics": self.figures,
            **({} if self.labels is None else {"labels": self.labels}),
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            **{name: value for name, value in flags.items() if value is not None},
            **({} if self.baseline is None else {"baseline": self.baseline}),
            **({} if self.two_classes is None else {"two_classes": self.two_classes}),
            "from_cache": self.from_cache,
            **({} if self.n_groups is None else {"groups": self.n_groups}),
            **({} if self.subgroups is None else {"subgroups": self.subgroups}),
            **({} if self.test_evaluations is None else {"test_looks": self.test_evaluations}),
        }


def evaluate(
    predictor: Predictor,
    split: Split,
    classes: Sequence[str],
    *,
    workers: int = 1,
    on_rows: Callable[[int], None] = lambda _: None,
    units_of: Callable[[Part], Units] | None = None,
    positive: str | None = None,
) -> Evaluation:
    """Score bundles on labelled images, with classes matched by name.

    Parameters
    ----------
    classes : sequence of str
        Names of the split's labels; each has to be a class of the bundle.
    on_rows : callable, optional
        Called with the number of images that were done since the last call.
    units_of : callable, optional
        From the images with the first bundle's features to their units, int, (n_images,). By
        default each image is its own unit.
    positive : str, optional
        The positive class of two. Default: that of the bundle's threshold, else the second.

    Raises
    ------
    UsageError
        The dataset has no images or a class that the bundle lacks, or only one of dataset and
        bundle is multi-label.
    ImageError
        An image cannot be read.
    """
    labels = _labels(predictor, split, classes)
    two = _positive(predictor, positive, labels)
    contents = _contents(predictor, split)
    step, numbers = predictor.batch_size, np.arange(len(split))
    batches = [numbers[start : start + step] for start in range(0, len(split), step)]
    nothing = np.zeros(predictor.pixels, np.uint8)

    def load(row: int) -> NDArray[np.uint8]:
        if contents[row] is not None:
            return nothing
        with WithinMemory(split.ids[row]):
            return predictor.pack(split.images.image(row))

    answers: list[Answers] = []
    seen: list[NDArray[Any]] = []

    def answered() -> Iterator[tuple[NDArray[np.intp], Array64]]:
        """Yield probabilities batch by batch, and keep the rest of the answers."""
        for rows, batch in load_batches(load, batches, workers=workers):
            here = [contents[row] for row in rows.tolist()]
            features = predictor.features(batch, here)
            if units_of is not None:
                seen.append(features[0][:, 0])
            answer = predictor.answer(features)
            answers.append(replace(answer, probabilities=answer.probabilities[:0]))
            on_rows(len(rows))
            yield rows, answer.probabilities

    scored = _scored(answered, labels, len(predictor.classes))
    warn_of_unusual([split.images])
    units = None
    if units_of is not None:
        units = units_of(Part(X=np.concatenate(seen), y=labels, ids=split.ids))
    known = sum(one is not None for one in contents)
    scored = replace(scored, units=dealt(units, len(labels)))
    found = _evaluation(predictor, answers, labels, scored)
    two_figures = describe_two({"test": found.scored}, predictor.classes, two, predictor.threshold)
    reached = answers[0].thresholds
    answered_as: NDArray[Any] = (
        np.concatenate([one.winners for one in answers])
        if reached is None
        else (found.scored.probabilities >= reached).astype(np.uint8)
    )
    found = replace(found, classes=tuple(predictor.classes), answers=answered_as)
    return replace(found, from_cache=known, two_classes=two_figures and _of_test(two_figures))


def _scored(answered: Blocks, labels: Labels, n_classes: int) -> Scored:
    """Score probabilities that come in batches; with thousands of classes they are read twice."""
    task = task_of(labels)
    if task.are_many(len(labels), n_classes):

        def blocks() -> Iterator[tuple[NDArray[np.intp], Array64]]:
            for rows, p in answered():
                yield rows, task.logits_of(p)

        return measure_blocks(blocks, labels, n_classes)
    return measure(np.concatenate([p for _, p in answered()]), labels)


def _positive(predictor: Predictor, named: str | None, labels: Labels) -> int | None:
    """Return the index of the positive class if there are two classes."""
    threshold = predictor.threshold
    if threshold is not None and named not in (None, threshold.positive):
        raise UsageError(
            f"--positive {named}: the bundle has a threshold for {threshold.positive}; leave the "
            "option out"
        )
    named = threshold.positive if threshold is not None else named
    return positive_class(predictor.classes, named, labels)


def _labels(predictor: Predictor, split: Split, classes: Sequence[str]) -> Labels:
    if not len(split):
        raise UsageError("no images to score; name another split with --split")
    check_kind(predictor, split.labels)
    known = {name: number for number, name in enumerate(predictor.classes)}
    if unknown := [name for name in classes if name not in known]:
        raise UsageError(
            f"the bundle has no class {unknown[0]!r} ({len(unknown)} of {len(classes)} are "
            f"unknown to it); its classes are {', '.join(predictor.classes[:10])}"
        )
    places = np.array([known[name] for name in classes])
    return task_of(split.labels).moved(split.labels, places, len(known))


def check_kind(predictor: Predictor, labels: Labels) -> None:
    """Refuse multi-label images for a single-label bundle, and the other way round.

    Raises
    ------
    UsageError
    """
    task = task_of(labels)
    if predictor.task.exclusive and not task.exclusive:
        raise UsageError("these images may have several labels, and the bundle gives one")
    if task.exclusive and not predictor.task.exclusive:
        raise UsageError(
            "these images have one label each, and the bundle gives several: score it on a list "
            "whose column is called `labels`"
        )


def _contents(predictor: Predictor, split: Split) -> list[bytes | None]:
    """Return the content hash of each image whose features are in the cache, else None."""
    if not predictor.has_cached_features:
        return [None] * len(split)
    every = [row.tobytes() for row in split.images.content()]
    return [one if predictor.is_cached(one) else None for one in every]


def _evaluation(
    predictor: Predictor, answers: list[Answers], labels: Labels, scored: Scored
) -> Evaluation:
    low_confidence = np.concatenate([one.verdicts.low_confidence for one in answers])
    out_of_distribution = np.concatenate([one.verdicts.out_of_distribution for one in answers])
    splits, thresholds = {"test": scored}, answers[0].thresholds
    several = describe_labels(splits, predictor.classes, thresholds)
    found = [b.about.rejection for b in predictor.bundles if b.about.rejection is not None]
    confident = any(one.confidence is not None for one in found)
    answered = None
    if found and several is None and (fine := ~(low_confidence | out_of_distribution)).any():
        likeliest = scored.probabilities.argmax(axis=1)  # as in top-1, without the threshold
        answered = float((likeliest == scored.label_columns)[fine].mean())
    baseline = baseline_of(labels, {"test": labels}, predictor.classes)
    return Evaluation(
        scored=scored,
        figures=figures_of(splits, None, thresholds)["test"],
        labels=several["classes"] if several else None,
        intervals=(intervals_of(splits) or {}).get("test", {}),
        low_confidence=float(low_confidence.mean()) if confident else None,
        out_of_distribution=float(out_of_distribution.mean())
        if any(one.distance for one in found)
        else None,
        top1_answered=answered,
        baseline=baseline and {"class": baseline["class"], **baseline["figures"]["test"]},
        n_groups=None if scored.units is None else count_units(scored.units, len(labels)),
    )


def _of_test(two: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of two classes for the only split, without its name."""
    found = {**two, "figures": two["figures"]["test"], "intervals": two["intervals"]["test"]}
    if "at_threshold" in two:
        at = two["at_threshold"]
        found["at_threshold"] = {name: figures["test"] for name, figures in at.items()}
    return found
