"""Lists of MXNet's: what is written, what im2rec writes, and what is read as a dataset."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.datasets import load_dataset
from probe.datasets.forms.indexing import Ratios, write_lists
from probe.datasets.forms.lst import read_lst
from probe.errors import DataError, UsageError

MakeFolder = Callable[..., Path]
IM2REC = """
import runpy, sys, types
import numpy
numpy.bool = bool
sys.modules["cv2"] = types.ModuleType("cv2")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # without OpenCV it can list, and pack the bytes of files


def im2rec(mx: Any, *words: object) -> None:
    script = Path(mx.__file__).parent / "tools" / "im2rec.py"
    subprocess.run([sys.executable, "-c", IM2REC, script, *map(str, words)], check=True)


def rows(path: Path) -> dict[str, float]:
    listed = read_lst(path)
    return {
        image: float(np.frombuffer(label, "<f4")[0])
        for image, label in zip(listed.paths, listed.labels, strict=True)
    }


@pytest.fixture
def pets(make_folder: MakeFolder) -> Path:
    """40 cats, 20 dogs and 4 owls."""
    counts = {"cat": 40, "dog": 20, "owl": 4}
    paths = [f"{name}/{n:02d}.png" for name, count in counts.items() for n in range(count)]
    return make_folder(*paths, root="my pets")


def test_the_lists_and_records_of_im2rec_byte_for_byte(mx: Any, pets: Path, tmp_path: Path) -> None:
    from probe.datasets.forms.packing import pack_list

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    im2rec(mx, "--list", "--recursive", "--no-shuffle", theirs / "a", pets)
    im2rec(mx, "--pass-through", theirs / "a", pets)
    (own,) = write_lists(load_dataset(str(pets)), tmp_path / "own" / "a", shuffle=False)
    assert own.path.read_bytes() == (theirs / "a.lst").read_bytes()
    packed = pack_list(own.path, root=pets, workers=3)
    assert packed.path.read_bytes() == (theirs / "a.rec").read_bytes()
    assert packed.index.read_bytes() == (theirs / "a.idx").read_bytes()
    assert packed.images == 64


def test_every_image_is_in_one_list_and_every_class_gives_its_share(
    pets: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(str(pets))
    lists = write_lists(dataset, tmp_path / "pets", ratios=Ratios(val=0.25, test=0.25), chunks=2)
    assert [one.path.name for one in lists] == [
        "pets_0_train.lst", "pets_1_train.lst", "pets_0_val.lst", "pets_1_val.lst",
        "pets_0_test.lst", "pets_1_test.lst",
    ]  # fmt: skip
    listed = {one.path.name: read_lst(one.path) for one in lists}
    assert [len(one.paths) for one in listed.values()] == [one.images for one in lists]
    paths = [path for one in listed.values() for path in one.paths]
    assert sorted(paths) == sorted(dataset.splits["train"].ids)
    numbers = {
        path: n for one in listed.values() for path, n in zip(one.paths, one.indices, strict=True)
    }
    assert numbers == {path: n for n, path in enumerate(dataset.splits["train"].ids)}
    for part, counts in (("train", (20, 10, 2)), ("val", (10, 5, 1)), ("test", (10, 5, 1))):
        found = Counter(
            path.split("/")[0]
            for name, one in listed.items() for path in one.paths if part in name
        )  # fmt: skip
        assert found == dict(zip(("cat", "dog", "owl"), counts, strict=True))
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\nowl\n"


def test_the_seed_decides_the_order(pets: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(pets))
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (one,) = write_lists(dataset, tmp_path / name / "pets", seed=seed)
        texts.append(one.path.read_text())
    assert texts[0] == texts[1] != texts[2]
    assert sorted(texts[0].splitlines()) == sorted(texts[2].splitlines())


def test_splits_of_a_folder_are_kept(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    dataset = load_dataset(str(folder))
    lists = write_lists(dataset, tmp_path / "p")
    assert {one.path.name: sorted(rows(one.path)) for one in lists} == {
        "p_train.lst": ["train/a/1.png", "train/b/1.png"],
        "p_test.lst": ["test/a/2.png", "test/b/2.png"],
    }
    with pytest.raises(UsageError, match="has splits of its own"):
        write_lists(dataset, tmp_path / "q", ratios=Ratios(val=0.5))


def test_units_come_into_one_list(pets: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(pets))
    ids = dataset.splits["train"].ids
    units = np.array([int(one[-6:-4]) // 4 for one in ids])  # four of a class, over all classes
    lists = write_lists(dataset, tmp_path / "p", ratios=Ratios(val=0.3, test=0.2), units=units)
    held = {one.path.name: {int(path[-6:-4]) // 4 for path in rows(one.path)} for one in lists}
    assert sum(map(len, held.values())) == len(set(units))


def test_lists_that_are_there_are_kept_or_all_replaced(pets: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(pets))
    write_lists(dataset, tmp_path / "p", ratios=Ratios(val=0.2, test=0.2))
    (tmp_path / "p_other.lst").write_text("somebody's")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.lst")}
    with pytest.raises(UsageError, match=r"p_test\.lst: is there already, and 2 more"):
        write_lists(dataset, tmp_path / "p", ratios=Ratios(val=0.2))
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.lst")}
    write_lists(dataset, tmp_path / "p", ratios=Ratios(val=0.2), overwrite=True)
    assert sorted(path.name for path in tmp_path.glob("*.lst")) == [
        "p_other.lst", "p_train.lst", "p_val.lst",
    ]  # fmt: skip


def test_other_names_of_classes_are_not_overwritten(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("mine\n")
    with pytest.raises(UsageError, match=r"classes\.txt: is there already"):
        write_lists(load_dataset(str(pets)), tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["classes.txt"]


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ({"val": 1.0}, "--val 1: give a fraction"),
        ({"test": -0.1}, "--test -0.1: give a fraction"),
        ({"val": 0.5, "test": 0.5}, "leave nothing to train on"),
    ],
)
def test_ratios_that_make_no_sense(ratios: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Ratios(**ratios)


def test_what_has_no_files_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="digits: its images are not in files of their own"):
        write_lists(load_dataset("digits", cache_dir=tmp_path), tmp_path / "p")


def test_a_path_with_a_tab_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("a/1.png", "b/x\ty.png")
    with pytest.raises(DataError, match=r"cannot have a path with a tab"):
        write_lists(load_dataset(str(folder)), tmp_path / "p")
    assert not list(tmp_path.glob("*.lst"))


def test_images_without_labels(make_folder: MakeFolder, tmp_path: Path) -> None:
    dataset = load_dataset(str(make_folder("1.png", "2.png")), cache_dir=tmp_path / "cache")
    (one,) = write_lists(dataset, tmp_path / "out" / "p", shuffle=False)
    assert one.path.read_text() == "0\t0.000000\t1.png\n1\t0.000000\t2.png\n"
    assert [path.name for path in one.path.parent.iterdir()] == ["p.lst"]


def test_several_labels_an_image(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("1.png", "2.png", "3.png")
    table = folder / "list.csv"
    table.write_text("image,sea,sky,sun\n1.png,1,0,0\n2.png,1,1,0\n3.png,0,0,1\n")
    dataset = load_dataset(str(table))
    (one,) = write_lists(dataset, folder / "list", shuffle=False)
    assert one.path.read_text().splitlines()[1] == "1\t1.000000\t1.000000\t0.000000\t2.png"
    again = load_dataset(str(one.path))
    assert again.classes == ("sea", "sky", "sun") == dataset.classes
    np.testing.assert_array_equal(again.splits["train"].labels, dataset.splits["train"].labels)
    assert again.splits["train"].labels.dtype == np.uint8


def test_a_list_is_the_dataset_it_was_made_from(pets: Path) -> None:
    dataset = load_dataset(str(pets))
    (one,) = write_lists(dataset, pets)  # beside the folder, with its name
    again = load_dataset(str(one.path))
    assert again.classes == dataset.classes
    before, after = dataset.splits["train"], again.splits["train"]
    order = np.argsort(after.ids)
    assert [after.ids[row] for row in order] == sorted(before.ids)
    np.testing.assert_array_equal(after.labels[order], before.labels)
    np.testing.assert_array_equal(after.images.content()[order], before.images.content())


def test_whose_names_a_list_has(make_folder: MakeFolder, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder("x/1.png", "x/2.png", "y/3.png")
    path = folder / "my_val.lst"
    path.write_text("0\t10\tx/1.png\n1\t10.0\tx/2.png\n2\t9.000000\ty/3.png\n")
    found = load_dataset(str(path))
    assert (found.classes, [*found.splits]) == (("y", "x"), ["train"])
    assert found.splits["train"].labels.tolist() == [1, 1, 0]
    assert "its classes take their names from the folders of the images" in caplog.text
    (folder / "synset.txt").write_text("".join(f"n{n:02d} thing {n}\n" for n in range(11)))
    assert load_dataset(str(path)).classes == ("n09 thing 9", "n10 thing 10")
    (folder / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"line 3 has the label 9, for which .*classes\.txt has no"):
        load_dataset(str(path))
    (folder / "classes.txt").write_text("one\none\n")
    with pytest.raises(DataError, match="names 'one' twice"):
        load_dataset(str(path))
    (folder / "classes.txt").unlink()
    (folder / "synset.txt").unlink()
    path.write_text("0\t10\tx/1.png\n1\t9\tx/2.png\n2\t-1\ty/3.png\n")
    assert load_dataset(str(path)).classes == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0\t1\t1.png\n\n1\t2\n", "line 3 has 2 cells; expected an index, one label"),
        ("0,1,1.png\n", "line 1 has 1 cells"),
        ("a\t1\t1.png\n", "line 1: 'a' is no index"),
        ("-1\t1\t1.png\n", "line 1: '-1' is no index"),
        ("0\tcat\t1.png\n", "line 1: 'cat' are no numbers"),
        ("0\t1e39\t1.png\n", "line 1: '1e39' are no numbers"),
        ("0\t1.5\t1.png\n", "line 1 has the label 1.5, which is no whole number"),
        ("0\tnan\t1.png\n", "line 1 has the label nan, which is no whole number"),
        ("0\t0\t1.png\n1\t1\t1.png\n", "line 2 names '1.png' again, after line 1"),
        ("0\t0\t9.png\n", "line 1: there is no '9.png' in "),
        (
            "0\t0\t1.png\n1\t0\t1\t2.png\n",
            "line 2 has 2 labels, and .* has 1 label; as in lists of",
        ),
        ("0\t2\t5\t1.png\n", r"line 1 has 2 labels \(2, 5\) that are not 0 or 1"),
        ("0\t1\t0\t1.png\n", "fewer than two of the classes have an image"),
        ("", "lists no images"),
        ("\0" * 9, "line 1 is no text"),
    ],
    ids=range(15),
)
def test_what_is_no_list_is_told_with_its_line(
    text: str, told: str, make_folder: MakeFolder
) -> None:
    folder = make_folder("1.png", "2.png")
    path = folder / "a.lst"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        load_dataset(str(path))


def test_which_of_several_numbers_is_the_class(make_folder: MakeFolder) -> None:
    folder = make_folder("1.png", "2.png")
    path = folder / "a.lst"
    path.write_text("0\t4\t5\t0\t3\t1.png\n1\t2\t5\t2.png\n")
    from probe.core.reading import ReadOptions

    found = load_dataset(str(path), reading=ReadOptions(label="0"))
    assert (found.classes, found.splits["train"].labels.tolist()) == (("2", "4"), [1, 0])
    with pytest.raises(DataError, match=r"--label 2: .* line 2 has 2 labels"):
        load_dataset(str(path), reading=ReadOptions(label="2"))
    with pytest.raises(UsageError, match="--label breed: labels are numbers without names"):
        load_dataset(str(path), reading=ReadOptions(label="breed"))


def test_a_list_over_split_folders_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder("train/a/1.png", "test/a/2.png")
    path = folder / "all.lst"
    path.write_text("0\t0\ttrain/a/1.png\n1\t1\ttest/a/2.png\n")
    with pytest.raises(DataError, match="its images lie in test, train, and a list is one split"):
        load_dataset(str(path))
