"""`probe cache du | rm | prune`: show and free disk space."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.core.text import counted

if TYPE_CHECKING:
    from probe.cache.needed import Needed
    from probe.cache.prune import Removal
    from probe.cache.unfinished import Unfinished

Force = Annotated[
    bool, typer.Option("--force", help="Also remove what kept runs and benches need.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]


def remove(
    name: Annotated[
        str,
        typer.Argument(
            help="An entry's name; the start of it is asked about.",
            autocompletion=complete.entries,
        ),
    ],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take the start of a name for the whole.")
    ] = False,
    force: Force = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove an entry. A process that is reading it is not disturbed.

    An entry that a kept run or bench was made from stays, unless --force is given: without it the
    run can no longer be bundled, evaluated or shown with its images.
    """
    from probe.cache.needed import in_words, needed_entries
    from probe.cache.store import Store
    from probe.errors import UsageError
    from probe.screen import console

    folder = cache_folder(cache_dir)
    store = Store(folder)
    path = store.named(name)
    needs = needed_entries(folder).get(path.stem)
    if needs and not force:
        raise UsageError(
            f"{path.stem} is needed by {in_words(needs)}, which could not be bundled or evaluated "
            "without it; --force removes it"
        )
    if not yes and not store.is_exact(name):
        _confirm(path.stem)
    size = path.stat().st_size
    store.discard(path)
    if as_json:
        console.print_json({"removed": str(path), "bytes": size})
    else:
        console.stdout().print(
            f"removed {console.place(path)} ({console.size(size)})", soft_wrap=True
        )


def _confirm(name: str) -> None:
    from probe.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(f"remove {name}? give its whole name, or --yes")
    if not typer.confirm(f"remove {name}?", err=True):
        raise typer.Exit(1)


def prune(
    max_size: Annotated[
        str | None,
        typer.Option(
            help="Keep at most this much, as 500MB or 20GB: entries used longest ago go first, "
            "whatever they cost to make."
        ),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Remove what was made more than N days ago.")
    ] = None,
    unused: Annotated[
        float | None, typer.Option(min=0, help="Remove what was not used for N days.")
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Remove what was left unfinished and nobody is writing."),
    ] = False,
    force: Force = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove entries that are too many, too old or not used. Readers are not disturbed.

    --older-than and --unused also remove what was left unfinished that long ago. What a process
    is writing always stays, and so does, without --force, what a kept run or bench was made from.
    """
    from probe.cache import prune as pruning
    from probe.cache.needed import needed_entries
    from probe.cache.store import Store
    from probe.errors import UsageError

    if max_size is None and older_than is None and unused is None and not partial:
        raise UsageError("prune what? give --max-size, --older-than, --unused or --partial")
    folder = cache_folder(cache_dir)
    store, needed = Store(folder), needed_entries(folder)

    def plan(keep: Needed) -> list[Removal]:
        return pruning.plan_prune(
            store,
            max_size=None if max_size is None else _bytes(max_size),
            older_than=older_than,
            unused=unused,
            partial=partial,
            keep=keep,
        )

    going = plan({} if force else needed)
    kept = {} if force else {p.stem: needed[p.stem] for p in _paths(plan({})) if p.stem in needed}
    _show_removals(going if dry_run else pruning.prune(store, going), kept, dry_run, as_json)


def _paths(removals: list[Removal]) -> list[Path]:
    return [one.path for one in removals if not (one.unfinished or one.temporary)]


def _show_removals(gone: list[Removal], kept: Needed, dry_run: bool, as_json: bool) -> None:
    from probe.cache.needed import in_words
    from probe.screen import console

    total = sum(one.size for one in gone)
    if as_json:
        files = [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in gone]
        console.print_json(
            {"removed": not dry_run, "files": files, "bytes": total, "needed": dict(kept)}
        )
        return
    out, word = console.stdout(), "would remove" if dry_run else "removed"
    for name, needs in kept.items():
        console.stderr().print(f"kept {name}: needed by {in_words(needs)}", soft_wrap=True)
    if kept:
        console.stderr().print("--force removes those, too", soft_wrap=True)
    for one in gone:
        out.print(
            f"{word} {console.place(one.path)} ({console.size(one.size)}, {one.why})",
            soft_wrap=True,
        )
    out.print(f"{word} {counted(len(gone), 'file')}, {console.size(total)}")


def _bytes(text: str) -> int:
    import re

    from probe.errors import UsageError

    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise UsageError(f"--max-size {text}: expected a size as 500MB or 20GB")
    return int(float(found[1]) * units[found[2]])


def disk_use(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show what takes how much disk, and when it was last used."""
    from probe.cache.store import Store
    from probe.cache.unfinished import list_unfinished
    from probe.screen import console

    store = Store(cache_folder(cache_dir))
    entries = sorted(store.entries(), key=lambda entry: -entry.size)
    unfinished = list_unfinished(store)
    total = sum(entry.size for entry in entries) + sum(one.size for one in unfinished)
    if as_json:
        console.print_json(
            {
                "entries": {e.name: {"bytes": e.size, "used": e.used} for e in entries},
                "unfinished": [unfinished_json(one) for one in unfinished],
                "total": total,
            }
        )
        return
    rows = [[console.size(one.size), _when(one.used), one.name] for one in entries]
    rows += [
        [console.size(one.size), _when(one.modified), f"{one.name} (unfinished)"]
        for one in unfinished
    ]
    rows.append([console.size(total), "", f"in {console.place(store.folder)}"])
    console.table(console.stdout(), ["size", "last used", "entry"], rows, right=(0,))


def _when(seconds: float) -> str:
    import datetime

    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def unfinished_json(one: Unfinished) -> dict[str, Any]:
    """Return what ``--json`` says of an entry that is not finished."""
    return {
        "name": one.name,
        "path": str(one.path),
        "done": one.done,
        "rows": one.rows,
        "bytes": one.size,
        "modified": one.modified,
        "writing": one.writing,
    }
