"""Making a bundle, with a bar where training images have to be forwarded, and an image for it."""

from __future__ import annotations

from pathlib import Path

from probe.bundle import Bundle
from probe.bundle.make import BundleRequest, bundle_run
from probe.cache.joining import parse_features_name
from probe.cache.store import Store
from probe.errors import ProbeError
from probe.evaluation.predictions import load_predictions
from probe.runs.results import read_run
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


def held_out_image(source: Path, cache_dir: Path) -> Path | None:
    """Return the file of an image that a run was not trained on; None where none is at its place.

    Parameters
    ----------
    source : Path
        The run's folder.
    """
    try:
        names, _ = parse_features_name(read_run(source).entry)
        root = Store(cache_dir).choose(names[0]).provenance.get("root")
        said = load_predictions(source)
    except ProbeError:
        return None
    for split in ("test", "val", "oof"):
        if split in said and root is not None:
            path = Path(root, str(said[split].ids[0]))
            if path.is_file():
                return path
    return None
