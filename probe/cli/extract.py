"""`probe extract`: run once, write or find the cache entry."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson, CacheDir, DatasetName, DatasetRoot, Seed, cache_folder
from probe.cli.pass_options import (
    BackboneName,
    BatchSize,
    Coarse,
    Device,
    Dtype,
    LayerNames,
    Limit,
    PerClass,
    PoolName,
    Preprocess,
    Size,
    SkipBad,
    SplitNames,
    Strict,
    Views,
    Weights,
    Workers,
)

if TYPE_CHECKING:
    from probe.backbones.spec import Layer, Pool
    from probe.cache.features import FeatureSet
    from probe.cache.store import Store
    from probe.datasets import BadImage
    from probe.engines import Engine
    from probe.extract import Reuse
    from probe.request import Prepared


def extract(
    backbone: BackboneName,
    dataset: DatasetName,
    dataset_root: DatasetRoot = None,
    weights: Weights = "auto",
    preprocess: Preprocess = None,
    layer: LayerNames = None,
    pool: PoolName = None,
    size: Size = None,
    split: SplitNames = None,
    per_class: PerClass = None,
    limit: Limit = None,
    coarse: Coarse = False,
    skip_bad: SkipBad = False,
    seed: Seed = 42,
    batch_size: BatchSize = None,
    workers: Workers = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    views: Views = "none",
    strict: Strict = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forward all images, whatever is at hand.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Run a frozen backbone over a dataset once and keep its features.

    The same command again finds the entry; whatever moves the numbers makes another one.
    """
    from probe.cache.store import Store
    from probe.cli.console import print_json
    from probe.request import Request, prepare

    folder = cache_folder(cache_dir)
    request = Request(
        backbone=backbone,
        dataset=dataset,
        dataset_root=dataset_root,
        weights=weights,
        preprocess=preprocess,
        layers=words(layer),
        pool=pool,
        size=size,
        splits=words(split),
        per_class=per_class,
        limit=limit,
        coarse=coarse,
        skip_bad=skip_bad,
        seed=seed,
        batch_size=batch_size,
        workers=workers or default_workers(),
        device=device,
        dtype=dtype,
        views=views,
        strict=strict,
        cache_dir=folder,
        command="probe " + shlex.join(sys.argv[1:]),
    )
    reuse: Reuse = "nothing" if overwrite else "entry"
    outcome = run(prepare(request), Store(folder), reuse=reuse)
    if as_json:
        print_json(outcome.to_json())
    else:
        outcome.show()


def words(text: str | None) -> tuple[str, ...]:
    """Return the words of ``a,b``."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def default_workers() -> int:
    """Return how many threads decode images: one a core, at most 8."""
    from probe.machine import usable_cores

    return min(usable_cores(), 8)


@dataclass(frozen=True)
class Outcome:
    """What a pass came to; `found` where there was nothing to do at all."""

    entries: list[FeatureSet]
    found: bool
    forwarded: int
    seconds: float
    skipped: tuple[BadImage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``--json``."""
        return {
            "forwarded": self.forwarded,
            "seconds": round(self.seconds, 3),
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "entries": [
                {
                    "name": entry.name,
                    "path": str(entry.path),
                    "digest": entry.key.digest,
                    "splits": {name: len(split) for name, split in entry.splits.items()},
                    "row_shape": list(entry.row_shape),
                    "key": entry.key.to_json(),
                }
                for entry in self.entries
            ],
        }

    def show(self) -> None:
        """Print where the features are and what to do next."""
        from probe.cli import console

        out = console.stdout()
        done = f"{self.forwarded:,} images forwarded in {console.duration(self.seconds)}"
        if self.found:
            done = f"found, nothing to forward ({console.duration(self.seconds)})"
        elif not self.forwarded:
            done = f"made of rows at hand, nothing to forward ({console.duration(self.seconds)})"
        for entry in self.entries:
            size = console.size(entry.path.stat().st_size)
            console.facts(
                out,
                {
                    "entry": f"{entry.path}  ({size})",
                    "done": done,
                    "next": f"probe head {entry.name}",
                },
            )


def run(prepared: Prepared, store: Store, *, reuse: Reuse = "entry") -> Outcome:
    """Find or make the entries of a prepared request, telling stderr about it.

    Raises
    ------
    typer.Exit
        130 after Ctrl-C; what was finished is kept.
    """
    from probe.cli import console
    from probe.extract import extract_features, find_entries

    started, skipped = time.perf_counter(), prepared.dataset.skipped
    console.facts(console.stderr(), _facts(prepared))
    for one in skipped:
        console.stderr().print(f"skipped   {one.id}: {one.reason}")
    entries = find_entries(prepared.job, store) if reuse == "entry" else []
    found = [entry for entry in entries if entry is not None]
    if len(found) == len(prepared.job.cuts):
        return Outcome(found, True, 0, time.perf_counter() - started, skipped)
    with interruptible(), Screen() as screen:
        made = extract_features(
            prepared.job,
            store,
            lambda cuts: _announced_engine(prepared, cuts),
            screen,
            workers=prepared.request.workers,
            reuse=reuse,
        )
    return Outcome(made, False, screen.forwarded, time.perf_counter() - started, skipped)


def _announced_engine(prepared: Prepared, cuts: Sequence[tuple[Layer, Pool]]) -> Engine:
    from probe.cli import console

    loaded = prepared.load(cuts)
    if loaded.omitted:
        console.facts(console.stderr(), {"omitted ": ", ".join(loaded.omitted)})
    return prepared.engine_for(cuts, loaded)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C during a pass into a message and exit code 130; finished rows are kept."""
    from probe.cli import console

    try:
        yield
    except KeyboardInterrupt:
        console.stderr().print(
            "interrupted; the finished rows are kept, the same command goes on from there"
        )
        raise typer.Exit(130) from None


def _facts(prepared: Prepared) -> dict[str, str]:
    dataset, weights = prepared.dataset, prepared.weights
    counts = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    cuts = ", ".join(
        cut.layer.name + ("" if cut.pool == "none" else f" ({cut.pool})")
        for cut in prepared.job.cuts
    )
    return {
        "dataset": f"{dataset.name}: {counts} images, {len(dataset.classes)} classes",
        "backbone": f"{prepared.backbone.name}, layer {cuts}",
        "weights": weights.name + (f" ({weights.path})" if weights.path else ""),
        "input": f"{prepared.preprocess.describe()}  [{weights.decided_by}]",
    }


class Screen:
    """Draws a pass on stderr: estimate, bar, rate, time left. A `probe.extract.Observer`."""

    def __init__(self) -> None:
        from probe.cli import console

        self._console = console
        self._bar = console.progress("extract", "images")
        self._task: Any = None
        self._left = self.forwarded = 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.stderr().print(text)

    def waiting(self) -> None:
        self._say("another process is writing this entry; waiting for it")

    def copied(self, rows: int, left: int) -> None:
        if rows:
            self._say(f"{rows:,} rows are at hand already; {left:,} are to be forwarded")
        self._left = left

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        if not rows:  # it was over before there was anything to tell
            return
        self._say(
            f"{rows:,} images to go: about {self._console.duration(seconds)} "
            f"({self._console.rate(rows / seconds)} images/s on {device})"
        )
        self._bar.start()
        self._task = self._bar.add_task("extract", total=self._left, completed=self.forwarded)

    def advanced(self, rows: int) -> None:
        self.forwarded += rows
        if self._task is not None:
            self._bar.update(self._task, completed=self.forwarded)
