"""What a shell completes beside commands, options and choices: names in the cache and catalogs.

A completer returns all its names; what does not begin as the word on the line is left out by Typer.
Where nothing fits, the shell offers files.
"""

from __future__ import annotations

import typer

from probe.backbones.catalog import BACKBONES
from probe.core.machine import state_folder
from probe.heads.catalog import HEADS

# what `Store.choose` takes where no entry is named, for help texts
DEFAULT_ENTRY = "the newest, but no control with random weights"


def entries(ctx: typer.Context) -> list[str]:
    """Return the names of the cache's entries, the newest first."""
    return _names(ctx, "features", "*.h5")


def runs(ctx: typer.Context) -> list[str]:
    """Return the names of the runs, the newest first."""
    return _names(ctx, "runs", "*/")


def runs_and_entries(ctx: typer.Context) -> list[str]:
    """Return the names of the runs, and then of the entries, the newest first."""
    return [*runs(ctx), *entries(ctx)]


def benches(ctx: typer.Context) -> list[str]:
    """Return the names of the benches, the newest first."""
    return _names(ctx, "benches", "*/")


def backbones() -> list[str]:
    """Return the names of all backbones."""
    return list(BACKBONES)


def datasets() -> list[str]:
    """Return the datasets that have a name."""
    from probe.datasets.named.catalog import DATASETS  # its room imports NumPy and Pillow

    return list(DATASETS)


def heads() -> list[str]:
    """Return the names of all heads."""
    return list(HEADS)


def listeners() -> list[str]:
    """Return the names of the listeners."""
    from probe.runs.listeners import NAMED

    return list(NAMED)


def topics() -> list[str]:
    """Return the pages that `probe help` shows."""
    from probe.cli.pages import read_pages

    return list(read_pages())


def _names(ctx: typer.Context, folder: str, pattern: str) -> list[str]:
    place = state_folder(ctx.params.get("cache_dir")) / folder
    found = [path for path in place.glob(pattern) if not path.name.startswith(".")]
    return [path.stem for path in sorted(found, key=lambda one: -one.stat().st_mtime)]
