"""`probe cache explain | sync`: explain what a request would reuse, and update an entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import complete, pass_options
from probe.cli.extract import interruptible
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.core.options import default_workers
from probe.core.text import counted
from probe.core.urls import is_url, typed_command
from probe.errors import DataError

if TYPE_CHECKING:
    from probe.cache.features import FeatureSet
    from probe.cache.store import Entry
    from probe.extraction.request import Prepared
    from probe.extraction.upkeep import Explanation, SyncPlan

Name = Annotated[
    str | None,
    typer.Argument(
        help="An entry's name or the start of it.",
        show_default=complete.DEFAULT_ENTRY,
        autocompletion=complete.entries,
    ),
]
MovedDataset = Annotated[
    Path | None,
    typer.Option(
        "--dataset-root",
        help="Where the images lie now, a path or URL.",
        show_default="where the entry says",
    ),
]
MovedWeights = Annotated[
    str | None,
    typer.Option("--weights", help="Where the weights are now.", show_default="as recorded"),
]


@pass_options.takes_pass_options
def explain(options: pass_options.PassOptions, as_json: AsJson = False) -> None:
    """Say what `probe extract` with the same options would reuse, and why not more."""
    from probe.cache.store import Store
    from probe.extraction.request import prepare
    from probe.extraction.upkeep import explain as explained
    from probe.screen import console

    prepared = prepare(options.request(), progress=console.download_bar)
    made = explained(prepared, Store(options.folder))
    if as_json:
        console.print_json({"cuts": [_as_json(one) for one in made]})
        return
    for one in made:
        _show(one)


def _show(one: Explanation) -> None:
    from probe.screen import console

    out = console.stdout()
    cut = one.cut.layer.name + ("" if one.cut.pool == "none" else f" ({one.cut.pool})")
    if one.found is not None:
        verdict = f"{one.found} is reused as it is"
        if one.differing:
            verdict = (
                f"{one.found} has these features; {' and '.join(one.differing)} differ, so it is "
                "written anew without a forward pass"
            )
        console.facts(out, {"layer": cut, "entry": verdict})
        return
    facts = {
        "layer": cut,
        "entry": "none has exactly these features",
        "rows": f"{one.copied:,} would be copied from other or unfinished entries, "
        f"{one.forwarded:,} forwarded",
    }
    console.facts(out, facts)
    for near in one.near:
        out.print()
        out.print(near.name)
        for line in (*near.recipe, *near.rows):
            out.print(f"  {line}", soft_wrap=True)
    if not one.near:
        out.print("the cache holds no entries")


def _as_json(one: Explanation) -> dict[str, Any]:
    return {
        "layer": one.cut.layer.name,
        "pool": one.cut.pool,
        "digest": one.cut.key.digest,
        "found": one.found,
        "relabelled": bool(one.differing),
        "copied": one.copied,
        "forwarded": one.forwarded,
        "near": [
            {"name": near.name, "recipe": list(near.recipe), "rows": list(near.rows)}
            for near in one.near
        ],
    }


def sync(
    name: Name = None,
    dataset_root: MovedDataset = None,
    weights: MovedWeights = None,
    strict: pass_options.Strict = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Read all, and make again what is damaged and no more."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what has changed, and change nothing.")
    ] = False,
    batch_size: pass_options.BatchSize = None,
    workers: pass_options.Workers = None,
    engine: pass_options.EngineName = "auto",
    device: pass_options.Device = "auto",
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring an entry in step with its images: only content that was never seen is forwarded.

    Added, replaced, renamed, moved and deleted images, other labels, another place of the folder.
    An entry whose images changed is replaced, or stays beside the new one where a kept run or bench
    was made from it; where labels, ids or classes changed it is replaced, and those runs are named.
    """
    from probe.cache.needed import needed_entries
    from probe.cache.store import Store
    from probe.extraction.upkeep import sync as synced
    from probe.screen import console
    from probe.screen.passes import Screen

    folder = cache_folder(cache_dir)
    chosen, prepared = reopen(
        name, folder, dataset_root, weights,
        strict=strict, batch_size=batch_size, workers=workers, engine=engine, device=device,
    )  # fmt: skip
    entry, plan = _planned(chosen, prepared, repair=repair)
    needs = needed_entries(folder).get(entry.name, []) if plan.changes else []
    if not as_json:
        facts = {
            "entry": console.place(entry.path),
            "images": f"{plan.kept:,} as they were, {plan.new:,} new, {plan.gone:,} gone",
            "changed": "; ".join(plan.changes) or "nothing",
        }
        if needs:
            stays = entry.key != prepared.job.cuts[0].key
            facts |= _about_runs(needs, entry.name, stays=stays)
        console.facts(console.stderr(), facts)
    made, forwarded = entry, 0
    if plan.changes and not dry_run:
        with interruptible(), Screen() as shown:
            made = synced(entry, prepared, plan, Store(folder), shown)
        forwarded = shown.forwarded
    if as_json:
        console.print_json(_synced_json(made, plan, forwarded) | {"needed_by": list(needs)})
        return
    name_of = prepared.dataset.name
    done = (
        f"{console.place(made.path)}: "
        f"{counted(forwarded, 'image')} forwarded, in step with {name_of}"
    )
    if not plan.changes:
        done = f"{console.place(entry.path)}: in step with {name_of}, nothing to do"
    elif dry_run:
        done = (
            f"{console.place(entry.path)}: would be written anew, "
            f"{counted(plan.new, 'image')} forwarded"
        )
    console.stdout().print(done, soft_wrap=True)


def _about_runs(needs: Sequence[str], name: str, *, stays: bool) -> dict[str, str]:
    from probe.cache.needed import in_words

    if stays:
        words = f"the old entry, needed by {in_words(needs)}; `probe cache rm --force {name}`"
        return {"kept": f"{words} removes it"}
    return {"replaced": f"the entry that {in_words(needs)} were made from; fit again to go by it"}


def _planned(
    chosen: Entry, prepared: Prepared, *, repair: bool
) -> tuple[FeatureSet | Entry, SyncPlan]:
    from probe.cache.features import FeatureSet
    from probe.errors import CorruptEntryError
    from probe.extraction.upkeep import plan_mend, plan_sync

    try:
        entry = FeatureSet.open(chosen.path)
    except CorruptEntryError as error:
        if not repair:
            raise
        return chosen, plan_mend(chosen, prepared, error)
    return entry, plan_sync(entry, prepared, repair=repair)


def _synced_json(made: FeatureSet | Entry, plan: SyncPlan, forwarded: int) -> dict[str, Any]:
    return {
        "name": made.name,
        "path": str(made.path),
        "kept": plan.kept,
        "new": plan.new,
        "gone": plan.gone,
        "changes": list(plan.changes),
        "forwarded": forwarded,
    }


def reopen(
    name: str | None,
    folder: Path,
    dataset_root: Path | None,
    weights: str | None,
    *,
    strict: bool,
    batch_size: int | None,
    workers: int | None,
    engine: str,
    device: str,
) -> tuple[Entry, Prepared]:
    """Return an entry with the request that made it, asked again today."""
    from probe.cache.store import Store
    from probe.datasets import DATASETS
    from probe.datasets.forms.shards import is_there
    from probe.extraction.request import prepare, repeat, with_recorded_name

    entry = Store(folder).choose(name)
    request = repeat(
        entry.key, entry.provenance, cache_dir=folder, dataset_root=dataset_root, weights=weights
    )
    place = request.dataset
    if place not in DATASETS and not is_url(place) and not is_there(place):
        raise DataError(f"{place}: no images there; say where they are now by --dataset-root")
    request = replace(
        request,
        strict=strict,
        batch_size=batch_size,
        workers=workers or default_workers(),
        engine=engine,
        device=device,
        command=typed_command(),
    )
    return entry, prepare(with_recorded_name(request, entry.key))
