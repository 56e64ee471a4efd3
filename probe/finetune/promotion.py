"""From a run to a trained network: build it, check it, train it, and train the controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.datasets.images.notes import warn_of_unusual
from probe.evaluation.task import task_of
from probe.finetune.checkpoint import FOLDER, remove_leftovers
from probe.finetune.compare import (
    COMPARED,
    OWN,
    Course,
    control_options,
    load_course,
    save_comparison,
    save_course,
)
from probe.finetune.mirror import MirrorTest, settle
from probe.finetune.options import Options
from probe.finetune.planning import Limit, Plan, follow
from probe.finetune.request import PromoteRequest
from probe.finetune.source import Source
from probe.finetune.start import check_start, make_training
from probe.finetune.train import Observer, Recorder, Training
from probe.runs.listeners import Heard


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """A training that is ready to run.

    Parameters
    ----------
    difference : float or None
        Largest difference to the probe's validation probabilities, before the first step; None
        from random weights, which have nothing to agree with.
    loss, score : float
        On validation images before the first step; see `probe.finetune.train.score`.
    probabilities : float32, (n_val, K)
        Of the validation images before the first step.
    predict_seconds : float
        Seconds per validation image.
    plan : Plan or None
        How it stays within a limit on memory, if that was planned now.
    mirror : MirrorTest or None
        The test that decided whether ``--augment auto`` mirrors images.
    """

    __repr__ = short_repr

    source: Source
    training: Training
    difference: float | None
    loss: float
    score: float
    probabilities: NDArray[np.float32]
    predict_seconds: float
    plan: Plan | None = None
    mirror: MirrorTest | None = None


def begin(
    source: Source,
    options: Options,
    folder: Path,
    *,
    weights: NDArray[np.float64] | None = None,
    workers: int = 2,
    limit: Limit = Limit(),  # noqa: B008  # frozen
    folds: Sequence[Source] = (),
) -> Begun:
    """Build the network, check that it is the one that was probed, and score it.

    Parameters
    ----------
    folds : sequence of Source
        The run as each fold sees it, where `source` is one of them: ``--augment auto`` goes by the
        images of all.

    Raises
    ------
    PromoteError
        The network does not give the probe's validation predictions.
    UsageError
        Options do not go together, or not even an image at a time fits the limit on memory.
    """
    training = make_training(source, options, folder, weights=weights, workers=workers)
    plan = follow(training, limit)
    started = time.perf_counter()
    features, p = training.predict(source.val)
    seconds = (time.perf_counter() - started) / len(source.val)
    difference = None
    if options.start != "scratch":  # with a fresh head the backbone is still checked
        known = p if options.start == "probe" else source.head.predict_proba(features)
        difference = check_start(source, known.astype(np.float32))
    task = task_of(source.val.labels)
    targets = task.encode(source.val.labels, np.asarray(source.head.classes_))
    loss, value = task.loss_and_figure(p, targets)
    return Begun(
        source=source, training=training, difference=difference, loss=loss, score=value,
        probabilities=p, predict_seconds=seconds, plan=plan,
        mirror=settle(folds or [source], training),
    )  # fmt: skip


def run(begun: Begun, observer: Observer, heard: Heard | None = None) -> None:
    """Train to the end, from the last checkpoint if there is one, and tell listeners the epochs.

    Raises
    ------
    PromoteError
        Training diverged, or a file cannot be written.
    """
    begun.training.run(Recorder(begun.training, observer, heard or Heard(())))
    warn_of_unusual(split.images for split in (begun.source.train, begun.source.val))


def train_controls(
    begun: Begun,
    request: PromoteRequest,
    observer_for: Callable[[str, Begun], AbstractContextManager[Observer]],
    others: Sequence[Course] = (),
) -> list[Course]:
    """Train the controls of the request and return all figures, the run's own first.

    An interrupted control is resumed, too. Controls are scored on validation images only.

    Parameters
    ----------
    others : sequence of Course
        Figures of further trainings, which come before the controls in table and picture.
    """
    if not request.compare and not others:
        return []
    training = begun.training
    limit = Limit(bytes=request.max_memory, part=training.network.part or 0)
    own = f"{OWN}, lr {training.options.rate:g}" if others else OWN
    courses = [course_of(own, begun), *others]
    training.network.release()
    for name in request.compare:
        folder = training.folder / COMPARED / name
        known = load_course(folder)
        if known is None:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            options = control_options(name, training.options)
            other = begin(
                begun.source, options, folder, weights=training.feed.weights,
                workers=training.feed.workers, limit=limit,
            )  # fmt: skip
            other.training.resume()
            with observer_for(name, other) as observer:
                run(other, observer)
            known = course_of(name, other)
            other.training.network.release()
            save_course(folder, known)
            rmtree(folder / FOLDER, ignore_errors=True)
        courses.append(known)
    result = begun.source.result
    beside = [*["other learning rates"] * bool(others), *["controls"] * bool(request.compare)]
    title = f"{result.backbone} on {result.dataset}: this run and {' and '.join(beside)}"
    save_comparison(training.folder, courses, title=title)
    return courses


def course_of(name: str, begun: Begun) -> Course:
    """Return the figures of a training that has run."""
    training = begun.training
    return Course(
        name=name, metric=begun.source.result.metric, loss=begun.loss, score=begun.score,
        history=training.progress.history, batches=training.log[:, :2],
        per_epoch=training.feed.batches,
    )  # fmt: skip
