"""`probe extract`: run once, write or find the cache entry."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson, CacheDir, DatasetName, DatasetRoot, Seed, cache_folder

if TYPE_CHECKING:
    from probe.cache.features import FeatureSet
    from probe.cache.store import Store
    from probe.datasets import BadImage
    from probe.request import Prepared


def extract(
    backbone: Annotated[
        str, typer.Option("--backbone", help="A name; `probe backbones list` has them all.")
    ],
    dataset: DatasetName,
    dataset_root: DatasetRoot = None,
    weights: Annotated[
        str,
        typer.Option(
            help="A file, a name from `probe weights list`, auto (what is at hand) or random:SEED."
        ),
    ] = "auto",
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="What the weights were trained on: a name or a JSON file. Known weights bring it."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Where to cut; a,b fills two entries from one pass.",
            show_default="the last before the classifier",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="How a map is reduced: avg, max, flatten or none.", show_default="avg for maps"
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the network's input in pixels.", show_default="the weights' own"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only these splits: train, val, test.", show_default="all")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="At most N images of each class and split.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most N images of each split, over all classes.")
    ] = None,
    coarse: Annotated[
        bool, typer.Option("--coarse", help="cifar100: the 20 superclasses.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and list images that cannot be read.")
    ] = False,
    seed: Seed = 42,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "-b", min=1, help="Images a forward pass.", show_default="by input size"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-j", min=1, help="Threads that decode.", show_default="cores, at most 8"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="What is stored: float32 or float16.")] = "float32",
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
        cache_dir=folder,
        command="probe " + shlex.join(sys.argv[1:]),
    )
    outcome = run(prepare(request), Store(folder), quiet=as_json)
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
    """What a pass came to."""

    entries: list[FeatureSet]
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
        done = (
            f"{self.forwarded:,} images forwarded in {console.duration(self.seconds)}"
            if self.forwarded
            else f"found, nothing to forward ({console.duration(self.seconds)})"
        )
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


def run(prepared: Prepared, store: Store, *, quiet: bool) -> Outcome:
    """Find or make the entries of a prepared request, telling stderr (or with `quiet`, nobody).

    Raises
    ------
    typer.Exit
        130 after Ctrl-C; what was finished is kept.
    """
    from probe.cli import console
    from probe.extract import extract_features, find_entries

    started = time.perf_counter()
    if not quiet:
        console.facts(console.stderr(), _facts(prepared))
    for one in prepared.dataset.skipped:
        console.stderr().print(f"skipped   {one.id}: {one.reason}")
    found = [entry for entry in find_entries(prepared.job, store) if entry is not None]
    if len(found) == len(prepared.job.cuts):
        return Outcome(found, 0, time.perf_counter() - started, prepared.dataset.skipped)
    try:
        with _Screen(quiet=quiet) as screen:
            entries = extract_features(
                prepared.job, store, prepared.engine_for, screen, workers=prepared.request.workers
            )
    except KeyboardInterrupt:
        console.stderr().print(
            "interrupted; the finished rows are kept, the same command goes on from there"
        )
        raise typer.Exit(130) from None
    return Outcome(
        entries, screen.forwarded, time.perf_counter() - started, prepared.dataset.skipped
    )


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


class _Screen:
    """Draws a pass on stderr: estimate, bar, rate, time left."""

    def __init__(self, *, quiet: bool) -> None:
        from probe.cli import console

        self._console, self._quiet = console, quiet
        self._bar = console.progress("extract", "images")
        self._task: Any = None
        self._left = self.forwarded = 0

    def __enter__(self) -> _Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.stderr().print(text)

    def waiting(self) -> None:
        self._say("another process is writing this entry; waiting for it")

    def copied(self, rows: int, left: int) -> None:
        if rows:
            self._say(f"{rows:,} rows are at hand already; {left:,} are to be forwarded")
        self._left = left

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        per_second = self._console.rate(rows / seconds) if seconds else "?"
        self._say(
            f"{rows:,} images to go: about {self._console.duration(seconds)} "
            f"({per_second} images/s on {device})"
        )
        if not self._quiet:
            self._bar.start()
            self._task = self._bar.add_task("extract", total=self._left, completed=self.forwarded)

    def advanced(self, rows: int) -> None:
        self.forwarded += rows
        if self._task is not None:
            self._bar.update(self._task, completed=self.forwarded)
