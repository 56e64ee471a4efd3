"""What `probe head` prints of a finished run, whether its images have one label or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.evaluation.two_classes import Threshold
from probe.runs.results import CHOICE_WORDS, METRIC_WORDS

if TYPE_CHECKING:
    from rich.console import Console

    from probe.evaluation.learning_curve import LearningCurve
    from probe.runs.results import RunResult
    from probe.runs.selection import HeadRun

NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_recall": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "log_loss": "log loss",
    "calibration_error": "ECE",
    "calibration_error_scaled": "ECE after scaling",
}
WORST = 20  # classes listed where there are more


def show(run: HeadRun, folder: Path, classes: tuple[str, ...], *, cache_dir: Path) -> None:
    """Print the figures of a run, where it is kept, and what comes next."""
    from probe.screen import console

    out, result = console.stdout(), run.result
    if not result.task.exclusive:
        show_labels(out, result, classes)
        show_subgroups(out, result)
        _show_files(out, result, folder, cache_dir)
        return
    show_metrics(out, result, NAMES)
    about = about_run(result)
    if run.curve is not None and run.curve.split == "test" and result.test_looks:
        about["test"] = (
            f"{1 + len(run.curve.points)} heads, those of the learning curve included, were scored "
            f"on these test rows: {result.test_looks} evaluations by now"
        )
    if about:
        out.print()
        console.facts(out, about)
    if result.two_classes is not None:
        show_two(out, result.two_classes)
    recall = result.per_class.recall
    shown = [name for name in classes if name in recall]
    title = f"recall on {result.per_class.split}"
    if len(shown) > WORST:
        shown = sorted(shown, key=lambda name: recall[name])[:WORST]
        title += f", the {WORST} worst of {len(recall)}"
    out.print()
    console.table(
        out,
        ["class", title],
        [[name, f"{100 * recall[name]:.1f} %"] for name in shown],
        right=(1,),
        fold=(0,),
    )
    show_subgroups(out, result)
    if run.curve is not None:
        out.print()
        _show_curve(out, run.curve)
    _show_files(out, result, folder, cache_dir)


def show_subgroups(out: Console, result: RunResult, *, gap: bool = True) -> None:
    """Print figures by value of the table's columns, the worst first, and columns to be wary of."""
    if result.subgroups is None:
        return
    show_values(out, result.subgroups, result.metric, gap=gap)


def show_values(
    out: Console, subgroups: Mapping[str, Any], metric: str, *, gap: bool = True
) -> None:
    """Print what `RunResult.subgroups` holds; with a `gap` after a blank line."""
    from probe.screen import console

    columns = subgroups["columns"]
    lines = [(name, one) for name, column in columns.items() for one in column["values"]]
    lines.sort(key=lambda line: float(line[1]["figure"]))
    rows = [
        [
            name, one["value"], f"{one['n']:,}", f"{100 * one['figure']:.1f} %",
            f"{100 * one['low']:.1f} to {100 * one['high']:.1f}",
        ]
        for name, one in lines[:WORST]
    ]  # fmt: skip
    word = f"{METRIC_WORDS[metric]} on {subgroups['split']}"
    if len(lines) > WORST:
        word += f", the {WORST} worst of {len(lines)}"
    if gap:
        out.print()
    console.table(
        out, ["column", "value", "images", word, "95 %"], rows, right=(2, 3, 4), fold=(1,)
    )
    signs = sorted(
        ((name, one["shortcut"]) for name, one in columns.items() if "shortcut" in one),
        key=lambda sign: -float(sign[1]["strength"]),
    )
    for name, sign in signs:
        if sign["suspected"]:
            out.print()
            out.print(shortcut_words(name, sign), soft_wrap=True)
    if not gap:
        out.print()


def shortcut_words(name: str, sign: Mapping[str, float]) -> str:
    """Say why a column may be a shortcut."""
    return (
        f"{name} may be a shortcut (strength {sign['strength']:.2f}): the features give it away "
        f"(balanced accuracy {100 * sign['accuracy']:.1f} %, by chance {100 * sign['chance']:.1f} "
        f"%) and it goes with the label (Cramér's V {sign['association']:.2f}); see whether the "
        "head is right where the two do not agree"
    )


def show_metrics(out: Console, result: RunResult, names: Mapping[str, str]) -> None:
    """Print the figures that have a name, a line each, and a column a split."""
    from probe.screen import console

    counts = {"train": result.n_train, "val": result.n_val, "test": result.n_test}
    counts["oof"] = result.n_train  # each by the heads of the folds that did not see it
    splits = list(result.metrics)
    rows = [["images", *(f"{counts[split]:,}" for split in splits)]]
    if result.groups is not None:
        rows.append(["groups", *(_groups(result, split, counts[split]) for split in splits)])
    for name, word in names.items():
        values = [result.metrics[split].get(name) for split in splits]
        if any(value is not None for value in values):
            rows.append([word, *("-" if one is None else _figure(name, one) for one in values)])
    console.table(out, ["", *splits], rows, right=range(1, len(splits) + 1))


def _groups(result: RunResult, split: str, n_rows: int) -> str:
    """Say how many groups the rows of a split are; an unequal size makes them worth fewer."""
    groups = result.groups or {}
    count = groups.get("units", {}).get(split, n_rows)
    effective = groups.get("effective", {}).get(split, count)
    return f"{count:,}" if effective > 0.95 * count else f"{count:,} (as {effective:,.0f})"


def groups_note(result: RunResult) -> str | None:
    """Return what rows are grouped by; None where each is alone."""
    if result.groups is None:
        return None
    by = result.groups.get("by")
    return (
        f"by {by}; those of one group, and copies of a picture, stay on one side, and intervals "
        "are over groups"
        if by
        else "copies of a picture stay on one side, and intervals are over pictures"
    ) + (
        "; unequal ones say as much as the number in brackets"
        if any("(" in _groups(result, split, 1) for split in result.groups.get("units", {}))
        else ""
    )


def _show_files(out: Console, result: RunResult, folder: Path, cache_dir: Path) -> None:
    from probe.screen import console

    out.print()
    files = sorted(path.name for path in folder.iterdir() if "-fold" not in path.name)
    if folds := len(list(folder.glob("*-fold*"))):
        files.append(f"{folds} heads of folds")
    console.facts(
        out,
        {
            "fitted": f"in {console.duration(result.seconds)}",
            "run": f"{console.place(folder)}: {', '.join(files)}",
            "next": after_run(result, folder, cache_dir),
        },
    )


def after_run(result: RunResult, folder: Path, cache_dir: Path) -> str:
    """Return the command that comes after a run: a bundle, or a page where it has no network."""
    from probe.screen import console

    name = console.run_name(folder, cache_dir)
    if not all(result.weights.split("+")):  # imported features: nothing can compute new ones
        return console.command("report", name, "--open", cache_dir=cache_dir)
    return console.command("bundle", name, cache_dir=cache_dir)


def _show_curve(out: Console, curve: LearningCurve) -> None:
    from probe.screen import console

    recalls = curve.bands("mean_recall")
    rows = []
    for count, top1 in curve.bands().items():
        points = [point for point in curve.points if point.per_class == count]
        band = "" if math.isnan(top1.deviation) else f" ± {100 * top1.deviation:.2f}"
        rows.append(
            [
                f"{count:,}", f"{points[0].n_train:,}", f"{100 * top1.mean:.2f}{band} %",
                f"{100 * recalls[count].mean:.2f} %",
            ]
        )  # fmt: skip
    header = ["images a class", "images", f"top-1 on {curve.split}", "balanced accuracy"]
    console.table(out, header, rows, right=(0, 1, 2, 3))
    if any("±" in one for row in rows for one in row):
        out.print(
            "± one standard deviation over draws, corrected for the images that they share",
            soft_wrap=True,
        )


TWO_NAMES = {
    "top1": "top-1",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
    "auc": "ROC AUC",
    "average_precision": "average precision",
}
COST_NAMES = {
    "cost": "cost an image",
    "cost_as_probable": "... as is more probable",
    "cost_always_positive": "... always {positive}",
    "cost_always_negative": "... never {positive}",
}


def show_two(out: Console, two: Mapping[str, Any]) -> None:
    """Print what two classes have of their own, a column a split."""
    from probe.screen import console

    _show_positive(out, two, two["positive"])
    if "threshold" in two:
        at = {"positive": two["positive"], **two["at_threshold"]}
        _show_positive(out, at, f"{two['positive']} at the threshold")
        out.print()
        console.facts(out, {"threshold": Threshold(**two["threshold"]).words()})


def _show_positive(out: Console, two: Mapping[str, Any], title: str) -> None:
    from probe.screen import console

    splits, bounds = list(two["figures"]), two["intervals"]
    rows = [["images", *(f"{two['figures'][split]['positives']:,}" for split in splits)]]
    for name, word in TWO_NAMES.items():
        values = [
            _with_bounds(two["figures"][split].get(name), bounds.get(split, {}).get(name))
            for split in splits
        ]
        if any(value != "-" for value in values):
            rows.append([word, *values])
    for name, word in COST_NAMES.items():
        costs = [
            _cost(two["figures"][split].get(name), bounds.get(split, {}).get(name))
            for split in splits
        ]
        if any(value != "-" for value in costs):
            rows.append([word.format(positive=two["positive"]), *costs])
    out.print()
    header = [f"positive: {title}", *splits]
    console.table(out, header, rows, right=range(1, len(splits) + 1))


def _with_bounds(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    if bounds is None:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.1f} % [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def _cost(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" + (f" [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else "")


def baseline_words(baseline: Mapping[str, Any], split: str) -> str:
    """Say what the largest class alone reaches on a split."""
    figures = baseline["figures"][split]
    return (
        f"always {baseline['class']}, the largest class: top-1 {100 * figures['top1']:.1f} % on "
        f"{split}, balanced accuracy {100 * figures['mean_recall']:.1f} %"
    )


def _place(chosen: Mapping[str, Any]) -> int:
    """Return the place of the chosen candidate among all."""
    also = chosen.get("also", {})
    return next(
        place
        for place, value in enumerate(chosen["values"])
        if value == chosen["chosen"]
        and all(values[place] == chosen["also_chosen"][name] for name, values in also.items())
    )


def about_run(result: RunResult) -> dict[str, str]:
    """Return how the penalty was chosen, how sure the accuracy is, and how often test was seen."""
    about, metric = {}, result.metric
    word = METRIC_WORDS[metric]
    if chosen := result.selection:
        how = f"{chosen['fits']} folds" if chosen["by"] == "folds" else "validation"
        by = chosen.get("metric", metric)  # what decided
        place, decided = _place(chosen), {**METRIC_WORDS, **CHOICE_WORDS}[by]
        # of folds: each over the labels that it has, where oof is over all rows at once
        mean = "mean of the folds' own " if (chosen["by"], by) == ("folds", "map") else ""
        also = "".join(f", {k} {v:.3g}" for k, v in chosen.get("also_chosen", {}).items())
        about["chosen"] = (
            f"{chosen['penalty']} {chosen['chosen']:.3g}{also} of {len(chosen['values'])} by {how} "
            f"({mean}{decided} {_figure(by, chosen[by][place])})"
        ) + (", refit on train + val" if chosen["refit"] else "")
        if "at_end" in chosen:
            about["chosen"] += f"; {' and '.join(chosen['at_end'])} at an end of what was tried"
        if "seeds" in chosen:
            spread = chosen[f"{by}_seed_deviation"][place]
            points = f"{spread:.4f}" if by == "log_loss" else f"{100 * spread:.2f} points"
            about["seeds"] = (
                f"{decided} varies by {points} (standard deviation) over {chosen['seeds']} seeds"
            )
        if "overflowed" in chosen:
            count = len(chosen["overflowed"])
            about["diverged"] = f"{count} candidate{'s' if count > 1 else ''}, left out"
    if spread := result.spread:
        by = spread["metric"]
        decided = {**METRIC_WORDS, **CHOICE_WORDS}[by]
        mean = _figure(by, spread["mean"]).removesuffix(" %")
        about[spread["over"]] = (
            f"{decided} {mean} ± {_figure(by, spread['deviation'])} "
            f"(standard deviation over {spread['count']})"
        )
    if column := result.params.get("sample_weight"):
        about["weights"] = (
            f"the fit counts images by {column}; choices, temperature and figures count each once"
        )
    if ensemble := result.params.get("ensemble"):
        about["ensemble"] = f"test is the {ensemble} of the heads of all folds" + (
            "; shares of votes are not calibrated" if ensemble == "vote" else ""
        )
    grouped = (result.groups or {}).get("units", {})
    bounds = (result.intervals or {}).get(result.per_class.split, {}).get(metric)
    if bounds is not None:
        low, high = bounds
        about["interval"] = (
            f"{word} on {result.per_class.split}: {100 * low:.2f} to {100 * high:.2f} % "
            f"(95 %, over its {'groups' if result.per_class.split in grouped else 'rows'})"
        )
    if result.baseline is not None:
        about["baseline"] = baseline_words(result.baseline, result.per_class.split)
    if note := groups_note(result):
        about["groups"] = note
    if result.test_looks:
        about["test"] = f"this was evaluation {result.test_looks} of these test rows"
    return about


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "log_loss" else f"{100 * value:.2f} %"


LABEL_NAMES = {
    "map": "mAP",
    "micro_f1": "micro F1 at 0.5",
    "macro_f1": "macro F1 at 0.5",
    "micro_f1_chosen": "micro F1 at chosen thresholds",
    "macro_f1_chosen": "macro F1 at chosen thresholds",
    "subset_accuracy": "all labels of an image right",
    "hamming_loss": "decisions that are wrong",
    "macro_auc": "macro AUC",
    "log_loss": "log loss a decision",
    "calibration_error": "ECE",
    "calibration_error_scaled": "ECE after scaling",
}
LOWEST = 20  # labels listed where there are more


def show_labels(out: Console, result: RunResult, classes: tuple[str, ...]) -> None:
    """Print the figures, a column a split, then the labels, a row each."""
    from probe.screen import console

    assert result.multilabel is not None
    show_metrics(out, result, LABEL_NAMES)
    about = about_run(result)
    for split, names in result.multilabel["without_positives"].items():
        about[f"not in {split}"] = f"{_some(names)}: left out of means over labels there"
    if about:
        out.print()
        console.facts(out, about)
    out.print()
    show_each(out, result.multilabel["classes"], classes, result.per_class.split)


def show_each(
    out: Console, figures: Mapping[str, Mapping[str, Any]], classes: tuple[str, ...], split: str
) -> None:
    """Print a row a label; of many those with the lowest average precision."""
    from probe.screen import console

    shown, title = list(classes), f"label, on {split}"
    if len(shown) > LOWEST:
        shown = sorted(shown, key=lambda name: figures[name].get("average_precision", 2.0))[:LOWEST]
        title += f" (the {LOWEST} lowest of {len(classes)})"
    rows = []
    for name in shown:
        one = figures[name]
        values = [one.get(each) for each in ("average_precision", "precision", "recall", "f1")]
        percent = ["-" if value is None else f"{100 * value:.1f} %" for value in values]
        rows.append([name, f"{one['positives']:,}", percent[0], f"{one['threshold']:.2f}",
                     *percent[1:]])  # fmt: skip
    header = [title, "images", "AP", "threshold", "precision", "recall", "F1"]
    console.table(out, header, rows, right=range(1, len(header)), fold=(0,))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
