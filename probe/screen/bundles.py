"""Making a bundle, with a bar where training images have to be forwarded."""

from __future__ import annotations

from pathlib import Path

from probe.bundle import Bundle
from probe.bundle.make import BundleRequest, bundle_run
from probe.screen import console


def bundle_shown(source: Path, target: Path, cache_dir: Path, request: BundleRequest) -> Bundle:
    """Make a bundle of a run; see `bundle_run`."""
    bar = console.progress("training images", "images")
    task = bar.add_task("forward", total=None)

    def on_rows(done: int, total: int) -> None:
        bar.start()  # most runs have their features in the cache, and nothing to wait for
        bar.update(task, completed=done, total=total)

    try:
        return bundle_run(source, target, cache_dir=cache_dir, request=request, on_rows=on_rows)
    finally:
        bar.stop()
