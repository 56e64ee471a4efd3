"""What a bench looks like on the terminal while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from probe.bench.options import BenchOptions, checked
from probe.bench.plan import make_plan
from probe.bench.work import check_request, run_bench
from probe.cache.store import Store
from probe.core.options import seconds_text
from probe.core.text import counted
from probe.core.urls import name_of
from probe.runs.results import difference_text, figure_text, span_text
from probe.screen import console
from probe.screen.passes import Screen

if TYPE_CHECKING:
    from probe.bench.fitting import Fitted
    from probe.bench.plan import Pass, Plan
    from probe.bench.race_record import Race, RaceStage
    from probe.bench.record import Bench
    from probe.bench.work import BenchRequest
    from probe.runs.listeners import Listener


class BenchScreen:
    """Says on stderr what a bench does. A `probe.bench.work.Watcher`."""

    def __init__(self, metric: str = "top1") -> None:
        self._err = console.stderr()
        self._metric = metric

    def measuring(self, dataset: str, name: str) -> None:
        self._err.print(f"plan      {name_of(dataset)}: {name}")

    def plan(self, plan: Plan, request: BenchRequest) -> None:
        """Show what is to be done."""
        self._err.print()
        several = len(plan.passes) > 1
        rows = [
            [name_of(one.request.dataset)] * several + _planned(one)
            for passes in plan.passes
            for one in passes
        ]
        head = ["dataset"] * several + ["features", "to forward", "rate", "about", "disk"]
        shift = int(several)
        console.table(self._err, head, rows, right=[i + shift for i in range(1, 5)], fold=(shift,))
        for passes in plan.passes:
            for one in passes:
                if one.reason:
                    self._err.print(f"cannot    {one.candidate.text}: {one.reason}")
        todo = sum(one.missing for passes in plan.passes for one in passes)
        if todo:
            self._err.print(
                f"in all    {counted(todo, 'image')} to forward, "
                + (f"about {console.duration(plan.seconds)}, " if plan.seconds else "")
                + f"{console.size(plan.disk)} on disk; then heads: "
                + ", ".join(request.protocol.heads)
            )
        elif any(one.complete for passes in plan.passes for one in passes):
            self._err.print("in all    nothing to forward; heads that were fitted are found again")
        else:
            self._err.print("in all    nothing that can be done")
        if request.race is not None:
            self._err.print(
                "race      on samples first: that is the most there is to forward; risk "
                f"{100 * request.race.risk:g} %"
                + (f", budget {seconds_text(request.race.budget)}" if request.race.budget else "")
            )
        self._err.print()

    @contextmanager
    def extracting(self, dataset: str, one: Pass) -> Iterator[Screen]:
        self._err.print(f"extract   {dataset}: {', '.join(one.names)}")
        with Screen() as screen:
            yield screen

    def fitting(self, dataset: str, name: str, head: str) -> None:
        self._err.print(f"fit       {dataset}: {head} on {name}")

    def fitted(self, fitted: Fitted) -> None:
        if not fitted.found:
            self._err.print(
                f"          in {console.duration(fitted.result.seconds)}, run {fitted.run}"
            )

    def failed(self, dataset: str, name: str, reason: str) -> None:
        self._err.print(f"failed    {dataset}: {name}: {reason}")

    def stage(self, dataset: str, stage: RaceStage, left: int) -> None:
        first = stage.standings[0]
        self._err.print(
            f"race      {dataset}: {counted(stage.images, 'image')}: {first.name} leads, "
            f"{figure_text(self._metric, first.value)}; {len(stage.dropped)} dropped, {left} left"
        )
        for one in stage.dropped:
            behind = difference_text(self._metric, one.gap)
            between = span_text(self._metric, one.low, one.high)
            self._err.print(f"          dropped {one.name}: {behind} behind ({between})")

    def raced(self, dataset: str, race: Race) -> None:
        for name, reason in race.left_out.items():
            self._err.print(f"left out  {dataset}: {name}: {reason}")

    def left_out(self, dataset: str, name: str, reason: str) -> None:
        self._err.print(f"left out  {dataset}: {name} after a PCA: {reason}")


def _planned(one: Pass) -> list[str]:
    names = ", ".join(one.names)
    if one.reason:
        return [names, "-", "-", "-", "-"]
    if one.complete:
        return [names, "nothing", "-", "-", "-"]
    rate = f"{console.rate(one.rate)}/s" if one.rate else "-"
    moment = "-" if one.request.scheduler else "a moment"  # workers' rates show while they work
    about = console.duration(one.seconds) if one.seconds else moment
    return [names, f"{one.missing:,} of {one.images:,}", rate, about, console.size(one.disk)]


def plan_shown(options: BenchOptions, cache_dir: Path, command: str) -> tuple[BenchRequest, Plan]:
    """Read what a bench is told, and plan it; the plan is shown."""
    asked, passes = options.read(cache_dir, command)
    request, passes, references = checked(asked, passes, of_images=options.of_images)
    screen = BenchScreen()
    plan = make_plan(passes, Store(cache_dir), references=references, on_pass=screen.measuring)
    check_request(request, plan)
    screen.plan(plan, request)
    return request, plan


def run_shown(
    request: BenchRequest, plan: Plan, listeners: Sequence[Listener] = ()
) -> tuple[Path, Bench]:
    """Do what was planned, and return the folder and the bench; see `run_bench`."""
    if request.race is None:  # else once it is known what is left
        plan.check_disk(request.cache_dir)
    return run_bench(request, plan, BenchScreen(request.protocol.metric), listeners)
