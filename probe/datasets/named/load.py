"""Load a dataset of the catalog: find its files, download missing ones, and read their format.

scikit-learn's digits are read from its file rather than through `sklearn.datasets.load_digits`:
importing that takes a second, which is longer than a command that finds its features in the cache
may take.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.download import Progress
from probe.core.memo import Memo
from probe.datasets.forms.folder import looks_like_class_folders
from probe.datasets.forms.loading import Loading
from probe.datasets.images.packed import LabelledFile, Rows, grey_to_rgb, packed_split
from probe.datasets.named.catalog import DatasetSpec, Layout
from probe.datasets.named.cifar import CifarBinary, CifarPickle, class_names
from probe.datasets.named.fetch import fetch
from probe.datasets.named.idx import IdxFile
from probe.datasets.named.image_sets import READERS, load_image_set
from probe.datasets.spec import Dataset, Split
from probe.errors import DataError, MissingFilesError, UsageError

log = logging.getLogger(__name__)


def load_named(
    spec: DatasetSpec,
    base: Path,
    *,
    splits: Sequence[str] | None,
    coarse: bool,
    download: bool,
    loading: Loading,
    progress: Progress | None = None,
) -> Dataset:
    """Read a dataset of the catalog from the official files in or below `base`.

    Raises
    ------
    UsageError
        Coarse labels are wanted of a dataset that has none.
    MissingFilesError
        Files are missing and cannot be had.
    DataError
        A file is not what it should be, or `base` has class folders instead.
    """
    if coarse and not spec.coarse_classes:
        raise UsageError(f"{spec.name} has no coarse labels; leave out --coarse")
    wanted = tuple(name for name in spec.splits if splits is None or name in splits)
    if spec.layouts[0].format in READERS:
        found = load_image_set(spec, base, loading, download=download, progress=progress)
        return replace(found, splits={name: found.splits[name] for name in wanted})
    memo = loading.memo
    classes = spec.coarse_classes if coarse else spec.classes
    if spec.layouts[0].format == "digits":
        packed = {name: packed_split(name, [digits_file()], classes, memo) for name in wanted}
        return Dataset(name=spec.name, classes=classes, splits=packed, root=None)
    layout, folder = _at_hand(spec, base, wanted, download, progress)
    if layout.format != "idx":
        key = ("coarse" if coarse else "fine") if spec.coarse_classes else "cifar10"
        pickled = layout.format == "cifar_pickle"
        classes = class_names(folder, pickled=pickled, key=key, known=classes)
    return Dataset(
        name=f"{spec.name}_coarse" if coarse else spec.name,
        classes=classes,
        splits={
            name: _split(name, _files(spec, layout, folder, name, coarse), classes, memo)
            for name in wanted
        },
        root=folder,
    )


def _split(name: str, files: list[LabelledFile], classes: tuple[str, ...], memo: Memo) -> Split:
    split = packed_split(name, files, classes, memo)
    for file in files:
        if isinstance(file, IdxFile):
            file.check_counts(len(split))
    return split


def _at_hand(
    spec: DatasetSpec,
    base: Path,
    wanted: tuple[str, ...],
    download: bool,
    progress: Progress | None,
) -> tuple[Layout, Path]:
    """Return a layout whose files are all there, after downloading missing ones."""
    candidates = []  # (how many files are there, layout, folder)
    for layout in spec.layouts:
        names = layout.files(wanted)
        for folder in _folders(spec, layout, base):
            there = [name for name in names if find_file(folder, layout, name)]
            if len(there) == len(names):
                return layout, folder
            candidates.append((len(there), layout, folder))
    count, layout, folder = max(candidates, key=lambda candidate: candidate[0])
    if not count:
        _refuse_class_folders(spec, base)
        layout = next((each for each in spec.layouts if _archive_in(base, each)), spec.layouts[0])
        folder = base / layout.folders[0]
    missing = [name for name in layout.files(wanted) if not find_file(folder, layout, name)]
    fetch(spec, layout, folder, missing, root=base, network=download, progress=progress)
    return layout, folder


def _archive_in(base: Path, layout: Layout) -> bool:
    return layout.format != "idx" and (base / layout.sources[0].file).is_file()


def _folders(spec: DatasetSpec, layout: Layout, base: Path) -> list[Path]:
    """Return the folders that may have a layout's files, the likeliest first."""
    return [base, *(start / name for start in (base, base / spec.name) for name in layout.folders)]


def find_file(folder: Path, layout: Layout, name: str) -> Path | None:
    """Return the path of a file, for IDX also under its other usual names, or None."""
    names = [name]
    if layout.format == "idx":
        other = name.replace("-idx", ".idx")  # as some unpackers call it
        names += [f"{name}.gz", other, f"{other}.gz"]
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _refuse_class_folders(spec: DatasetSpec, base: Path) -> None:
    for folder in (base, base / spec.name):
        if looks_like_class_folders(folder):
            looked = " or ".join(
                f"{name + '/' if name else ''}{layout.splits[0][1][0]}"
                for layout in spec.layouts
                for name in layout.folders[:1]
            )
            raise DataError(
                f"{folder}: looked for {spec.name}'s official files ({looked}) and found folders "
                f"of images; --dataset {folder} reads class folders"
            )


def _files(
    spec: DatasetSpec, layout: Layout, folder: Path, split: str, coarse: bool
) -> list[LabelledFile]:
    names = dict(layout.splits)[split]
    paths = [find_file(folder, layout, name) for name in names]
    there = [path for path in paths if path is not None]
    assert len(there) == len(names)  # _at_hand saw or fetched them
    if layout.format == "idx":
        return [IdxFile(path=there[0], labels=there[1])]
    if layout.format == "cifar_pickle":
        fine = "fine_labels" if spec.coarse_classes else "labels"
        key = "coarse_labels" if coarse else fine
        return [CifarPickle(path=path, label_key=key) for path in there]
    label_bytes = 2 if spec.coarse_classes else 1
    label = 0 if coarse else label_bytes - 1  # the coarse label comes first
    return [CifarBinary(path=path, label_bytes=label_bytes, label=label) for path in there]


SIDE = 8
WHITE = 16  # the largest grey value in the file


@dataclass(frozen=True, kw_only=True)
class DigitsFile(LabelledFile):
    """Lines of 64 grey values from 0 to 16 and a label."""

    @property
    def kind(self) -> str:
        return "digits"

    def read_labels(self) -> NDArray[np.int32]:
        return self._table()[:, -1].astype(np.int32)

    def open(self) -> Rows:
        """Open the pixels, scaled to 0 to 255; 115 kB."""
        grey = np.rint(self._table()[:, :-1] * (255 / WHITE)).astype(np.uint8)
        images = grey.reshape(-1, SIDE, SIDE)
        return Rows(count=len(images), read=lambda start, stop: grey_to_rgb(images[start:stop]))

    def _table(self) -> NDArray[np.float64]:
        try:
            table = np.loadtxt(self.path, delimiter=",", ndmin=2)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: {error}; install scikit-learn again") from error
        if table.shape[1] != SIDE * SIDE + 1 or table.min() < 0 or table.max() > WHITE:
            raise DataError(f"{self.path}: is not the digits; install scikit-learn again")
        return table


def digits_file() -> DigitsFile:
    """Find the file without importing scikit-learn.

    Raises
    ------
    MissingFilesError
        It is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return DigitsFile(path=path)
    raise MissingFilesError(
        "digits: digits.csv.gz of scikit-learn is missing; install scikit-learn"
    )
