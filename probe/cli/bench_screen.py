"""What `probe bench` shows: the plan, what it is doing, and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.bench.race_record import race_words
from probe.bench.record import SCORE_TITLES, unbounded_words
from probe.core.text import counted
from probe.errors import ProbeError
from probe.evaluation.task import task_by_metric
from probe.runs.results import LOSSES, METRIC_WORDS, difference_text, figure_text, read_run
from probe.runs.tie_words import about, settling_cell
from probe.screen import console

if TYPE_CHECKING:
    from probe.bench.plan import Plan
    from probe.bench.record import Bench, Comparison, Row
    from probe.evaluation.pairs import Pair
    from probe.evaluation.settling import Settling

SPLITS = {"val": "val", "oof": "out of fold"}
SECOND = {"top1": ("mean_recall", "bal. acc."), "map": ("macro_auc", "AUC")}  # beside the metric
OTHERWISE = ("top1", "top-1")


def plan_object(plan: Plan) -> dict[str, Any]:
    """Return the plan for `--json`."""
    passes = [
        {
            "dataset": one.request.dataset,
            "candidate": one.candidate.text,
            "features": list(one.names),
            "images": one.images,
            "missing": one.missing,
            "complete": one.complete,
            "disk": one.disk,
            "images_per_second": one.rate,
            "seconds": one.seconds,
            "reason": one.reason,
        }
        for passes in plan.passes
        for one in passes
    ]
    return {"passes": passes, "disk": plan.disk, "seconds": plan.seconds}


def show(bench: Bench, folder: Path) -> None:
    """Print the leaderboards, what they cost, how the scores did, and the answer."""
    out = console.stdout()
    for comparison in bench.comparisons:
        rows = [bench.row(name) for name in comparison.rows]
        if not rows:
            continue
        images = ", ".join(f"{name} {count:,}" for name, count in comparison.images.items())
        split = bench.protocol.split
        if count := (rows[0].groups or {}).get(split):
            images += f" ({SPLITS[split]}: {counted(count, 'group')})"
        kinds = task_by_metric(bench.protocol.metric).columns
        out.print(f"{comparison.dataset}: {images} images, {comparison.n_classes} {kinds}")
        out.print()
        _leaderboard(bench, rows)
        out.print()
        _costs(rows)
        _ties(bench, comparison)
        if comparison.agreement:
            out.print()
            _agreement(comparison, bench.protocol.metric)
        if unbounded := [one.features for one in comparison.scores if one.value is None]:
            out.print(unbounded_words(unbounded), style="dim", soft_wrap=True)
        out.print()
    for text in dict.fromkeys(f"{row.dataset}: {row.name}: {row.reason}" for row in bench.failed):
        out.print(f"failed    {text}", soft_wrap=True)
        out.print()
    for race in bench.races:
        out.print(race_words(race), soft_wrap=True)
        out.print()
    if bench.matrix:
        _matrix(bench)
    for comparison in bench.comparisons:
        several = f"{comparison.dataset}: " if len(bench.comparisons) > 1 else ""
        out.print(f"{several}{comparison.verdict}", style="bold")
        out.print()
        _winners_subgroups(bench, comparison, folder)
    facts = {"kept": f"{console.place(folder)}: bench.json, results.csv"}
    if len(bench.comparisons) == 1 and (winner := bench.comparisons[0].winner):
        row = bench.row(winner)
        cache = folder.parent.parent
        facts["next"] = console.command("report", "--open", cache_dir=cache)
        if row.run and all(row.weights.split("+")):  # imported features have none
            bundle = console.command(
                "bundle", row.run, "--out", f"{row.dataset}.probe", cache_dir=cache
            )
            facts["next"] += f"; {bundle}"
    console.facts(out, facts)


def _winners_subgroups(bench: Bench, comparison: Comparison, folder: Path) -> None:
    """Print the winner's figures by the table's columns, and columns to be wary of."""
    from probe.cli.head_figures import show_subgroups

    if comparison.winner is None:
        return
    run, out = folder.parent.parent / "runs" / (bench.row(comparison.winner).run or ""), None
    try:
        result, out = read_run(run), console.stdout()
    except ProbeError:
        return  # the run went away since
    show_subgroups(out, result, gap=False)
    if any(bench.row(one).subgroups for one in comparison.rows if one != comparison.winner):
        out.print("that is the winner; bench.json and the report have every row's", style="dim")
        out.print()


def _leaderboard(bench: Bench, rows: Sequence[Row]) -> None:
    split, metric = bench.protocol.split, bench.protocol.metric
    several, tested = len(bench.protocol.heads) > 1, any("test" in row.metrics for row in rows)
    second, word = SECOND.get(metric, OTHERWISE)
    of = f"{METRIC_WORDS[metric]}, " * (metric != "top1")
    columns = ["", "features", *["head"] * several, of + SPLITS[split], "95 %", word, "ECE"]
    columns += [of + "test"] * tested + ["ties"]
    lines = []
    for row in rows:
        figures = row.metrics[split]
        low, high = row.intervals.get(split, {}).get(metric, (None, None))
        line = [str(row.rank), row.name, *[row.head] * several, _figure(metric, figures[metric])]
        line += [_interval(metric, low, high), _percent(figures.get(second))]
        line += [_percent(figures["calibration_error"])]
        line += [_figure(metric, row.metrics.get("test", {}).get(metric))] * tested
        lines.append([*line, row.letters])
    numbers = range(2 + several, len(columns) - 1)
    console.table(console.stdout(), columns, lines, right=(0, *numbers), fold=(1,))
    below = "in percent" + ", log loss in nats, less is better" * (metric in LOSSES)
    if not task_by_metric(metric).exclusive:
        below += "; mAP: mean average precision over the labels; AUC: the mean over them"
    if len(rows) > 1:
        below += "; rows that share a letter are not distinguishable with these data"
    console.stdout().print(below, style="dim")


def _ties(bench: Bench, comparison: Comparison) -> None:
    """Print what would settle ties with the winner; of a single one the verdict says it all."""
    several = len(bench.protocol.heads) > 1
    pairs = [
        (bench.row(pair.b), pair, pair.settling)
        for pair in comparison.pairs
        if pair.a == comparison.winner and pair.settling is not None
    ]
    if len(pairs) < 2:
        return
    lines = [
        [row.name, *[row.head] * several, difference_text(bench.protocol.metric, pair.difference),
         settling_cell(pair), _chance(pair, told),
         "-" if told.labelled is None else about(told.labelled)]
        for row, pair, told in pairs
    ]  # fmt: skip
    columns = ["tied with the winner", *["head"] * several, "behind by"]
    columns += ["images to hold out", "chance", "labelled in all"]
    out, first = console.stdout(), 1 + several
    out.print()
    console.table(out, columns, lines, right=(first, first + 2, first + 3), fold=(0,))
    out.print(
        "held out, to show the difference that was seen, or half a point if that is more, in four "
        "of five cases where it is real (for any that these images leave open); chance: to show "
        "one, real or not",
        style="dim", soft_wrap=True,
    )  # fmt: skip


def _chance(pair: Pair, told: Settling) -> str:
    """Return the chance that is told beside a number for the difference that was seen."""
    return "-" if told.size > abs(pair.difference) else f"{100 * told.chance:.0f} %"


def _costs(rows: Sequence[Row]) -> None:
    """Print what each features cost; those after a PCA cost the pass they come from."""
    columns = ["features", "width", "img/s", "extract", "disk", "params", "MACs", "ImageNet"]
    lines = {}
    for row in rows:
        cost = row.cost
        if row.pca is None:
            lines[row.name] = [
                row.name,
                f"{row.feature_dim:,}",
                _or_dash(cost.images_per_second, console.rate),
                _or_dash(cost.extract_seconds, lambda value: f"{value:,.0f} s"),
                _or_dash(cost.disk, console.size),
                _or_dash(cost.parameters, _count),
                _or_dash(cost.multiply_adds, _count),
                _percent(cost.imagenet_top1),
            ]
    out = console.stdout()
    console.table(out, columns, list(lines.values()), right=range(1, len(columns)), fold=(0,))
    fits = []
    for head in dict.fromkeys(row.head for row in rows):
        taken = sorted(row.cost.head_seconds or 0 for row in rows if row.head == head)
        upto = f" to {console.duration(taken[-1])}" if len(taken) > 1 else ""
        fits.append(f"{head} {console.duration(taken[0])}{upto}")
    out.print(f"heads were fitted in: {', '.join(fits)}", style="dim")


def _agreement(comparison: Comparison, metric: str) -> None:
    lines = [
        [SCORE_TITLES.get(one.score, one.score), f"{one.kendall:+.2f}", f"{one.weighted:+.2f}",
         f"{one.p:.2f}", one.best,
         f"{one.loss:.4f}" if metric in LOSSES else f"{100 * one.loss:.2f}"]
        for one in comparison.agreement
    ]  # fmt: skip
    columns = ["without training", "tau", "weighted", "p", "it would take",
               "nats lost" if metric in LOSSES else "points lost"]  # fmt: skip
    console.table(console.stdout(), columns, lines, right=(1, 2, 3, 5), fold=(4,))


def _matrix(bench: Bench) -> None:
    out, matrix = console.stdout(), bench.matrix
    assert matrix is not None
    lines = [
        [name, *(_figure(bench.protocol.metric, value) for value in values), f"{rank:.2f}"]
        for name, values, rank in zip(
            matrix.names, matrix.values, matrix.average_ranks, strict=True
        )
    ]
    columns = ["features", *matrix.datasets, "mean rank"]
    console.table(out, columns, lines, right=range(1, len(columns)), fold=(0,))
    if matrix.friedman_p is not None:
        out.print(
            f"Friedman p {matrix.friedman_p:.3g}; mean ranks that differ by less than "
            f"{matrix.critical_difference:.2f} are not distinguishable"
        )
    out.print(matrix.note, style="dim", soft_wrap=True)
    out.print()


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _figure(metric: str, value: float | None) -> str:
    return figure_text(metric, value).removesuffix(" %")


def _interval(metric: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:.3f}-{high:.3f}" if metric in LOSSES else f"{100 * low:.1f}-{100 * high:.1f}"


def _or_dash(value: Any, form: Any) -> str:
    return "-" if value is None else str(form(value))


def _count(value: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.0f}"
