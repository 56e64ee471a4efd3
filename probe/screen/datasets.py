"""Look at a dataset: read its images under a bar, say what was found, draw a sheet of some."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.files import unwritable
from probe.core.reading import ReadOptions
from probe.core.text import counted
from probe.core.urls import is_url, public
from probe.datasets import DATASETS, Dataset, DatasetSpec, Split, load_dataset
from probe.datasets.classes import has_labels
from probe.datasets.copies import copies_in_words
from probe.datasets.head_check import NO_LABELS
from probe.datasets.images.notes import WORDS
from probe.datasets.mirror.fetched import FetchedImages
from probe.datasets.stored_split import find_split, path_by_place
from probe.datasets.survey import Pictures, Read, Spread, Survey, survey
from probe.errors import ProbeError, UsageError
from probe.evaluation.task import task_of
from probe.report.contact_sheet import Cell, draw_contact_sheet
from probe.report.thumbnails import thumbnail
from probe.runs.dataset_split import Divided, Wanted, divide, write_list
from probe.screen import console

log = logging.getLogger(__name__)

LISTED = 5  # broken images, and copies, in a table; --json has all
EACH, MOST_EACH = 60, 6  # images on a sheet, where that is one a class at least; of a class at most
MOST_CLASSES = 120  # on a sheet
SIDE = 256  # pixels of a picture on it
ENDING = ".png"


def look_at(dataset: Dataset, *, read: Read, workers: int) -> Survey:
    """Count and measure a dataset's images under a progress bar; see `probe.datasets.survey`."""
    total = sum(len(split) for split in dataset.splits.values())
    if read == "names":
        return survey(dataset, read=read)
    for split in dataset.splits.values():
        if isinstance(split.images, FetchedImages):
            split.images.fetch()
    what = "decoding" if read == "pixels" else "reading headers and hashes of"
    console.stderr().print(f"{what} {total:,} images")
    with console.progress("reading", "images") as bar:
        task = bar.add_task("reading", total=total)
        return survey(
            dataset, read=read, workers=workers, advance=lambda count: bar.advance(task, count)
        )


def show_counts(found: Survey, asked: str) -> None:
    """Print the classes and how many images each split has of them.

    Parameters
    ----------
    asked : str
        What the user typed: of a name of the catalog more is known.
    """
    out = console.stdout()
    facts = {
        "dataset": found.name,
        "root": _root(found.root),
    }
    if found.multilabel:
        facts["labels"] = "an image may have several, or none"
    if not has_labels(found.classes):
        facts["labels"] = NO_LABELS
    if found.numbering:
        facts["classes"] = found.numbering
    if asked in DATASETS:
        facts |= _known_of(DATASETS[asked])
    console.facts(out, facts)
    show_table(found)


def _root(root: str | None) -> str:
    if root is None:
        return "in a package"
    return root if is_url(root) else console.place(root)


def show_table(found: Survey) -> None:
    """Print how many images of each class each split has."""
    out, labelled = console.stdout(), has_labels(found.classes)
    rows = [
        [label, *(f"{counts[number]:,}" for counts in found.counts.values())]
        for number, label in enumerate(found.classes if labelled else ())
    ]
    columns = ["class" if labelled else "", *found.counts]
    rows.append(["images", *(f"{count:,}" for count in found.images.values())])
    console.table(out, columns, rows, right=range(1, len(columns)), fold=(0,))
    if found.skipped:
        out.print()
        console.table(
            out, ["left out", "why"], [[one.id, one.reason] for one in found.skipped[:LISTED]],
            fold=(0,),
        )  # fmt: skip


def show_pictures(found: Pictures) -> None:
    """Print what reading the images has shown."""
    out = console.stdout()
    out.print()
    console.facts(out, _facts(found))
    if found.unreadable:
        out.print()
        rows = [[one.id, one.reason] for one in found.unreadable[:LISTED]]
        console.table(out, ["cannot be read", "why"], rows, fold=(0,))
    if found.copies:
        out.print()
        rows = [
            [str(len(one.ids)), one.ids[0], one.ids[-1], ", ".join(dict.fromkeys(one.splits)),
             " and ".join(dict.fromkeys(one.labels))]
            for one in found.copies[:LISTED]
        ]  # fmt: skip
        head = ["copies", "image", "the same image", "in", "label"]
        console.table(out, head, rows, right=[0], fold=(1,))


def _facts(found: Pictures) -> dict[str, str]:
    facts = {}
    if (sizes := found.sizes) is not None:
        if sizes.different == 1:
            facts["size"] = f"{sizes.width.least:.0f} x {sizes.height.least:.0f} pixels, all"
        else:
            facts["width"] = f"{_spread(sizes.width)} pixels"
            facts["height"] = f"{_spread(sizes.height)} pixels"
            facts["aspect"] = f"{_spread(sizes.aspect)}, width by height"
            facts["sizes"] = (
                f"{sizes.different:,} different; smallest {sizes.smallest}, largest {sizes.largest}"
            )
    facts["formats"] = _counts(found.formats)
    facts["colours"] = _counts(found.modes)
    if found.frames:
        facts["frames"] = (
            f"{len(found.frames):,} animated or of several pages, first {found.frames[0]}: the "
            "first frame or page alone is read"
        )
    for kind, count in (found.unusual or {}).items():
        if count:
            facts["transparent" if kind == "clear" else kind] = f"{count:,} {WORDS[kind][0]}"
    beyond = "" if found.unusual is not None else "; --read pixels finds damage beyond headers, too"
    facts["broken"] = f"{len(found.unreadable):,}{beyond}"
    facts["copies"] = copies_in_words(found.copies) if found.copies else "no image is there twice"
    if any(len(set(one.splits)) > 1 for one in found.copies):
        facts["leak"] = (
            "copies across splits are known from training when they are scored; remove them from "
            "one side"
        )
    return facts


def _spread(values: Spread) -> str:
    return f"{values.least:.4g} to {values.largest:.4g}, median {values.median:.4g}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def split_shown(
    name: str,
    wanted: Wanted,
    *,
    cache_dir: Path,
    dataset_root: Path | None,
    reading: ReadOptions,
    skip_bad: bool,
    workers: int,
    export: Path | None = None,
) -> tuple[Divided, Dataset]:
    """Divide a dataset and store the split, and return what was made and the divided dataset."""
    load = partial(
        load_dataset, name, root=dataset_root, cache_dir=cache_dir, reading=reading,
        skip_bad=skip_bad, workers=workers,
    )  # fmt: skip
    found = load(stored_split=False, progress=console.download_bar)
    train = found.splits.get("train", ())
    console.stderr().print(f"hashing {len(train):,} images")
    made = divide(found, name, wanted, cache_dir=cache_dir)
    divided = load()
    if export is not None:
        write_list(divided, export)
    return made, divided


def show_split(made: Divided, divided: Dataset, name: str, cache_dir: Path) -> None:
    """Print what a dataset was divided into."""
    out = console.stdout()
    recipe = made.recipe
    facts = {
        "split": ", ".join(f"{split} {count:,}" for split, count in made.images.items()),
        "asked": f"val {recipe.val:g}, test {recipe.test:g}, seed {recipe.seed}",
        "together": " and ".join(["exact copies", *recipe.group]),
    }
    total = sum(made.images.values())
    if made.added < total:
        facts["added"] = f"{counted(made.added, 'image')}; the others stay where they were"
    if made.gone:
        facts["gone"] = f"{made.gone:,} images of before are not in the dataset now"
    if made.moved_from:
        facts["moved"] = f"its split was made where it was {made.moved_from}"
    facts["stored"] = f"{console.place(made.path)}, by content: files may be moved and renamed"
    console.facts(out, facts)
    show_table(survey(divided, read="names"))
    undo = console.command("dataset", "split", name, "--remove", cache_dir=cache_dir)
    console.facts(out, {"used by": "every command that reads the dataset", "undo": undo})


def fetch_shown(
    name: str, *, cache_dir: Path, dataset_root: Path | None
) -> tuple[DatasetSpec, Dataset]:
    """Download what is missing of a dataset of the catalog, and return its entry and the dataset.

    Raises
    ------
    UnknownNameError
        There is none of that name.
    MissingFilesError
        It cannot be downloaded.
    """
    spec = DATASETS[name]
    found = load_dataset(
        name, root=dataset_root, cache_dir=cache_dir, stored_split=False,
        progress=console.download_bar,
    )  # fmt: skip
    return spec, found


def show_fetched(spec: DatasetSpec, found: Dataset) -> None:
    """Print where a fetched dataset lies, and what is known of it."""
    counts = ", ".join(f"{name} {len(split):,}" for name, split in found.splits.items())
    facts = {
        "dataset": spec.title,
        "images": f"{counts}; {len(found.classes):,} classes",
        "root": console.place(found.root) if found.root else f"in the package {spec.package}",
        **_known_of(spec),
    }
    if set(spec.splits) == {"train"}:
        facts["splits"] = f"it has none; `{console.command('dataset', 'split', spec.name)}`"
    facts["next"] = f"--dataset {spec.name}"
    console.facts(console.stdout(), facts)


def _known_of(spec: DatasetSpec) -> dict[str, str]:
    facts = {"licence": spec.licence, "cite": spec.citation, "homepage": spec.homepage}
    return facts | ({} if spec.figure is None else {"reached": str(spec.figure)})


def remove_split(
    name: str, *, cache_dir: Path, dataset_root: Path | None, reading: ReadOptions
) -> Path:
    """Remove the split that is stored for a dataset, and return the file that held it.

    Raises
    ------
    UsageError
        There is none.
    """
    path = path_by_place(name, cache_dir)
    if path is None:
        found = load_dataset(
            name, root=dataset_root, cache_dir=cache_dir, reading=reading, stored_split=False
        )
        stored = find_split(found, name, cache_dir)
        if stored is None:
            raise UsageError(f"--remove: no split is stored for {public(name)}")
        path = stored.path
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def draw_sheet(dataset: Dataset, path: Path) -> None:
    """Draw some images of each class with their names as a PNG.

    Images come from train where there is one, spread evenly over those of the class. Those that
    cannot be read are left out.

    Raises
    ------
    UsageError
        The file is to be of another kind than PNG, or no image can be read.
    """
    check_sheet(path)
    name, split = next(iter(dataset.splits.items()))
    classes = np.flatnonzero(task_of(split.labels).counts(split.labels, len(dataset.classes)))
    shown = classes[np.unique(np.linspace(0, len(classes) - 1, MOST_CLASSES).astype(np.intp))]
    each = min(max(EACH // len(shown), 1), MOST_EACH)
    cells: list[Cell] = []
    for number in shown.tolist():
        for row in _some_of(split, number, each):
            try:
                picture = thumbnail(split.images.take(np.array([row])).image(0), SIDE)
            except ProbeError as error:
                log.info("%s", error)
                continue
            cells.append(([np.asarray(picture)], dataset.classes[number], split.ids[row]))
    if not cells:
        raise UsageError(f"--sheet {path}: no image of {dataset.name} can be read")
    some = f"{len(shown)} of " if len(shown) < len(dataset.classes) else ""
    about = f"{name}: {len(split):,} images, {some}{len(dataset.classes):,} classes"
    draw_contact_sheet(cells, path, title=dataset.name, about=about)


def check_sheet(path: Path) -> None:
    """Refuse a sheet under another ending than that of what is written."""
    if path.suffix.lower() != ENDING:
        raise UsageError(f"--sheet {path}: give a name that ends in {ENDING}")


def _some_of(split: Split, number: int, each: int) -> list[int]:
    """Return the rows of some images of a class, evenly spread over all of it."""
    rows: NDArray[np.intp] = np.flatnonzero(task_of(split.labels).has(split.labels, number))
    places = np.unique(np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(np.intp))
    return [int(row) for row in rows[places]]
