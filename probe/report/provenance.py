"""The commands and settings behind every number, and the ledger of test evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probe.bench.record import Bench, Row
from probe.cache.joining import Joined
from probe.core.text import counted
from probe.report.markup import Markup, element, join, number, percent, table
from probe.report.material import Material
from probe.report.ranking import Run
from probe.runs.results import METRIC_WORDS, RunResult

METRICS = {
    "map": "mAP",
    "micro_f1": "micro F1 at 0.5",
    "micro_f1_chosen": "micro F1 at chosen thresholds",
    "macro_f1_chosen": "macro F1 at chosen thresholds",
    "subset_accuracy": "all labels of an image right",
    "hamming_loss": "decisions that are wrong",
    "top1": "top-1",
    "top5": "top-5",
    "mean_recall": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "log_loss": "log loss, nats",
    "calibration_error": "ECE",
    "calibration_error_scaled": "ECE after scaling",
}


def command_line(command: str) -> Markup:
    """Return a command with a button that copies it."""
    if not command:
        return element("p", "The command was not recorded.", {"class": "note"})
    button = element("button", "Copy", {"type": "button", "data-copy": True, "class": "screen"})
    return element("div", [element("code", command), button], {"class": "command"})


def provenance(material: Material) -> Markup:
    """Return a block for the bench, each run and each entry."""
    parts = [_bench(material.bench)] if material.bench else []
    parts += [
        _run(material, row, material.runs[row.id])
        for row in material.rows
        if row.id in material.runs
    ]
    return join([*parts, *(_entry(joined) for joined in material.entries.values())])


def _bench(bench: Bench) -> Markup:
    protocol = bench.protocol
    how = f"{protocol.folds} folds" if protocol.folds else f"val-size {protocol.val_size:g}"
    ranked = f"ranked by {METRIC_WORDS[protocol.metric]} on {protocol.split}"
    column = protocol.sample_weight
    weighted = "" if column is None else f"; fits weight images by {column}, figures do not"
    facts = {
        "finished": f"{bench.created}, in {bench.seconds:.0f} s without reused results",
        "protocol": f"{how}, seed {protocol.seed}, {ranked}{weighted}",
        "versions": _pairs(bench.versions),
    }
    return _block(
        f"bench-{bench.id}", f"Bench {bench.id}", [command_line(bench.command), _facts(facts)]
    )


def _groups(one: RunResult) -> str:
    """Return the number of groups of a run's rows, and their column; empty without groups."""
    if one.groups is None:
        return ""
    counts = ", ".join(f"{split} {count:,}" for split, count in one.groups["units"].items())
    return f"{counts}; by {one.groups['by'] or 'picture, of which there are copies'}"


def _subgroups(one: RunResult) -> str:
    """Return the worst value of each column of the table, and columns that may be a shortcut."""
    if one.subgroups is None:
        return ""
    texts = []
    for name, column in one.subgroups["columns"].items():
        worst = column["values"][0]
        text = (
            f"{name} worst at {worst['value']}: {percent(worst['figure'])} "
            f"({100 * worst['low']:.1f} to {100 * worst['high']:.1f}) of "
            f"{counted(worst['n'], 'image')}"
        )
        sign = column.get("shortcut", {})
        if sign.get("suspected"):
            text += (
                f"; it may be a shortcut: the features predict it (balanced accuracy "
                f"{percent(sign['accuracy'])}, by chance {percent(sign['chance'])}) and it is "
                f"associated with the label (Cramér's V {sign['association']:.2f})"
            )
        texts.append(text)
    return f"on {one.subgroups['split']}: " + "; ".join(texts)


def _run(material: Material, row: Row, run: Run) -> Markup:
    one = run.result
    facts = {
        "run": str(run.folder),
        "entry": one.entry,
        "weights": one.weights,
        "parameters": _pairs({k: v for k, v in one.params.items() if v is not None}),
        "rows": f"train {one.n_train:,}, val {one.n_val:,}, test {one.n_test:,}; seed {one.seed}",
        "groups": _groups(one),
        "subgroups": _subgroups(one),
        "chosen": _chosen(one.selection),
        "temperature": "" if one.temperature is None else f"{one.temperature:.4g}",
        "test": "" if one.test_looks is None else f"evaluation {one.test_looks} of these test rows",
        "fitted": f"{one.created}, in {one.seconds:.1f} s",
        "versions": _pairs(one.versions),
    }
    content = [command_line(one.command), _facts(facts), _figures(row)]
    return _block(f"run-{row.id}", material.labels[row.id], content)


def _chosen(selection: Mapping[str, Any] | None) -> str:
    if not selection:
        return ""
    how = f"{selection['fits']} folds" if selection["by"] == "folds" else "validation rows"
    refit = "; fitted again on train + val" if selection.get("refit") else ""
    values = len(selection["values"])
    end = ""
    if "at_end" in selection:
        end = f"; {' and '.join(selection['at_end'])} at an end of the values tried"
    chosen = f"{selection['penalty']} {selection['chosen']:.4g}"
    return f"{chosen} of {values} values, by {how}{refit}{end}"


def _figures(row: Row) -> Markup:
    used = [name for name in METRICS if any(name in one for one in row.metrics.values())]
    rows = []
    for split, figures in row.metrics.items():
        cells: list[object] = [element("th", split, {"scope": "row"})]
        for name in used:
            value, bounds = figures.get(name), row.intervals.get(split, {}).get(name)
            text = percent(value) if name != "log_loss" or value is None else f"{value:.4f}"
            if bounds:
                scale, digits = (1, 4) if name == "log_loss" else (100, 2)
                text += f" ({scale * bounds[0]:.{digits}f} to {scale * bounds[1]:.{digits}f})"
            cells.append(number(text, value))
        rows.append(cells)
    heads = [element("th", METRICS[name], {"scope": "col", "class": "number"}) for name in used]
    return table(["split", *heads], rows, caption="All figures, with 95 % intervals")


def _entry(joined: Joined) -> Markup:
    entry = joined.entry
    known = entry.provenance
    facts = {
        "file": str(entry.path),
        "backbone": f"{entry.key.backbone}, {entry.key.layer}, pool {entry.key.pool}",
        "weights": str(known.get("weights", "")),
        "preprocessing": _pairs(entry.key.to_json()["preprocess"]),
        "images": ", ".join(f"{name} {len(split):,}" for name, split in joined.splits.items()),
        "joined from": ", ".join(sorted(set(joined.sources.values()) - {entry.name})),
        "features": f"{' x '.join(map(str, entry.row_shape))}, {entry.key.dtype}",
        "key": entry.key.digest,
        "forward pass": f"{entry.seconds:.1f} s",
        "versions": _pairs(known.get("versions") or {}),
    }
    command = str(known.get("command") or "")
    return _block(
        f"entry-{entry.name}", f"Entry {entry.name}", [command_line(command), _facts(facts)]
    )


def _block(name: str, title: str, content: Sequence[Markup]) -> Markup:
    inner = [element("summary", title), element("div", content)]
    return element("details", inner, {"id": name})


def _facts(facts: Mapping[str, str]) -> Markup:
    """Return a list of names and values without the empty ones."""
    rows = [
        join([element("dt", word), element("dd", value)]) for word, value in facts.items() if value
    ]
    return element("dl", rows)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _clock(time: str) -> str:
    """Return a time of a record, which is UTC, without what says so."""
    return time.removesuffix("+00:00").replace("T", " ")


def ledger(evaluations: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the table of test evaluations, oldest first."""
    if not evaluations:
        text = "No evaluation on these test rows is recorded in this cache folder."
        return element("p", text, {"class": "note"})
    rows = [
        [
            number(str(count), count),
            element("td", _clock(str(one.get("time", ""))), {"class": "time"}),
            number(f"{one['rows']:,}" if isinstance(one.get("rows"), int) else "", None),
            element("td", str(one.get("entry", "")), {"class": "long"}),
            element("td", element("code", str(one.get("command", ""))), {"class": "long"}),
        ]
        for count, one in enumerate(evaluations, start=1)
    ]
    columns = ["evaluation", "time, UTC", "rows", "entry", "command"]
    return table(columns, rows, caption=f"{len(evaluations):,} evaluations of these test rows")
