"""Run the frozen pass of a prepared request, shown on the terminal."""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from probe.backbones.cut import network_cost
from probe.backbones.foreign import ForeignBackbone
from probe.backbones.spec import resolve_pool
from probe.core.memo import Memo
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.datasets.classes import has_labels, numbering
from probe.datasets.head_check import why_no_head
from probe.errors import ProbeError
from probe.extraction.extract import Reuse, extract_features
from probe.extraction.fastest import take_fastest
from probe.extraction.forward import Elsewhere
from probe.schedulers import workers_called
from probe.screen import console
from probe.weights import default_layer

if TYPE_CHECKING:
    from probe.backbones.spec import Layer, Pool
    from probe.cache.features import FeatureSet
    from probe.cache.locks import Holder
    from probe.cache.store import Store
    from probe.datasets import BadImage
    from probe.extraction.forward import Network
    from probe.extraction.request import Prepared
    from probe.schedulers import Rate

SAMPLED = 5  # images that are looked at to see whether they are enlarged


class Screen:
    """An `Observer` that draws a pass on stderr: estimate, bar, rate, time left.

    A second bar follows the process that this one waits for.

    Parameters
    ----------
    remark : callable, optional
        What to add to the estimate; asked for when there is one.

    Attributes
    ----------
    wrote : bool
        An entry was written; False where all were there.
    forwarded : int
        Images that went through the network.
    """

    def __init__(self, remark: Callable[[], str] = str) -> None:
        self._remark = remark
        self._bar = console.progress("extract", "images")
        self._other = console.progress("waiting", "images")
        self._task: Any = None
        self._other_task: Any = None
        self._waits_for: list[Holder | None] = []
        self.wrote, self.forwarded = False, 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._other.stop()
        self._bar.stop()

    def _say(self, text: str) -> None:
        console.stderr().print(text)

    def waiting(self, holder: Holder | None, done: int, rows: int) -> None:
        if self._waits_for != [holder]:
            self._waits_for = [holder]
            so_far = f" ({done:,} of {counted(rows, 'image')} so far)" if rows else ""
            self._say(
                f"{_whoever(holder)} is writing this entry{so_far}; waiting for it, and going on "
                "from where it stops if it does not finish"
            )
        if rows:
            self._other.start()
            if self._other_task is None:
                self._other_task = self._other.add_task("waiting")
            self._other.update(self._other_task, completed=done, total=rows)

    def copied(self, rows: int, left: int) -> None:
        self.wrote = True
        self._other.stop()
        if rows:
            have, rest = ("is" if count == 1 else "are" for count in (rows, left))
            self._say(
                f"{counted(rows, 'row')} {have} at hand already; {left:,} {rest} to be forwarded"
            )
        if left:  # before the first batch too, which may take long
            self._bar.start()
            self._task = self._bar.add_task("extract", total=left)

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        if not rows:  # it was over before there was anything to tell
            return
        self._say(
            f"{counted(rows, 'image')} to go: about {console.duration(seconds)} "
            f"({console.rate(rows / seconds)} images/s on {device}){self._remark()}"
        )

    def spread(self, rates: Mapping[str, Rate]) -> None:
        if self._task is not None and len(rates) > 1:
            self._bar.update(self._task, description=_slowest(rates))

    def advanced(self, rows: int) -> None:
        self.forwarded += rows
        if self._task is not None:
            self._bar.update(self._task, completed=self.forwarded)


def _slowest(rates: Mapping[str, Rate]) -> str:
    """Return how many workers there are, and the slowest, in words."""
    name, rate = min(rates.items(), key=lambda one: one[1].per_second)
    return (
        f"{counted(len(rates), 'worker')}, the slowest {name} with "
        f"{console.rate(rate.per_second)} images/s"
    )


def _whoever(holder: Holder | None) -> str:
    """Return who holds a lock, and since when, in words."""
    if holder is None:
        return "another process"
    since = datetime.datetime.fromtimestamp(holder.since)
    today = since.date() == datetime.datetime.now().date()
    where = "" if holder.host == socket.gethostname() else f" on {holder.host}"
    return (
        f"process {holder.pid} of {holder.user}{where}, started at "
        f"{since:{'%H:%M:%S' if today else '%Y-%m-%d %H:%M'}},"
    )


@dataclass(frozen=True)
class Outcome:
    """The result of a pass.

    Parameters
    ----------
    asked : str
        The dataset's name; an entry of the same images and labels may have another.
    found : bool
        The entries were there already, and none was written.
    """

    __repr__ = short_repr

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


def run_pass(prepared: Prepared, store: Store, *, reuse: Reuse = "entry") -> Outcome:
    """Find or make the entries of a prepared request, telling stderr about it.

    After a KeyboardInterrupt what was finished is kept.
    """
    started, skipped = time.perf_counter(), prepared.dataset.skipped
    asked = prepared.dataset.name
    console.facts(console.stderr(), _facts(prepared))
    for one in skipped:
        console.stderr().print(f"skipped   {one.id}: {one.reason}")
    choice = take_fastest(prepared)
    prepared, engine = choice.prepared, choice.reason or choice.prepared.job.provenance["engine"]
    device = "" if prepared.request.device == "auto" else f" on {prepared.request.device}"
    console.facts(console.stderr(), {"engine  ": engine + device})
    with (
        Screen(lambda: enlargement(prepared)) as screen,
        workers_called(prepared.request.scheduler) as workers,
    ):
        entries = extract_features(
            prepared.job,
            store,
            lambda cuts: _announced(prepared, cuts).open(ahead=True),
            screen,
            workers=prepared.request.workers,
            reuse=reuse,
            elsewhere=Elsewhere(workers, partial(_announced, prepared)) if workers else None,
        )
    seconds = time.perf_counter() - started
    return Outcome(asked, entries, not screen.wrote, screen.forwarded, seconds, skipped, store)


def enlargement(prepared: Prepared) -> str:
    """Return what to say where small images are enlarged: what their own size would save.

    The saving is the network's multiply-adds at both sizes, counted, up to the layer that would be
    taken at the smaller one; nothing is guessed of other machines.

    Returns
    -------
    str
        Nothing where images are not enlarged to twice their size or more.
    """
    size, backbone = prepared.preprocess.size, prepared.backbone
    if isinstance(backbone, ForeignBackbone):  # whose smallest size nobody knows
        return ""
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
            network_cost(backbone, tuple(which), pixels)
            for which, pixels in ((cuts, size), (there, side))
        )
        assert now is not None
        assert then is not None
    except ProbeError:  # an unreadable image, or a size that no layer takes: nothing to say
        return ""
    last_there = there[-1][0].name
    to = "" if last_there == cuts[-1][0].name else f", to {last_there}"
    ratio = now.multiply_adds / then.multiply_adds
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{said}: --size {side}{to} needs {times} times less arithmetic"


def _usual_side(prepared: Prepared) -> int:
    """Return the median of the longer sides of some images, in pixels; 0 without images."""
    split = next(iter(prepared.dataset.splits.values()))
    step = max(len(split) // SAMPLED, 1)
    rows = range(0, min(len(split), SAMPLED * step), step)
    sides = sorted(max(split.images.image(row).shape[:2]) for row in rows)
    return int(sides[len(sides) // 2]) if sides else 0


def _announced(prepared: Prepared, cuts: Sequence[tuple[Layer, Pool]]) -> Network:
    loaded = prepared.load(cuts)
    if loaded.omitted:
        console.facts(console.stderr(), {"note    ": ", ".join(loaded.omitted)})
    return prepared.network_for(cuts, loaded)


def _classes(classes: Sequence[str]) -> str:
    if not has_labels(classes):
        return "no labels"
    return counted(len(classes), "class", "classes")


def _facts(prepared: Prepared) -> dict[str, str]:
    dataset, weights = prepared.dataset, prepared.weights
    content = {name: table.content for name, table in prepared.job.tables.items()}
    counts = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    total = sum(map(len, dataset.splits.values()))
    cuts = ", ".join(
        cut.layer.name + ("" if cut.pool == "none" else f" ({cut.pool})")
        for cut in prepared.job.cuts
    )
    facts = {
        "dataset": f"{dataset.name}: {counts} {'image' if total == 1 else 'images'}, "
        + _classes(dataset.classes),
        **({"heads": bleak} if (bleak := why_no_head(dataset, content)) else {}),
        **({"classes": numbered} if (numbered := numbering(dataset.classes)) else {}),
        "backbone": f"{prepared.backbone.name}, layer {cuts}",
        "weights": weights.name + (f" ({console.place(weights.path)})" if weights.path else ""),
        "input": f"{prepared.preprocess.describe()}  [{weights.decided_by}]",
    }
    spec, size = prepared.backbone, prepared.preprocess.size
    if any(spec.is_tiny(cut.layer, size) for cut in prepared.job.cuts):
        facts["note"] = (
            f"{size} pixels are less than one cell of the network's last map ({spec.input_size} is "
            "its own size): such features say little; take a larger --size or an earlier --layer"
        )
    return facts
