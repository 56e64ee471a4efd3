"""`probe cache verify`: check entries against their checksums, and against today's network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import cache_sync
from probe.cli.cache_sync import MovedDataset, MovedWeights, Name
from probe.cli.options import AsJson, CacheDir, Seed, cache_folder
from probe.cli.pass_options import Device, EngineName
from probe.core.text import counted

if TYPE_CHECKING:
    from probe.cache.damage import BadBlock
    from probe.cache.features import FeatureSet
    from probe.extraction.drift import Drift


MOST_ROWS = 20  # named on the screen


def verify(
    name: Name = None,
    every: Annotated[bool, typer.Option("--all", help="All entries.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, help="Forward N random rows again too, and report the largest difference."
        ),
    ] = None,
    dataset_root: MovedDataset = None,
    weights: MovedWeights = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    seed: Seed = 42,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Read all of an entry and check it against its checksums; exit 1 if it does not match.

    Damaged rows are named; `probe cache sync --repair` makes their blocks again.
    """
    from probe.cache.store import Store
    from probe.errors import ProbeError
    from probe.screen import console

    folder = cache_folder(cache_dir)
    store = Store(folder)

    def look(path: Path) -> dict[str, Any]:
        report = _read(path)
        if sample is None or not report["good"]:
            return report
        try:
            drift = _drift(path, folder, dataset_root, weights, engine, device, sample, seed)
        except ProbeError as error:  # the images or the weights are gone
            if not every:
                raise
            return report | {"good": False, "error": str(error)}
        return report | {"good": drift.agrees, "sample": _drift_json(drift)}

    reports = []
    for path in store.files() if every else [store.choose(name).path]:
        reports.append(look(path))
        if not as_json:
            _show(reports[-1])
    if as_json:
        console.print_json({"entries": reports})
    elif every:
        bad = sum(not one["good"] for one in reports)
        console.stdout().print(
            f"{counted(len(reports), 'entry', 'entries')}, {bad} of them not as they should be"
        )
    if not all(one["good"] for one in reports):
        raise typer.Exit(1)


def _read(path: Path) -> dict[str, Any]:
    """Read all of an entry and return what there is to say of it."""
    from probe.cache.features import FeatureSet
    from probe.core.columns import names_of
    from probe.errors import CacheError

    try:
        entry = FeatureSet.open(path)
        columns = names_of(split.columns for split in entry.splits.values())
    except CacheError as error:
        return {"name": path.stem, "path": str(path), "good": False, "error": str(error)}
    damage = entry.damage()
    return {
        "name": entry.name,
        "path": str(entry.path),
        "rows": sum(len(split) for split in entry.splits.values()),
        "columns": columns,
        "good": not damage and not entry.opened.folds_damaged,
        "damage": [_damage_json(entry, bad) for bad in damage],
        "folds_damaged": entry.opened.folds_damaged,
    }


def _damage_json(entry: FeatureSet, bad: BadBlock) -> dict[str, Any]:
    ids = entry[bad.split].ids
    return {
        "split": bad.split,
        "start": bad.start,
        "stop": bad.stop,
        "first": bad.first,
        "rows": [{"row": row, "id": ids[row]} for row in bad.rows],
    }


def _drift(
    path: Path, folder: Path, dataset_root: Path | None, weights: str | None,
    engine: str, device: str, sample: int, seed: int,
) -> Drift:  # fmt: skip
    from probe.cache.features import FeatureSet
    from probe.extraction.drift import measure_drift

    chosen, prepared = cache_sync.reopen(
        path.stem, folder, dataset_root, weights,
        strict=False, batch_size=None, workers=None, engine=engine, device=device,
    )  # fmt: skip
    return measure_drift(FeatureSet.open(chosen.path), prepared, count=sample, seed=seed)


def _drift_json(drift: Drift) -> dict[str, Any]:
    return {
        "rows": drift.rows,
        "gone": drift.gone,
        "largest": drift.largest,
        "relative": drift.relative,
        "tolerance": drift.tolerance,
        "worst": drift.worst,
        "made_by": drift.made_by,
        "checked_by": drift.checked_by,
        "changed": list(drift.recipe),
    }


def _show(report: dict[str, Any]) -> None:
    from probe.screen import console

    out = console.stdout()
    if "error" in report:
        console.stderr().print(f"probe: {report['error']}", soft_wrap=True)
        return
    if report["damage"]:
        _show_damage(report)
    if report["folds_damaged"]:
        out.print(
            f"{console.place(report['path'])}: the folds, which only say where "
            "damage is, are damaged",
            soft_wrap=True,
        )
    if not report["good"] and "sample" not in report:
        console.stderr().print(
            f"`probe cache sync --repair {report['name']}` makes again what is damaged and keeps "
            "the rest",
            soft_wrap=True,
        )
        return
    out.print(
        f"{console.place(report['path'])}: all {report['rows']:,} rows, labels, ids"
        f"{', columns' if report['columns'] else ''} and the key match their checksums",
        soft_wrap=True,
    )
    if "sample" in report:
        _show_drift(report["sample"])


def _show_damage(report: dict[str, Any]) -> None:
    from probe.screen import console

    out, damage = console.stdout(), report["damage"]
    rows = [(bad["split"], one["row"], one["id"]) for bad in damage for one in bad["rows"]]
    vague = [bad for bad in damage if not bad["rows"]]
    blocks = f"{len(damage):,} {'block' if len(damage) == 1 else 'blocks'}"
    count = f"{len(rows):,} bad {'row' if len(rows) == 1 else 'rows'}, in " if rows else ""
    out.print(f"{console.place(report['path'])}: damaged; {count}{blocks} of rows:", soft_wrap=True)
    for split, row, name in rows[:MOST_ROWS]:
        out.print(f"  {split} row {row:,} ({name})", soft_wrap=True)
    if rows[MOST_ROWS:]:
        out.print(f"  and {len(rows) - MOST_ROWS:,} more; --json has them all")
    for bad in vague[:MOST_ROWS]:
        out.print(
            f"  something in {bad['split']} rows {bad['start']:,} to {bad['stop'] - 1:,} "
            f"(the first is {bad['first']})",
            soft_wrap=True,
        )
    if vague[MOST_ROWS:]:
        out.print(f"  and {len(vague) - MOST_ROWS:,} more blocks; --json has them all")


def _show_drift(drift: dict[str, Any]) -> None:
    from probe.screen import console

    gone = f"; {drift['gone']:,} more are no longer there" if drift["gone"] else ""
    within = "within" if drift["relative"] <= drift["tolerance"] else "BEYOND"
    facts = {
        "forwarded": f"{counted(drift['rows'], 'row')} again{gone}",
        "engine": f"{drift['made_by']} made them, {drift['checked_by']} checks them",
        "largest": f"difference of a feature {drift['largest']:.3g}",
        "relative": f"{drift['relative']:.3g} of a row's norm ({drift['worst']}); "
        f"{within} {drift['tolerance']:g}",
    }
    if drift["changed"]:
        facts["changed"] = "; ".join(drift["changed"])
    console.facts(console.stdout(), facts)
