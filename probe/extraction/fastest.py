"""Time the engines that could run a long pass on its first images, and keep the answer.

A pass of minutes pays for seconds of timing; a short one takes the default engine. The answer is
kept in the state folder, for a machine's kind of CPU, a network, its cuts, a size and the versions
of the engines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import network_cost
from probe.core.files import write_text
from probe.core.machine import computing_threads, cpu_name, give_back_memory
from probe.core.version import __version__
from probe.datasets.images.prefetch import load_batches
from probe.engines import TOLERANCE, Engine, engine_version, relative_differences
from probe.errors import CacheError, EngineError
from probe.extraction.forward import Pictures
from probe.extraction.request import Prepared

log = logging.getLogger(__name__)

KEPT = "engines.json"
WORTH = 5e12  # multiply-adds a thread: about a minute
FASTER = 1.05  # times the default engine's rate: less may be noise
FIRST = 8  # images with which each engine allocates its memory
ROUNDS, SECONDS = 3, 3.0  # at most so many for each engine, begun within so long

Rates = dict[str, float]  # images a second, by engine


@dataclass(frozen=True)
class Choice:
    """The engine of a pass, and why it was taken.

    Parameters
    ----------
    prepared : Prepared
        The pass, by that engine.
    reason : str
        For people; empty where nothing was timed, now or before.
    """

    prepared: Prepared
    reason: str


def take_fastest(prepared: Prepared) -> Choice:
    """Return a pass by the fastest of the engines that it may take.

    They are timed where the pass is long and this machine has no answer yet. Workers of a scheduler
    may have other engines, so that a pass of theirs is by the default one.

    Raises
    ------
    ProbeError
        An image cannot be read or the default engine cannot run, as in the pass itself.
    """
    if not prepared.rivals or prepared.request.scheduler is not None or not _is_long(prepared):
        return Choice(prepared, "")
    usual = str(prepared.job.provenance["engine"])
    names, place = (usual, *prepared.rivals), prepared.request.cache_dir / KEPT
    about, when = _about(prepared, names), "when it was timed"
    rates = _kept(place).get(about)
    if rates is None:
        rates, when = _measured(prepared, names), "on the first images"
        with contextlib.suppress(CacheError):  # timed again next time
            write_text(place, json.dumps(_kept(place) | {about: rates}, indent=1))
    taken = max(rates, key=lambda name: rates[name] * (FASTER if name == usual else 1))
    parts = [
        f"{name} had {rate / rates[taken]:.2f} of its rate {when}"
        for name, rate in rates.items()
        if name != taken
    ]
    reason = f"{taken}; {', '.join(parts)}" if parts else ""
    log.info("%s: %s", prepared.backbone.name, reason)
    return Choice(prepared.by(taken), reason)


def _is_long(prepared: Prepared) -> bool:
    job = prepared.job
    cuts = tuple((cut.layer, cut.pool) for cut in job.cuts)
    cost = network_cost(job.backbone, cuts, job.preprocess.size)
    if cost is None:
        return False
    return cost.multiply_adds * job.count * job.views >= WORTH * computing_threads()


def _about(prepared: Prepared, names: Sequence[str]) -> str:
    """Return all that an answer depends on."""
    versions = {"probe": __version__}
    for name in names:
        versions |= engine_version(name)
    job = prepared.job
    cuts = [f"{cut.layer.name} {cut.pool}" for cut in job.cuts]
    size, batch = job.preprocess.size, prepared.request.batch_size
    parts = [
        f"{cpu_name()}, {computing_threads()} threads", f"{job.backbone.name} {', '.join(cuts)}",
        f"{size} pixels" + (f", {batch} a batch" if batch else ""),
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]  # fmt: skip
    return "; ".join(parts)


def _kept(place: Path) -> dict[str, Rates]:
    """Return what was measured before; nothing where the file is none."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return {
            str(about): {str(name): float(rate) for name, rate in rates.items()}
            for about, rates in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _measured(prepared: Prepared, names: Sequence[str]) -> Rates:
    """Feed the same images to each engine in turn, and return the best rate of each.

    The first is the default one; another that cannot run the network, or gives other rows, is left
    out.
    """
    job = prepared.job
    cuts = [(cut.layer, cut.pool) for cut in job.cuts]
    loaded = prepared.load(cuts)
    usual, *others = names
    engines = {usual: prepared.by(usual).network_for(cuts, loaded).open()}
    pictures = Pictures.of(job)
    numbers = np.arange(min(engines[usual].batch_size, job.count * job.views))
    ((_, batch),) = load_batches(pictures.load, [numbers], workers=prepared.request.workers)
    pictures.notes()  # the pass reads these images again
    known = _rows(engines[usual], batch[:FIRST])
    for name in others:
        try:
            engine = prepared.by(name).network_for(cuts, loaded).open()
            pairs = zip(_rows(engine, batch[:FIRST]), known, strict=True)
            worst = max(float(relative_differences(*pair).max()) for pair in pairs)
            if not worst <= TOLERANCE:
                raise EngineError(f"its features differ by {worst:.2g} of a row's norm")
        except EngineError as error:
            log.warning("%s does not run %s: %s", name, job.backbone.name, error)
        else:
            engines[name] = engine
    seconds, until = dict.fromkeys(engines, np.inf), time.perf_counter() + SECONDS
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            started = time.perf_counter()
            _rows(engine, batch)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
        if time.perf_counter() > until:
            break
    engines.clear()
    give_back_memory()
    return {name: len(batch) / each for name, each in seconds.items()}


def _rows(engine: Engine, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    return engine.collect(engine.submit(batch))
