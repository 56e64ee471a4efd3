"""Whether the classes of a run are still those of the entry it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probe.datasets.images.image_files import shown
from probe.errors import DataError
from probe.runs.results import RunResult


def same_classes(result: RunResult, classes: Sequence[str]) -> bool:
    """Whether classes, and their order, may be those of a run.

    A run records the names of those that had rows to be scored on. An entry that was written anew
    with ``--label`` of another column, or after a class was renamed, has others.
    """
    there = iter(classes)
    return all(name in there for name in result.per_class.recall)


def require_same_classes(run: Path, result: RunResult, classes: Sequence[str]) -> None:
    """Refuse a run whose answers would be called by the names of other classes.

    Raises
    ------
    DataError
        The entry was written anew with other classes since the run.
    """
    if not same_classes(result, classes):
        own = ", ".join(shown(name) for name in list(result.per_class.recall)[:3])
        now = ", ".join(shown(name) for name in classes[:3])
        raise DataError(
            f"{run}: tells classes like {own} apart, and {result.entry} was extracted again since "
            f"with others ({now}); extract it with the labels of then, or fit a head again"
        )
