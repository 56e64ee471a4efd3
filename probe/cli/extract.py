"""`probe extract`: run once, write or find the cache entry."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import AsJson
from probe.cli.pass_options import PassOptions, default_workers, takes_pass_options, words
from probe.cli.screen import Screen, interruptible

if TYPE_CHECKING:
    from probe.backbones.spec import Layer, Pool
    from probe.cache.features import FeatureSet, FeatureSplit
    from probe.cache.store import Store
    from probe.datasets import BadImage
    from probe.engines import Engine
    from probe.extraction.extract import Reuse
    from probe.extraction.request import Prepared


__all__ = ["Outcome", "Screen", "default_workers", "extract", "interruptible", "run", "words"]

SAMPLED = 5  # images that are looked at to see whether they are enlarged


@takes_pass_options
def extract(
    options: PassOptions,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forward all images, whatever is at hand.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a frozen backbone over a dataset once and keep its features.

    The same command again finds the entry; whatever moves the numbers makes another one.
    """
    from probe.cache.store import Store
    from probe.cli.console import download_bar, print_json
    from probe.extraction.request import prepare

    reuse: Reuse = "nothing" if overwrite else "entry"
    prepared = prepare(options.request(), progress=download_bar)
    outcome = run(prepared, Store(options.folder), reuse=reuse)
    if as_json:
        print_json(outcome.to_json())
    else:
        outcome.show()


@dataclass(frozen=True)
class Outcome:
    """What a pass came to; `found` where there was nothing to do at all.

    `asked` is the dataset's name: an entry of the same images and labels may have another.
    """

    asked: str
    entries: list[FeatureSet]
    found: bool
    forwarded: int
    seconds: float
    skipped: tuple[BadImage, ...]
    store: Store

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
            facts = {"entry": f"{entry.path}  ({size})", "done": done}
            if entry.dataset != self.asked:
                facts["note"] = f"the same images and labels as {entry.dataset}, kept as its entry"
            console.facts(out, facts | next_step(entry, self.store))


def run(prepared: Prepared, store: Store, *, reuse: Reuse = "entry") -> Outcome:
    """Find or make the entries of a prepared request, telling stderr about it.

    Raises
    ------
    typer.Exit
        130 after Ctrl-C; what was finished is kept.
    """
    from probe.cli import console
    from probe.extraction.extract import extract_features, find_entries

    started, skipped = time.perf_counter(), prepared.dataset.skipped
    asked = prepared.dataset.name
    console.facts(console.stderr(), _facts(prepared))
    for one in skipped:
        console.stderr().print(f"skipped   {one.id}: {one.reason}")
    entries = find_entries(prepared.job, store) if reuse == "entry" else []
    found = [entry for entry in entries if entry is not None]
    if len(found) == len(prepared.job.cuts):
        return Outcome(asked, found, True, 0, time.perf_counter() - started, skipped, store)
    with interruptible(), Screen(lambda: enlargement(prepared)) as screen:
        made = extract_features(
            prepared.job,
            store,
            lambda cuts: _announced_engine(prepared, cuts),
            screen,
            workers=prepared.request.workers,
            reuse=reuse,
        )
    seconds = time.perf_counter() - started
    return Outcome(asked, made, False, screen.forwarded, seconds, skipped, store)


def next_step(entry: FeatureSet, store: Store) -> dict[str, str]:
    """Return what to do with an entry: fit a head, or why none can be fitted."""
    from probe.cache.joining import join
    from probe.datasets.outlook import outlook_of

    splits: Mapping[str, FeatureSplit] = entry.splits
    if "train" not in splits:  # it may have been extracted apart
        splits = join(store, store.choose(entry.name)).splits
    labels = {name: split.labels for name, split in splits.items()}
    content = {name: split.content for name, split in splits.items()}
    bleak = outlook_of(labels, entry.classes, content)
    return {"next": f"probe head {entry.name}"} if bleak is None else {"heads": bleak}


def enlargement(prepared: Prepared) -> str:
    """Return what to say where small images are enlarged: what their own size would save.

    The saving is the network's multiply-adds at both sizes, counted, up to the layer that would be
    taken at the smaller one; nothing is guessed of other machines.

    Returns
    -------
    str
        Nothing where images are not enlarged to twice their size or more.
    """
    from probe.backbones.spec import resolve_pool
    from probe.core.memo import Memo
    from probe.engines.mxnet.cost import network_cost
    from probe.errors import ProbeError
    from probe.weights import default_layer

    size, backbone = prepared.preprocess.size, prepared.backbone
    try:
        side = _usual_side(prepared)
        if not 0 < side <= size / 2:
            return ""
        said = f"; the images are {side} pixels and are enlarged to {size}"
        cuts = [(cut.layer, cut.pool) for cut in prepared.job.cuts]
        if prepared.request.layers:
            for layer, _ in cuts:
                backbone.check_size(layer, side)
            there = cuts
        else:
            memo = Memo(prepared.request.cache_dir / "memo.sqlite")
            last = default_layer(backbone, prepared.weights.held(backbone, memo), side)
            there = [(last, resolve_pool(last, None))]
        now, then = (
            network_cost(backbone.name, tuple(which), pixels).multiply_adds
            for which, pixels in ((cuts, size), (there, side))
        )
    except ProbeError:  # an unreadable image, or a size that no layer takes: nothing to say
        return ""
    last_there = there[-1][0].name
    to = "" if last_there == cuts[-1][0].name else f", to {last_there}"
    times = f"{now / then:.0f}" if now >= 10 * then else f"{now / then:.1f}"
    return f"{said}: --size {side}{to} needs {times} times less arithmetic"


def _usual_side(prepared: Prepared) -> int:
    """Return the median of the longer sides of some images, in pixels; 0 without images."""
    split = next(iter(prepared.dataset.splits.values()))
    step = max(len(split) // SAMPLED, 1)
    rows = range(0, min(len(split), SAMPLED * step), step)
    sides = sorted(max(split.images.image(row).shape[:2]) for row in rows)
    return int(sides[len(sides) // 2]) if sides else 0


def _announced_engine(prepared: Prepared, cuts: Sequence[tuple[Layer, Pool]]) -> Engine:
    from probe.cli import console

    loaded = prepared.load(cuts)
    if loaded.omitted:
        console.facts(console.stderr(), {"note    ": ", ".join(loaded.omitted)})
    return prepared.engine_for(cuts, loaded)


def _facts(prepared: Prepared) -> dict[str, str]:
    from probe.datasets.classes import numbering
    from probe.datasets.outlook import outlook

    dataset, weights = prepared.dataset, prepared.weights
    content = {name: table.content for name, table in prepared.job.tables.items()}
    counts = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    cuts = ", ".join(
        cut.layer.name + ("" if cut.pool == "none" else f" ({cut.pool})")
        for cut in prepared.job.cuts
    )
    facts = {
        "dataset": f"{dataset.name}: {counts} images, {len(dataset.classes)} "
        + ("class" if len(dataset.classes) == 1 else "classes"),
        **({"heads": bleak} if (bleak := outlook(dataset, content)) else {}),
        **({"classes": numbered} if (numbered := numbering(dataset.classes)) else {}),
        "backbone": f"{prepared.backbone.name}, layer {cuts}",
        "weights": weights.name + (f" ({weights.path})" if weights.path else ""),
        "input": f"{prepared.preprocess.describe()}  [{weights.decided_by}]",
    }
    spec, size = prepared.backbone, prepared.preprocess.size
    if any(spec.is_tiny(cut.layer, size) for cut in prepared.job.cuts):
        facts["note"] = (
            f"{size} pixels are less than one cell of the network's last map ({spec.input_size} is "
            "its own size): such features say little; take a larger --size or an earlier --layer"
        )
    return facts
