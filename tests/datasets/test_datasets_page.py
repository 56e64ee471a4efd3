"""The examples of docs/datasets.md: each file that it shows is read by the options that it shows.

A block whose first line is ``# NAME`` is a file; a line of a block that begins with ``--dataset``
reads it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.tables.table import READERS

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
BLOCKS = [
    [line[4:] for line in block.rstrip("\n").split("\n")]
    for block in re.findall(r"(?:^ {4}.*\n)+", PAGE, re.MULTILINE)
]
FILES = {block[0][2:]: block[1:] for block in BLOCKS if block[0].startswith("# ")}
COMMANDS = [line for block in BLOCKS for line in block if line.startswith("--dataset")]
READ = {  # how many images the page's commands read, and of which classes
    "--dataset birds.csv --label site": (4, ("A", "B")),
    "--dataset birds.csv --where \"site == 'A' and age < 5\"": (2, ("finch", "owl")),
    "--dataset birds.csv --include '[12].jpg'": (2, ("finch", "owl")),
    "--dataset marked.csv --columns path,label,-": (2, ("finch", "owl")),
    "--dataset train.txt --mean mean.binaryproto": (3, ("0", "1")),
    "--dataset photos/ --include '*.jpg'": (3, ("cat", "dog")),
    "--dataset photos/ --exclude '*_mask.*' --exclude sketches": (4, ("cat", "dog")),
    "--dataset photos/ --unlabeled": (6, ("unlabeled",)),
    "--dataset lists/{train,val}.txt --dataset-root .": (3, ("0", "1")),
    "--dataset lists/ --dataset-root .": (3, ("0", "1")),
    "birds.csv": (4, ("finch", "owl")),
    "birds.jsonl": (2, ("finch", "owl")),
}


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """A folder with the files that the page shows, and their images."""
    names = ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "a photo.jpg", "deep/5.jpg")
    photographs = ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/3.png", "cat/1_mask.png")
    root = make_folder(*names, *(f"photos/{one}" for one in (*photographs, "sketches/1.png")))
    for name, lines in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def read(root: Path, command: str) -> Dataset:
    words = iter(shlex.split(command))
    place, base = "", None
    options: dict[str, Any] = {}
    for option in words:
        name = option.removeprefix("--").replace("-", "_")
        if name == "unlabeled":
            options[name] = True
            continue
        value = next(words)
        if name == "dataset":
            place = str(root / value)
        elif name == "dataset_root":
            base = root / value
        elif name in {"columns", "include", "exclude"}:
            options[name] = (*options.get(name, ()), *value.split(","))
        elif name != "mean":
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
    dataset = read(folder, command if command in COMMANDS else f"--dataset {command}")
    assert sum(map(len, dataset.splits.values())) == count
    assert dataset.classes == classes


def test_the_page_names_every_ending_of_a_list() -> None:
    for ending in READERS:
        assert f"`{ending}`" in PAGE
