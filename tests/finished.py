"""A small finished model for tests: 300 digits through EfficientNet-Lite0, a head, a bundle."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from probe.bundle.make import BundleRequest, bundle_run
from probe.cache.joining import join
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.runs.fit import HeadRequest, fit_head, keep_run, plan_head, run_folder
from tests.fakes import Silent

ROWS, SIZE = 300, 32


def make_cache(folder: Path, *, views: str = "none") -> None:
    """Extract the digits into a cache folder."""
    request = Request(
        backbone="efficientnet_lite0",
        dataset="digits",
        size=SIZE,
        limit=ROWS,
        views=views,
        cache_dir=folder,
    )
    prepared = prepare(request)
    extract_features(prepared.job, Store(folder), prepared.engine_for, Silent(), workers=1)


def make_run(folder: Path, request: HeadRequest | None = None) -> Path:
    """Fit a head on the newest entry of a cache folder and return the run's folder."""
    store = Store(folder)
    joined, asked = join(store, store.choose(None)), request or HeadRequest(params={"epochs": 20})
    with run_folder(None, folder / "runs") as target:
        keep_run(target, fit_head(joined, asked, plan_head(joined, asked)), joined.entry.classes)
    return target


def make_bundle(cache: Path, run: Path, out: Path, **options: object) -> Path:
    """Bundle a run and return where the bundle is."""
    bundle_run(run, out, cache_dir=cache, request=BundleRequest(**options))  # type: ignore[arg-type]
    return out


def save_digits(folder: Path, count: int) -> list[str]:
    """Write digits as PNG files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    images = load_dataset("digits", cache_dir=folder / "cache", limit=ROWS).splits["train"].images
    paths = [folder / f"{row:02d}.png" for row in range(count)]
    for row, path in enumerate(paths):
        Image.fromarray(images.image(row)).save(path)
    return [str(path) for path in paths]
