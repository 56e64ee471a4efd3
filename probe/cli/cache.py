"""`probe cache`: what lies in the cache, and looking after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import cache_files, cache_sync
from probe.cli.cache_sync import MovedDataset, MovedWeights, Name
from probe.cli.options import AsJson, CacheDir, Seed, cache_folder
from probe.cli.pass_options import Device

if TYPE_CHECKING:
    from probe.cache.store import Entry
    from probe.upkeep import Drift

app = typer.Typer(
    help="Look after cache entries, and bring features in and out.", no_args_is_help=True
)


@app.command("list")
def list_entries(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the complete entries, the newest first."""
    from probe.cache.store import Store
    from probe.cli import console

    store = Store(cache_folder(cache_dir))
    entries = store.entries()
    if as_json:
        console.print_json({"entries": [_as_json(entry) for entry in entries]})
        return
    if not entries:
        console.stdout().print(
            f"{store.folder}: no entries yet; `probe extract` or `probe demo` makes one"
        )
        return
    rows = [
        [
            entry.name,
            ", ".join(f"{split} {count:,}" for split, count in entry.counts.items()),
            "x".join(map(str, entry.row_shape)),
            entry.key.dtype + (", packed" if entry.packed else ""),
            str(entry.provenance.get("weights", "")),
            console.size(entry.size),
        ]
        for entry in entries
    ]
    console.table(
        console.stdout(),
        ["entry", "images", "features", "dtype", "weights", "size"],
        rows,
        right=(5,),
    )
    if partials := store.partials():
        console.stderr().print(
            f"{len(partials)} unfinished; the command that made it goes on from there: "
            + ", ".join(path.name for path in partials)
        )


@app.command("show")
def show_entry(name: Name = None, cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show an entry's key and where it came from."""
    from probe.cache.store import Store
    from probe.cli import console

    entry = Store(cache_folder(cache_dir)).choose(name)
    if as_json:
        console.print_json(_as_json(entry))
        return
    key = entry.key.to_json()
    facts = {"entry": str(entry.path), "digest": entry.key.digest, "size": console.size(entry.size)}
    facts |= {word: str(value) for word, value in key.items() if word != "rows"}
    facts |= {
        f"rows {split}": f"{entry.counts[split]:,}, content {digest}"
        for split, digest in key["rows"].items()
    }
    facts |= {
        f"from {word}": str(value)
        for word, value in entry.provenance.items()
        if value not in (None, [], 0)
    }
    console.facts(console.stdout(), facts)


@app.command("verify")
def verify_entry(
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
    device: Device = "auto",
    seed: Seed = 42,
    cache_dir: CacheDir = None,
) -> None:
    """Read all of an entry and check it against its checksums."""
    from probe.cache.store import Store
    from probe.cli import console
    from probe.errors import ProbeError
    from probe.upkeep import measure_drift

    folder = cache_folder(cache_dir)
    store = Store(folder)

    def is_good(path: Path) -> bool:
        _verify(path)
        if sample is None:
            return True
        entry, prepared = cache_sync.reopen(
            path.stem, folder, dataset_root, weights,
            strict=False, batch_size=None, workers=None, device=device,
        )  # fmt: skip
        drift = measure_drift(entry, prepared, count=sample, seed=seed)
        _show_drift(drift)
        return drift.agrees

    if not every:
        if not is_good(store.choose(name).path):
            raise typer.Exit(1)
        return
    paths, bad = store.files(), 0
    for path in paths:
        try:
            bad += not is_good(path)
        except ProbeError as error:  # the others are looked at all the same
            console.stderr().print(f"probe: {error}", soft_wrap=True)
            bad += 1
    console.stdout().print(f"{len(paths)} entries, {bad} of them not as they should be")
    if bad:
        raise typer.Exit(1)


def _verify(path: Path) -> None:
    from probe.cache.features import FeatureSet
    from probe.cli import console

    entry = FeatureSet.open(path)
    entry.verify()
    rows = sum(len(split) for split in entry.splits.values())
    console.stdout().print(
        f"{entry.path}: all {rows:,} rows, labels, ids and the key match their checksums"
    )


def _show_drift(drift: Drift) -> None:
    from probe.cli import console

    facts = {
        "forwarded": f"{drift.rows:,} rows again"
        + (f"; {drift.gone:,} more are no longer there" if drift.gone else ""),
        "largest": f"difference of a feature {drift.largest:.3g}",
        "relative": f"{drift.relative:.3g} of a row's norm ({drift.worst}); "
        f"{'within' if drift.relative <= drift.tolerance else 'BEYOND'} {drift.tolerance:g}",
    }
    if drift.recipe:
        facts["changed"] = "; ".join(drift.recipe)
    console.facts(console.stdout(), facts)


@app.command("rm")
def remove_entry(
    name: Annotated[str, typer.Argument(help="An entry's name or the start of it.")],
    cache_dir: CacheDir = None,
) -> None:
    """Remove an entry. A process that is reading it is not disturbed."""
    from probe.cache.store import Store
    from probe.cli import console

    store = Store(cache_folder(cache_dir))
    path = store.remove(name)
    console.stdout().print(f"removed {path}")


@app.command("prune")
def prune_entries(
    max_size: Annotated[
        str | None,
        typer.Option(help="Keep at most this much, as 500MB or 20GB; the longest unused go first."),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Remove what was made more than N days ago.")
    ] = None,
    unused: Annotated[
        float | None, typer.Option(min=0, help="Remove what was not used for N days.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Remove entries that are too many, too old or not used. Readers are not disturbed."""
    from probe.cache.prune import plan_prune, prune
    from probe.cache.store import Store
    from probe.cli import console
    from probe.errors import UsageError

    if max_size is None and older_than is None and unused is None:
        raise UsageError("prune what? give --max-size, --older-than or --unused")
    store = Store(cache_folder(cache_dir))
    going = plan_prune(
        store,
        max_size=None if max_size is None else _bytes(max_size),
        older_than=older_than,
        unused=unused,
    )
    if not dry_run:
        prune(store, going)
    out, word = console.stdout(), "would remove" if dry_run else "removed"
    for one in going:
        out.print(f"{word} {one.path} ({console.size(one.size)}, {one.why})", soft_wrap=True)
    out.print(f"{word} {len(going)} files, {console.size(sum(one.size for one in going))}")


def _bytes(text: str) -> int:
    import re

    from probe.errors import UsageError

    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UsageError(f"--max-size {text}: expected a size as 500MB or 20GB")
    return int(float(found[1]) * units[found[2]])


@app.command("du")
def disk_use(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show what takes how much disk, and when it was last used."""
    import datetime

    from probe.cache.store import Store
    from probe.cli import console

    store = Store(cache_folder(cache_dir))
    entries = sorted(store.entries(), key=lambda entry: -entry.size)
    unfinished = sum(path.stat().st_size for path in store.partials())
    total = sum(entry.size for entry in entries) + unfinished
    if as_json:
        sizes = {entry.name: {"bytes": entry.size, "used": entry.used} for entry in entries}
        console.print_json({"entries": sizes, "unfinished": unfinished, "total": total})
        return
    rows = [
        [
            console.size(entry.size),
            datetime.datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M"),
            entry.name,
        ]
        for entry in entries
    ]
    rows += [[console.size(unfinished), "", "unfinished"]] if unfinished else []
    rows.append([console.size(total), "", f"in {store.folder}"])
    console.table(console.stdout(), ["size", "last used", "entry"], rows, right=(0,))


app.command("explain")(cache_sync.explain)
app.command("sync")(cache_sync.sync)
app.command("pack")(cache_files.pack)
app.command("import")(cache_files.import_files)
app.command("export")(cache_files.export)


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "digest": entry.key.digest,
        "splits": dict(entry.counts),
        "row_shape": list(entry.row_shape),
        "bytes": entry.size,
        "packed": entry.packed,
        "key": entry.key.to_json(),
        "provenance": dict(entry.provenance),
    }
