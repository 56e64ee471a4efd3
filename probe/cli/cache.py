"""`probe cache`: list and show cache entries."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from probe.cli import cache_files, cache_space, cache_sync, cache_verify
from probe.cli.cache_sync import Name
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, cache_folder

if TYPE_CHECKING:
    from probe.cache.store import Entry
    from probe.cache.unfinished import Unfinished

WIDE = 160  # columns that a list of entries takes, or about as many

app = command_app("Look after cache entries, and bring features in and out.")


@app.command(cls=Command, name="list")
def list_entries(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """List the complete entries, the newest first, and what is unfinished."""
    from probe.cache.store import Store
    from probe.cache.unfinished import list_unfinished
    from probe.screen import console

    store = Store(cache_folder(cache_dir))
    entries, unfinished = store.entries(), list_unfinished(store)
    if as_json:
        console.print_json(
            {
                "entries": [_as_json(entry) for entry in entries],
                "unfinished": [cache_space.unfinished_json(one) for one in unfinished],
            }
        )
        return
    out = console.stdout()
    if entries:
        _show_entries(entries)
    else:
        where = console.place(store.folder)
        out.print(f"{where}: no entries yet; `probe extract` or `probe demo` makes one")
    if unfinished:
        _show_unfinished(unfinished)


def _show_entries(entries: list[Entry]) -> None:
    from probe.screen import console

    rows = [
        [
            entry.name,
            ", ".join(f"{split} {count:,}" for split, count in entry.counts.items()),
            entry.key.layer + ("" if entry.key.pool == "none" else f" ({entry.key.pool})"),
            ":".join(  # as names of features have it
                str(entry.provenance[key])
                for key in ("size", "resize")
                if entry.provenance.get(key)
            )
            or "-",
            "x".join(map(str, entry.row_shape)),
            entry.key.dtype + (", packed" if entry.packed else ""),
            str(entry.provenance.get("weights", "")),
            f"{datetime.datetime.fromtimestamp(entry.modified):%Y-%m-%d %H:%M}",
            console.size(entry.size),
        ]
        for entry in entries
    ]
    out = console.stdout()
    if out.is_terminal and out.width < WIDE:
        narrow = [
            [console.two_lines(name, f"{images}; {layer} at {side}, {shape} {dtype}"), size]
            for name, images, layer, side, shape, dtype, _, _, size in rows
        ]
        console.table(out, ["entry", "size"], narrow, right=(1,))
    else:
        columns = ["entry", "images", "layer", "input", "features", "dtype", "weights", "made"]
        console.table(out, [*columns, "size"], rows, right=(3, 8))


def _show_unfinished(unfinished: list[Unfinished]) -> None:
    from probe.screen import console

    rows = [
        [
            one.name,
            f"{one.done:,} of {one.rows:,}" if one.rows else "none",
            "being written"
            if one.writing
            else f"left at {datetime.datetime.fromtimestamp(one.modified):%Y-%m-%d %H:%M}",
            console.size(one.size),
        ]
        for one in unfinished
    ]
    out = console.stdout()
    out.print()
    console.table(out, ["unfinished, no entry yet", "images", "", "size"], rows, right=(3,))
    if any(not one.writing for one in unfinished):
        err = console.stderr()
        err.print()
        err.print(
            "the command that made one goes on from there, others of its recipe copy its rows; "
            "`probe cache prune --partial` removes those that nobody is writing",
            soft_wrap=True,
        )


@app.command(cls=Command, name="show")
def show_entry(name: Name = None, cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show an entry's key and where it came from."""
    from probe.cache.store import Store
    from probe.screen import console

    entry = Store(cache_folder(cache_dir)).choose(name)
    if as_json:
        console.print_json(_as_json(entry))
        return
    key = entry.key.to_json()
    facts = {
        "entry": console.place(entry.path),
        "digest": entry.key.digest,
        "size": console.size(entry.size),
    }
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


app.command(cls=Command, name="verify")(cache_verify.verify)
app.command(cls=Command, name="rm")(cache_space.remove)
app.command(cls=Command, name="prune")(cache_space.prune)
app.command(cls=Command, name="du")(cache_space.disk_use)
app.command(cls=Command, name="explain")(cache_sync.explain)
app.command(cls=Command, name="sync")(cache_sync.sync)
app.command(cls=Command, name="pack")(cache_files.pack)
app.command(cls=Command, name="import")(cache_files.import_files)
app.command(cls=Command, name="export")(cache_files.export)


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
