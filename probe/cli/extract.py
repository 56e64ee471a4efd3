"""`probe extract`: find or make the cache entry of a dataset and a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli.options import AsJson
from probe.cli.pass_options import PassOptions, takes_pass_options
from probe.core.text import counted

if TYPE_CHECKING:
    from probe.cache.features import FeatureSet, FeatureSplit
    from probe.cache.store import Store
    from probe.extraction.extract import Reuse
    from probe.screen.passes import Outcome


@takes_pass_options
def extract(
    options: PassOptions,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forward all images, whatever is at hand.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a frozen backbone over a dataset once and keep its features.

    The same command again finds the entry; whatever moves the numbers makes another one.
    """
    from probe.cache.store import Store
    from probe.extraction.request import prepare
    from probe.screen.console import download_bar, print_json
    from probe.screen.passes import run_pass

    reuse: Reuse = "nothing" if overwrite else "entry"
    prepared = prepare(options.request(), progress=download_bar, keep=True)
    with interruptible():
        outcome = run_pass(prepared, Store(options.folder), reuse=reuse)
    if as_json:
        print_json(outcome.to_json())
    else:
        show(outcome)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C during a pass into a message and exit code 130; finished rows are kept."""
    from probe.screen import console

    try:
        yield
    except KeyboardInterrupt:
        console.stderr().print(
            "interrupted; the finished rows are kept, the same command goes on from there"
        )
        raise typer.Exit(130) from None


def show(outcome: Outcome) -> None:
    """Print where the features are and what to do next."""
    from probe.screen import console

    out = console.stdout()
    done = f"{counted(outcome.forwarded, 'image')} forwarded in {console.duration(outcome.seconds)}"
    if outcome.found:
        made_by = {entry.header.engine for entry in outcome.entries} - {"onnx"}
        of = f", made by {', '.join(made_by)}" if made_by else ""
        done = f"found{of}, nothing to forward ({console.duration(outcome.seconds)})"
    elif not outcome.forwarded:
        done = f"made of rows at hand, nothing to forward ({console.duration(outcome.seconds)})"
    for entry in outcome.entries:
        size = console.size(entry.path.stat().st_size)
        facts = {"entry": f"{console.place(entry.path)}  ({size})", "done": done}
        if entry.dataset != outcome.asked:
            facts["note"] = f"the same images and labels as {entry.dataset}, kept as its entry"
        console.facts(out, facts | next_step(entry, outcome.store))


def next_step(entry: FeatureSet, store: Store) -> dict[str, str]:
    """Return what to do with an entry: fit a head, or why none can be fitted, and what else."""
    from probe.cache.joining import join
    from probe.datasets.classes import has_labels
    from probe.datasets.head_check import why_no_head_for
    from probe.screen import console

    splits: Mapping[str, FeatureSplit] = entry.splits
    if "train" not in splits:  # it may have been extracted apart
        splits = join(store, store.choose(entry.name)).splits
    labels = {name: split.labels for name, split in splits.items()}
    content = {name: split.content for name, split in splits.items()}
    bleak = why_no_head_for(labels, entry.classes, content)
    if bleak is None:
        return {"next": console.command("head", entry.name, cache_dir=store.folder.parent)}
    if has_labels(entry.classes):
        return {"heads": bleak}
    audit, report = (
        console.command(one, entry.name, cache_dir=store.folder.parent)
        for one in ("audit", "report")
    )
    return {"heads": bleak, "next": audit, "or": report}
