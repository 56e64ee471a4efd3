"""`probe cache`: what lies in the cache, and looking after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli.options import AsJson, CacheDir, cache_folder

if TYPE_CHECKING:
    from probe.cache.store import Entry

app = typer.Typer(help="List, show, verify and remove cache entries.", no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Argument(help="An entry's name or the start of it.", show_default="the newest"),
]


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
            entry.key.dtype,
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
def verify_entry(name: Name = None, cache_dir: CacheDir = None) -> None:
    """Read all of an entry and check it against its checksums."""
    from probe.cache.features import FeatureSet
    from probe.cache.store import Store
    from probe.cli import console

    entry = FeatureSet.open(Store(cache_folder(cache_dir)).choose(name).path)
    entry.verify()
    rows = sum(len(split) for split in entry.splits.values())
    console.stdout().print(
        f"{entry.path}: all {rows:,} rows, labels, ids and the key match their checksums"
    )


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


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "digest": entry.key.digest,
        "splits": dict(entry.counts),
        "row_shape": list(entry.row_shape),
        "bytes": entry.size,
        "key": entry.key.to_json(),
        "provenance": dict(entry.provenance),
    }
