"""Datasets as Python has them: what `probe dataset` shows of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from probe.core.arguments import checked
from probe.core.machine import AnyPath, state_folder
from probe.core.options import default_workers
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.datasets.in_memory import Data
    from probe.datasets.survey import Survey

READS = ("names", "files", "pixels")


@checked
def show_dataset(
    dataset: Data,
    *,
    read: Literal["names", "files", "pixels"] = "files",
    sheet: AnyPath | None = None,
    dataset_root: str | Path | None = None,
    coarse: bool = False,
    skip_bad: bool = False,
    reading: ReadOptions = AS_IT_IS,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    quiet: bool = False,
) -> Survey:
    """Count and measure a dataset's images, as `probe dataset show` does.

    Parameters
    ----------
    dataset, dataset_root, coarse, skip_bad, reading
        As in `extract`.
    read : {"names", "files", "pixels"}, default="files"
        What is read of the images: ``names`` counts them and opens none; ``files`` reads headers
        and hashes; ``pixels`` decodes all of them, which finds every damaged image.
    sheet : path, optional
        Draw some images of each class as this PNG.
    workers : int, optional
        Threads that read. Default: one a core, at most 8.
    cache_dir, quiet
        As in `extract`.

    Returns
    -------
    Survey
        ``counts["train"]`` has the images of each class, ``pictures`` sizes, formats, copies and
        images that cannot be read; ``to_json()`` gives plain containers.

    Raises
    ------
    ProbeError
        There is no such dataset, or its layout is not understood.
    """
    from probe.datasets import given_dataset, load_dataset
    from probe.screen import console, datasets

    if read not in READS:
        raise UsageError(f"read={read!r}: expected {', '.join(READS)}")
    folder, workers = state_folder(cache_dir), workers or default_workers()
    if sheet is not None:
        datasets.check_sheet(Path(sheet))
    with console.quiet(quiet):
        found = given_dataset(dataset, cache_dir=folder)
        if isinstance(found, str):
            found = load_dataset(
                found, root=None if dataset_root is None else Path(dataset_root),
                cache_dir=folder, coarse=coarse, skip_bad=skip_bad, reading=reading,
                workers=workers, progress=console.download_bar,
            )  # fmt: skip
        survey = datasets.look_at(found, read=read, workers=workers)
        if sheet is not None:
            datasets.draw_sheet(found, Path(sheet))
    return survey
