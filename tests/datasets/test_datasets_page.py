"""The examples of docs/datasets.md: each file that it shows is read by the options that it shows.

That all its commands run is in `tests/test_pages.py`; here is what those on its own files read.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.tables.table import READERS
from tests.examples import Command, File, read_page

PATH = Path(__file__).parents[2] / "docs" / "datasets.md"
PAGE = PATH.read_text(encoding="utf-8")
EXAMPLES = read_page(PATH).examples
FILES = {one.name: one.text for one in EXAMPLES if isinstance(one, File)}
COMMANDS = [
    one.text
    for one in EXAMPLES
    if isinstance(one, Command)
    and (one.text.startswith("probe dataset show") or "--mean" in one.text)
    and "--sheet" not in one.text
]
READ = {  # how many images the page's commands read, and of which classes
    "probe dataset show birds.csv --label site": (4, ("A", "B")),
    "probe dataset show birds.csv --where \"site == 'A' and age < 5\"": (2, ("finch", "owl")),
    "probe dataset show birds.csv --include '[12].jpg'": (2, ("finch", "owl")),
    "probe dataset show marked.csv --columns path,label,-": (2, ("finch", "owl")),
    "probe extract --backbone vgg11 --weights cats.caffemodel --preprocess caffe_bgr "
    "--dataset train.txt --mean mean.binaryproto": (3, ("0", "1")),
    "probe dataset show photos/ --include '*.jpg'": (3, ("cat", "dog")),
    "probe dataset show photos/ --exclude '*_mask.*' --exclude sketches": (4, ("cat", "dog")),
    "probe dataset show photos/ --unlabeled": (6, ("unlabeled",)),
    "probe dataset show 'lists/{train,val}.txt' --dataset-root .": (3, ("0", "1")),
    "probe dataset show lists/ --dataset-root .": (3, ("0", "1")),
    "birds.csv": (4, ("finch", "owl")),
    "birds.jsonl": (2, ("finch", "owl")),
}


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """A folder with the files that the page shows, and their images."""
    names = ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "a photo.jpg", "deep/5.jpg")
    photographs = ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/3.png", "cat/1_mask.png")
    root = make_folder(*names, *(f"photos/{one}" for one in (*photographs, "sketches/1.png")))
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def read(root: Path, command: str) -> Dataset:
    words = iter(
        shlex.split(command.removeprefix("probe dataset show").removeprefix("probe extract"))
    )
    place, base = "", None
    options: dict[str, Any] = {}
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name == "unlabeled":
            options[name] = True
            continue
        value = next(words) if word.startswith("--") else word
        if name == "dataset" or value == word:
            place = str(root / value)
        elif name == "dataset_root":
            base = root / value
        elif name in {"columns", "include", "exclude"}:
            options[name] = (*options.get(name, ()), *value.split(","))
        elif name in {"label", "where"}:
            options[name] = value
    reading = ReadOptions(**options)
    return load_dataset(place, root=base, cache_dir=root.parent / "c", reading=reading)


def test_every_example_has_its_truth() -> None:
    assert {*COMMANDS} <= READ.keys()
    every = "\n".join(COMMANDS)
    shown = {n for n in FILES if n not in every and not ("/" in n and n.split("/")[0] in every)}
    assert shown | {*COMMANDS} <= READ.keys()


@pytest.mark.parametrize("command", READ)
def test_an_example_of_the_page(folder: Path, command: str) -> None:
    count, classes = READ[command]
    assert command in COMMANDS or command in FILES
    dataset = read(folder, command)
    assert sum(map(len, dataset.splits.values())) == count
    assert dataset.classes == classes


def test_the_page_names_every_ending_of_a_list() -> None:
    for ending in READERS:
        assert f"`{ending}`" in PAGE
