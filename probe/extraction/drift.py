"""Forward some rows of an entry again, to see whether a library or weight file changed them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.cache.compare import recipe_differences
from probe.cache.features import FeatureSet
from probe.cache.file import engine_of
from probe.cache.filling import as_bytes
from probe.engines import BUILDS, TOLERANCE, Engine, relative_differences
from probe.errors import CacheError
from probe.extraction.forward import Pictures, forward_rows
from probe.extraction.job import Job
from probe.extraction.request import Prepared

# parts of a row's norm
SAME_ENGINE = 1e-5  # on CPUs: other batches and threads moved no row by 1e-6
HALF_PRECISION = 1e-3  # rows that differ in a last bit of float32 may differ in one of float16


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The difference between stored rows and the same rows forwarded again.

    Parameters
    ----------
    rows : int
        How many were compared.
    gone : int
        How many more were drawn whose images are no longer there.
    largest : float
        Largest absolute difference of a feature.
    relative : float
        Largest norm of a row's difference, as a part of the row's norm.
    worst : str
        Id of the image where that is.
    made_by, checked_by : str
        The engine of the stored rows, and that of the others.
    tolerance : float
        What `relative` may be: less where one engine made both on CPUs.
    recipe : tuple of str
        What differs in how they were made, for example the parameters of the weight file.
    """

    rows: int
    gone: int
    largest: float
    relative: float
    worst: str
    made_by: str
    checked_by: str
    tolerance: float
    recipe: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether dataset and weights still give the entry's features."""
        return self.relative <= self.tolerance and not self.recipe


def measure_drift(entry: FeatureSet, prepared: Prepared, *, count: int, seed: int) -> Drift:
    """Forward some random rows of an entry again and compare.

    Parameters
    ----------
    prepared : Prepared
        Of the request that made the entry, see `probe.extraction.request.repeat`.
    count : int
        How many rows, of all splits together.

    Raises
    ------
    CacheError
        None of the images drawn is there any more.
    """
    job, cut = prepared.job, prepared.job.cuts[0]
    drawn = _draw(entry, count, seed)
    content = np.concatenate([table.content for table in job.tables.values()])
    row_of = {one: row for row, one in enumerate(as_bytes(content))}
    hashes = [entry[split].content[row].tobytes() for split, row in drawn]
    pairs = [
        (place, row_of[one]) for place, one in zip(drawn, hashes, strict=True) if one in row_of
    ]
    if not pairs:
        raise CacheError(
            f"{entry.path}: none of {len(drawn)} images drawn is in {job.dataset.name} any more; "
            "`probe cache sync` brings the entry in step"
        )
    stored = np.stack([entry[split].rows([row])[0] for (split, row), _ in pairs])
    engine = prepared.engine_for([(cut.layer, cut.pool)])
    again = _forward(job, prepared, engine, np.array([row for _, row in pairs], np.intp))
    again = again.astype(entry.key.dtype)
    relative = relative_differences(again, stored)
    split, row = pairs[int(relative.argmax())][0]
    named = str(entry.provenance.get("weights", "")), prepared.weights.name
    return Drift(
        rows=len(pairs),
        gone=len(drawn) - len(pairs),
        largest=float(np.abs(again.astype(np.float64) - stored).max()),
        relative=float(relative.max()),
        worst=entry[split].ids[row],
        made_by=engine_of(entry.provenance),
        checked_by=engine_of(job.provenance),
        tolerance=_tolerance(entry, job, engine),
        recipe=recipe_differences(entry.key, cut.key, weights=named),
    )


def _tolerance(entry: FeatureSet, job: Job, engine: Engine) -> float:
    """Return what a row may differ by, as a part of its norm."""
    if entry.key.dtype == "float16":
        return HALF_PRECISION
    made_by = engine_of(entry.provenance)
    # an entry does not record its device, but which packages were there
    on_cpus = engine.device == "cpu" and BUILDS[made_by][0] in entry.provenance.get("versions", {})
    return SAME_ENGINE if on_cpus and made_by == engine_of(job.provenance) else TOLERANCE


def _draw(entry: FeatureSet, count: int, seed: int) -> list[tuple[str, int]]:
    places = [(split, row) for split, one in entry.splits.items() for row in range(len(one))]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [places[number] for number in sorted(chosen.tolist())]


def _forward(
    job: Job, prepared: Prepared, engine: Engine, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    size = engine.batch_size // job.views
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    pictures = Pictures.of(job)
    outputs = list(forward_rows(pictures, engine, batches, workers=prepared.request.workers))
    pictures.notes().warn()
    return np.concatenate([output for _, (output,) in outputs])
