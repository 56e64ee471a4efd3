"""Train with several learning rates, of which the validation images choose.

Each has a folder `rates/RATE` in the run's folder, with its history and checkpoints. When all are
trained, the checkpoints of the chosen one become the run's own, and the run is finished as if it
had been trained with that rate alone: test images are scored once. Everything that is chosen
follows from the files, so that a killed run goes on from any point.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from probe.errors import DivergedError
from probe.finetune.checkpoint import FOLDER, remove_leftovers
from probe.finetune.compare import Course, load_course, save_course
from probe.finetune.options import Options
from probe.finetune.planning import Limit, follow
from probe.finetune.promotion import Begun, course_of, run
from probe.finetune.request import PromoteRequest
from probe.finetune.start import make_training
from probe.finetune.train import Observer

log = logging.getLogger(__name__)

RATES = "rates"


def train_rates(
    begun: Begun,
    request: PromoteRequest,
    observer_for: Callable[[str, Begun], AbstractContextManager[Observer]],
) -> tuple[Begun, list[Course]]:
    """Train each learning rate of a request, and return the best with the figures of the others.

    The best is that of the best epoch, see `Epoch.rank`; of equals the first one typed. Rates with
    which training diverges are left out.

    Parameters
    ----------
    begun : Begun
        The run before its first step. Its network is released.

    Raises
    ------
    PromoteError
        Training diverged with all of them, or a file cannot be written.
    """
    folder, options = begun.training.folder, begun.training.options
    limit = Limit(bytes=request.max_memory, part=begun.training.network.part or 0)
    begun.training.network.release()
    courses: dict[float, Course] = {}
    diverged: DivergedError | None = None
    for rate in request.rates:
        place, name = place_of(folder, rate), name_of(rate)
        known = load_course(place)
        if known is None:
            place.mkdir(parents=True, exist_ok=True)
            remove_leftovers(place)
            other = _resumed(begun, replace(options, lr=rate), place, limit)
            try:
                with observer_for(name, other) as observer:
                    run(other, observer)
            except DivergedError as error:
                log.warning("%s is left out: %s", name, error)
                diverged = error
                continue
            finally:
                other.training.network.release()
            known = course_of(name, other)
            save_course(place, known)
        courses[rate] = known
    if not courses:
        assert diverged is not None
        raise diverged
    best = max(courses, key=lambda rate: courses[rate].best.rank)
    trained = place_of(folder, best) / FOLDER
    if trained.exists():
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        os.replace(trained, folder / FOLDER)
    for rate in request.rates:
        shutil.rmtree(place_of(folder, rate) / FOLDER, ignore_errors=True)
    chosen = _resumed(begun, replace(options, lr=best), folder, limit)
    return chosen, [course for rate, course in courses.items() if rate != best]


def place_of(folder: Path, rate: float) -> Path:
    """Return the folder of a learning rate's training."""
    return folder / RATES / str(rate)


def name_of(rate: float) -> str:
    """Return what tables and pictures call a learning rate's training."""
    return f"lr {rate:g}"


def _resumed(begun: Begun, options: Options, folder: Path, limit: Limit) -> Begun:
    """Return the same start with other options, after the last checkpoint in a folder."""
    feed = begun.training.feed
    training = make_training(
        begun.source, options, folder, weights=feed.weights, workers=feed.workers
    )
    follow(training, limit)
    training.resume()
    return replace(begun, training=training)
