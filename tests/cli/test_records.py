"""From a folder of photographs to MXNet's records and back, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import probe as package
from probe.errors import UsageError
from probe.predict.inputs import find_images
from tests.cli.command import probe


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A folder of 30 owls and 10 gulls, one twice, and a list of them with their sites."""
    random = np.random.default_rng(0)
    lines = ["path,label,site"]
    for number in range(40):
        name = "owl" if number % 4 else "gull"
        path = tmp_path / "my birds" / name / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (6, 9, 3), np.uint8)).save(path)
        lines.append(f"{name}/{path.name},{name},{number % 10}")
    copy = tmp_path / "my birds" / "owl" / "99.png"
    copy.write_bytes((tmp_path / "my birds" / "owl" / "01.png").read_bytes())
    (tmp_path / "my birds" / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "my birds"


def test_index_and_pack(birds: Path) -> None:
    here = birds.parent
    said = probe("dataset index", birds, "--val", "0.2", "--test", "0.2", cwd=here).stdout
    assert "labels  0 is gull, 1 is owl, as classes.txt says" in said
    next_command = said.split("next    probe ")[1].strip()
    assert next_command == (
        "dataset pack 'my birds_train.lst' 'my birds_val.lst' 'my birds_test.lst'"
    )
    lists = [here / f"my birds_{name}.lst" for name in ("train", "val", "test")]
    done = json.loads(probe("dataset pack", *lists, "--json", cwd=here).stdout)
    assert [one["images"] for one in done["records"]] == [25, 8, 8]
    folder = here / "records"
    folder.mkdir()
    for one in done["records"]:
        Path(one["path"]).rename(folder / Path(one["path"]).name)
    (here / "classes.txt").rename(folder / "classes.txt")
    shown = json.loads(probe("dataset show", folder, "--json", cwd=here).stdout)
    assert shown["classes"] == ["gull", "owl"]
    assert shown["images"] == {"train": 25, "val": 8, "test": 8}
    assert shown["counts"]["val"] == [2, 6]


def test_copies_and_groups_come_into_one_list(birds: Path) -> None:
    probe("dataset index", birds, "--test", "0.4", cwd=birds.parent)
    texts = [(birds.parent / f"my birds_{name}.lst").read_text() for name in ("train", "test")]
    assert sum("owl/01.png" in text and "owl/99.png" in text for text in texts) == 1


def test_a_column_of_the_list_keeps_its_rows_together(birds: Path) -> None:
    words = ["--val", "0.3", "--group", "site", "-o", birds / "by_site"]
    probe("dataset index", birds / "list.csv", *words, cwd=birds)
    sites = [
        {int(Path(line.split("\t")[2]).stem) % 10 for line in path.read_text().splitlines()}
        for path in (birds / "by_site_train.lst", birds / "by_site_val.lst")
    ]
    assert sites[0] | sites[1] == set(range(10))
    assert not sites[0] & sites[1]
    assert sites[1]


def test_images_of_records_to_predict_are_called_by_file_and_id(birds: Path) -> None:
    (one,) = package.index_dataset(birds, shuffle=False, cache_dir=birds / "cache", quiet=True)
    (packed,) = package.pack_lists(one.path, quiet=True)
    found = find_images([str(packed.path)], cache_dir=birds / "cache")
    assert [str(getattr(one, "name", one)) for one in found] == [
        str(birds.parent / "my birds.rec" / str(number)) for number in range(41)
    ]


def test_python_writes_what_the_commands_write(birds: Path, tmp_path: Path) -> None:
    here, cache = birds.parent, tmp_path / "cache"
    lists = package.index_dataset(birds, tmp_path / "python" / "b", val=0.2, cache_dir=cache)
    probe("dataset index", birds, "-o", tmp_path / "typed" / "b", "--val", "0.2", cwd=here)
    done = package.pack_lists([one.path for one in lists], dataset_root=birds, resize=5, quiet=True)
    typed = [tmp_path / "typed" / one.path.name for one in lists]
    probe("dataset pack", *typed, "--dataset-root", birds, "--resize", "5", cwd=here)
    assert [one.images for one in done] == [one.images for one in lists] == [33, 8]
    for one in (*(one.path for one in done), *(one.index for one in done), lists[0].path):
        assert one.read_bytes() == (tmp_path / "typed" / one.name).read_bytes()
    with pytest.raises(UsageError, match="chunks=0: expected a whole number from 1"):
        package.index_dataset(birds, chunks=0)
    for words, told in (
        ({"quality": 101, "resize": 5}, "--quality 101: expected 1 to 100"),
        ({"resize": 20_000}, "--resize 20000: expected 1 to 16,384"),
        ({"encoding": ".gif"}, "encoding='.gif'|--encoding .gif: expected .jpg or .png"),
        ({"color": "blue"}, "color='blue'|--color blue: expected rgb or grey"),
    ):
        with pytest.raises(UsageError, match=told):
            package.pack_lists(typed, overwrite=True, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("index birds --val 2", "probe: --val 2: give a fraction from 0 and below 1"),
        ("index birds --group site", "probe: --group is for --val or --test"),
        ("index birds --val 0.2 --group duplicates", "compares features"),
        ("index digits", "its images are not in files of their own"),
        ("pack birds", "birds: is no .lst file; `probe dataset index FOLDER` writes one"),
        ("pack none.lst", "none.lst: cannot be read: No such file or directory"),
        ("pack a.lst b.lst -o c.rec", "--out c.rec names one file, and 2 lists are given"),
        ("pack a.lst --quality 3", "--quality is for --resize or --color or --encoding"),
        ("pack a.lst --encoding .png --quality 3", "--quality has no effect beside"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(words: str, told: str, birds: Path) -> None:
    birds.rename(birds.with_name("birds"))
    said = probe(f"dataset {words}", cwd=birds.parent, code=2).stderr
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert [one.name for one in birds.parent.iterdir()] == ["birds"]
