"""Read the image sets of the catalog: folders, lists and arrays, as their authors laid them out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.download import Progress
from probe.core.regular import read_regular
from probe.datasets.forms.arrays import load_arrays
from probe.datasets.forms.folder import load_folder
from probe.datasets.forms.loading import Loading
from probe.datasets.images.files import FileImages
from probe.datasets.named.catalog import DatasetSpec, Layout, Source
from probe.datasets.named.fetch import fetch_set, is_official
from probe.datasets.spec import SPLITS, Dataset, Split
from probe.errors import DataError, MissingFilesError

DTD_PARTITION = 1
FLOWERS_SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}
PETS_SPLITS = {"train": "trainval", "test": "test"}
_MOST_LIST = 2**24  # bytes of a list of images

Rows = list[tuple[str, int]]  # path from the folder, and number of the class


def load_image_set(
    spec: DatasetSpec,
    base: Path,
    loading: Loading,
    *,
    download: bool,
    progress: Progress | None = None,
) -> Dataset:
    """Read an image set from its files in or below `base`, after fetching what is missing.

    Raises
    ------
    MissingFilesError
        Files are missing and cannot be had.
    DataError
        A file is not what it should be.
    """
    layout = spec.layouts[0]
    folder = base
    if spec.package:
        folder = _package_folder(spec)
    else:
        places = [base, *(base / spec.name / one for one in ("", *layout.folders))]
        places += [base / one for one in layout.folders]
        folder = max(places, key=lambda one: _there(layout, one))  # of equal ones the first
        if _there(layout, folder) < len(layout.sources):
            fetch_set(spec, layout, folder, network=download, progress=progress)
    dataset = READERS[layout.format](spec, layout, folder, loading)
    if list(dataset.splits) != [name for name in SPLITS if name in spec.splits]:
        raise DataError(
            f"{folder}: {spec.name} has the splits {', '.join(dataset.splits)} there instead of "
            f"{', '.join(spec.splits)}; remove it, and get it again"
        )
    root = None if spec.package else folder
    return replace(dataset, name=spec.name, classes=spec.classes, root=root)


def _there(layout: Layout, folder: Path) -> int:
    """Return how much of an image set is in a folder."""
    return sum((folder / source.target).exists() for source in layout.sources)


def _folders(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:
    """Read class folders, which are called otherwise than the classes."""
    (source,) = layout.sources
    root = folder / source.target
    dataset = load_folder(root, loading)
    if dataset.classes != layout.class_folders:
        odd = sorted({*dataset.classes} ^ {*layout.class_folders})
        raise DataError(
            f"{root}: has other class folders than {spec.name}, first {odd[0]!r}; get it "
            "again, or name another --dataset-root"
        )
    return dataset


def _arrays(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:
    """Read arrays whose labels are the numbers of the classes."""
    (source,) = layout.sources
    dataset = load_arrays(folder / source.target, loading)
    if dataset.classes != tuple(map(str, range(len(spec.classes)))):
        raise DataError(
            f"{folder / source.target}: its labels are {', '.join(dataset.classes[:5])} ... "
            f"instead of 0 to {len(spec.classes) - 1}; remove it, and get it again"
        )
    return dataset


def _dtd(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:
    """Read the lists of a partition: lines of ``CLASS/IMAGE``."""
    root = folder / layout.sources[0].target
    if (within := root / root.name).is_dir():  # as torchvision unpacks it
        root = within
    number = {name: k for k, name in enumerate(spec.classes)}
    rows: dict[str, Rows] = {}
    for split in spec.splits:
        path = root / "labels" / f"{split}{DTD_PARTITION}.txt"
        rows[split] = []
        for line, text in _lines(path):
            name = text.partition("/")[0]
            if name not in number:
                raise _odd_line(path, line, text)
            rows[split].append((f"images/{text}", number[name]))
    return _listed(spec, root, rows, loading)


def _pets(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:
    """Read lists of ``IMAGE CLASS SPECIES BREED``, where classes count from 1."""
    images, annotations = (source.target for source in layout.sources)
    rows: dict[str, Rows] = {}
    for split, name in PETS_SPLITS.items():
        path = folder / annotations / f"{name}.txt"
        rows[split] = []
        for line, text in _lines(path):
            words = text.split()
            breed = words[0].rpartition("_")[0]
            known = len(words) == 4 and words[1].isdecimal() and breed in spec.classes
            if not known or spec.classes.index(breed) != int(words[1]) - 1:
                raise _odd_line(path, line, text)
            rows[split].append((f"{images}/{words[0]}.jpg", int(words[1]) - 1))
    return _listed(spec, folder, rows, loading)


def _flowers(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:
    """Read the two MATLAB files: a class of each image, and the numbers of each split's images."""
    images, labels, splits = layout.sources
    classes = _matlab(folder, labels, ["labels"])["labels"]
    chosen = _matlab(folder, splits, list(FLOWERS_SPLITS.values()))
    wrong = classes.min() < 1 or classes.max() > len(spec.classes)
    rows: dict[str, Rows] = {}
    for split, name in FLOWERS_SPLITS.items():
        numbers = chosen[name]
        if wrong or numbers.min() < 1 or numbers.max() > len(classes):
            raise DataError(f"{folder / splits.file}: names images or classes that are not there")
        rows[split] = [
            (f"{images.target}/image_{number:05d}.jpg", int(classes[number - 1]) - 1)
            for number in numbers.tolist()
        ]
    return _listed(spec, folder, rows, loading)


def _matlab(folder: Path, source: Source, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return vectors of whole numbers from a MATLAB file, after checking that it is the official.

    A compressed file may claim any size, so that no other is read.
    """
    from scipy.io import loadmat

    path = folder / source.file
    if not is_official(path, source):
        raise DataError(f"{path}: is not the official file; remove it, and get it again")
    try:
        found = loadmat(path, variable_names=list(names))
        return {name: np.asarray(found[name]).reshape(-1).astype(np.int64) for name in names}
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: cannot be read ({error}); get it again") from error


def _elpv(spec: DatasetSpec, layout: Layout, folder: Path, loading: Loading) -> Dataset:  # noqa: ARG001
    """Read lines of ``IMAGE PROBABILITY TYPE``; a cell is defective where that is likelier."""
    path = folder / "labels.csv"
    rows: Rows = []
    columns: dict[str, list[str]] = {"probability": [], "type": []}
    for line, text in _lines(path):
        words = text.split()
        try:
            image, likely, kind = words[0], float(words[1]), words[2]
        except (IndexError, ValueError):
            raise _odd_line(path, line, text) from None
        if len(words) != 3 or not 0 <= likely <= 1:
            raise _odd_line(path, line, text)
        rows.append((image, spec.classes.index("defective" if likely > 0.5 else "functional")))
        columns["probability"].append(words[1])
        columns["type"].append(kind)
    return _listed(spec, folder, {"train": rows}, loading, {"train": columns})


def _package_folder(spec: DatasetSpec) -> Path:
    """Return where an installed package has its images, without importing it."""
    found = importlib.util.find_spec(spec.package.replace("-", "_"))
    for place in found.submodule_search_locations or () if found else ():
        folder = Path(place) / "data"
        if folder.is_dir():
            return folder
    raise MissingFilesError(
        f"{spec.name}: comes with the package {spec.package}, which is not installed; "
        f"`pip install {spec.package}`"
    )


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    """Yield the lines of a list that are not empty, with their numbers."""
    try:
        text = read_regular(path, _MOST_LIST).decode("utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{path}: is missing; get it again, or name another --dataset-root"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); get it again") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _odd_line(path: Path, line: int, text: str) -> DataError:
    return DataError(f"{path}: line {line} is not as expected: {text!r:.80}; get it again")


def _listed(
    spec: DatasetSpec,
    root: Path,
    rows: Mapping[str, Rows],
    loading: Loading,
    columns: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> Dataset:
    splits = {}
    for name, each in rows.items():
        if not each:
            raise DataError(f"{root}: {spec.name} has no {name} images there; get it again")
        ids = [path for path, _ in each]
        splits[name] = Split(
            ids=ids,
            labels=np.array([label for _, label in each], np.int32),
            images=FileImages(str(root.absolute()), ids, loading.memo, loading.workers),
            columns=(columns or {}).get(name, {}),
        )
    return Dataset(name=spec.name, classes=spec.classes, splits=splits, root=root)


Reader = Callable[[DatasetSpec, Layout, Path, Loading], Dataset]

READERS: dict[str, Reader] = {
    "folders": _folders,
    "arrays": _arrays,
    "dtd": _dtd,
    "pets": _pets,
    "flowers": _flowers,
    "elpv": _elpv,
}
