"""Datasets that a CSV or TSV file lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.cache.store import Store
from probe.core.memo import Memo
from probe.datasets import BadImage, Dataset, load_dataset
from probe.datasets.classes import lookalikes
from probe.datasets.forms.listed import load_listed
from probe.datasets.forms.loading import Loading
from probe.errors import DataError, UsageError
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL
from probe.extraction.extract import extract_features
from tests.fakes import FakeEngine, Silent, make_job

Make = Callable[..., Path]
IMAGES = ("a.png", "b.png", "deep/c.png", "d.png")


@pytest.fixture
def listed(make_folder: Make) -> Callable[..., Path]:
    """Write a list beside four images and return its path."""

    def write(text: str | bytes, name: str = "birds.csv") -> Path:
        root = make_folder("deep/c.png")
        for path in IMAGES:
            (root / path).write_bytes(path.encode() + b" is no image, and nobody opens it")
        data = text.encode() if isinstance(text, str) else text
        (root / name).write_bytes(data)
        return root / name

    return write


def load(path: Path, *, splits: list[str] | None = None, limit: int | None = None) -> Dataset:
    cache = path.parent.parent / "cache"
    return load_dataset(str(path), cache_dir=cache, splits=splits, limit=limit)


def test_one_label_an_image(listed: Callable[..., Path]) -> None:
    dataset = load(listed("image,label\nd.png,owl\ndeep/c.png,finch\na.png,owl\n"))
    assert (dataset.name, dataset.classes) == ("birds", ("finch", "owl"))
    assert dataset.task is SINGLE_LABEL
    train = dataset.splits["train"]
    assert list(train.ids) == ["d.png", "deep/c.png", "a.png"]  # in the order of the lines
    assert train.labels.tolist() == [1, 0, 1]
    assert train.labels.dtype == np.int32


SAME = {
    "byte order mark": b"\xef\xbb\xbfimage,label\na.png,x\nb.png,y\n",
    "carriage returns": b"image,label\r\na.png,x\r\nb.png,y\r\n",
    "no end": b"image,label\na.png,x\nb.png,y",
    "quotes": b'"image","label"\n"a.png","x"\n"b.png","y"\n',
    "empty lines": b"image,label\n\na.png,x\n\n  \nb.png,y\n\n",
    "spaces": b"image, label\na.png, x\n b.png ,y \n",
    "semicolons": b"image;label\na.png;x\nb.png;y\n",
    "tabs": b'"image"\t"label"\r\na.png\tx\r\nb.png\ty\r\n',
    "Excel's separator": b"sep=;\r\nimage;label\r\na.png;x\r\nb.png;y\r\n",
    "Excel's separator in quotes": b'"sep=;"\nimage;label\na.png;x\nb.png;y\n',
    "semicolons after a mark": b"\xef\xbb\xbffile;label\na.png;x\nb.png;y\n",
    "other columns": b"width,LABEL,Filename,\n7,x,a.png,0\n7,y,b.png,1\n",
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME)
def test_the_same_list_in_other_words(listed: Callable[..., Path], data: bytes) -> None:
    dataset = load(listed(data))
    assert dataset.classes == ("x", "y")
    assert list(dataset.splits["train"].ids) == ["a.png", "b.png"]
    assert dataset.splits["train"].labels.tolist() == [0, 1]


def test_cells_may_hold_commas_quotes_and_line_ends(listed: Callable[..., Path]) -> None:
    path = listed('image,label\na.png,"owl, the ""tawny"""\nb.png,"two\nlines"\nno.png,x\n')
    with pytest.raises(DataError, match=r"line 5: there is no file .*no\.png"):
        load(path)
    path.write_text('image,label\na.png,"owl, the ""tawny"""\nb.png,"two\nlines"\n')
    assert load(path).classes == ('owl, the "tawny"', "two\nlines")


def test_other_separators_are_said_and_keep_the_numbers_of_lines(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert load(listed("image;label\na.png;x, or y\nb.png;z\n")).classes == ("x, or y", "z")
    assert load(listed("image,label\na.png,x\nb.png,y\n", "birds.tsv")).classes == ("x", "y")
    first, second = caplog.messages
    assert first.endswith("birds.csv: its cells are separated by semicolons")
    assert second.endswith("birds.tsv: its cells are separated by commas")
    with pytest.raises(DataError, match="line 4: there is no file"):
        load(listed("sep=;\nimage;label\na.png;x\nno.png;y\n"))


def test_backslashes_are_slashes_where_only_that_is_there(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load(listed("image,label\ndeep\\c.png,x\n.\\a.png,y\nb.png,y\n"))
    assert list(dataset.splits["train"].ids) == ["deep/c.png", "./a.png", "b.png"]
    (said,) = caplog.messages
    assert said.endswith("reading the backslashes in 2 paths as slashes")


def test_what_may_be_a_split_by_another_name_is_refused_or_shown(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    def text(name: str, *values: str) -> str:
        rows = zip(("a.png", "b.png", "d.png"), "xyx", values, strict=True)
        return f"image,label,{name}\n" + "".join(f"{','.join(row)}\n" for row in rows)

    for name, *values in (("stage", "train", "train", "infer"), ("use", "training", "new", "new")):
        with pytest.raises(DataError, match=f"the column `{name}` holds .* reads like a split"):
            load(listed(text(name, *values)))
    load(listed(text("purpose", "learning", "checking", "learning")))
    assert "not read as labels: `purpose` (checking, learning) (--group" in caplog.messages[-1]
    load(listed(text("stage", "1", "2", "3")))  # of an illness
    assert "not read as labels: `stage` (--group" in caplog.messages[-1]


def test_classes_whose_names_are_nearly_the_same_are_said(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load(listed("image,label\na.png,Cat\nb.png,cat\nd.png,big dog\ndeep/c.png,big_dog\n"))
    assert len(dataset.classes) == 4
    (said,) = caplog.messages
    assert "'Cat' and 'cat', 'big dog' and 'big_dog' are different classes" in said
    assert lookalikes(("1", "-1", "+", "-", "C", "C++", "caf\u00e9", "cafe")) == (
        "'C' and 'C++' are different classes, though their names differ only in case, spaces or "
        "signs"
    )
    with pytest.raises(DataError, match=r"'CAT' is in test but not in train \(where one is called"):
        load(listed("image,label,split\na.png,cat,train\nb.png,x,train\nd.png,CAT,test\n"))


def test_a_name_that_is_not_utf8_stops_no_other(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    text = b"image,label\na.png,x\n\xff.png,x\nb.png,y\n"
    with pytest.raises(DataError, match=r"line 3 is not UTF-8; .*\(1 such; --skip-bad leaves them"):
        load(listed(text))
    dataset = load_listed(
        listed(text), Loading(memo=Memo(tmp_path / "m"), cache_dir=tmp_path, skip_bad=True)
    )
    assert list(dataset.splits["train"].ids) == ["a.png", "b.png"]
    assert dataset.skipped == (BadImage(id="\\xff.png", reason="the name is not UTF-8"),)
    for wrong in (b"image,label\na.png,caf\xe9\nb.png,y\n", b"image,label,\xe9\na.png,x,1\n"):
        with pytest.raises(DataError, match=r"line [12] is not UTF-8; save it as UTF-8 text$"):
            load_listed(
                listed(wrong), Loading(memo=Memo(tmp_path / "m"), cache_dir=tmp_path, skip_bad=True)
            )


def test_tabs(listed: Callable[..., Path]) -> None:
    path = listed("file\tlabels\na.png\tx|y\nb.png\t\n", "birds.TSV")
    assert load(path).splits["train"].labels.tolist() == [[1, 1], [0, 0]]


def test_several_labels_an_image(listed: Callable[..., Path]) -> None:
    dataset = load(listed("image,labels\na.png,sea| sky \nb.png,\nd.png,sky|cat|\n"))
    assert dataset.task is MULTI_LABEL
    assert dataset.classes == ("cat", "sea", "sky")
    labels = dataset.splits["train"].labels
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1]]


def test_a_column_a_class_keeps_the_columns_order(listed: Callable[..., Path]) -> None:
    text = "split,image,sky,cat\ntrain,a.png,1,0\nTest,b.png,0, 1\ntrain,d.png,0,1\n"
    dataset = load(listed(text))
    assert dataset.classes == ("sky", "cat")
    assert dataset.splits["train"].labels.tolist() == [[1, 0], [0, 1]]
    assert dataset.splits["test"].labels.tolist() == [[0, 1]]


def test_splits(listed: Callable[..., Path]) -> None:
    text = "image,label,split\nd.png,x,TEST\na.png,x,train\nb.png,y,train\ndeep/c.png,y,valid\n"
    path = listed(text)
    assert {name: list(split.ids) for name, split in load(path).splits.items()} == {
        "train": ["a.png", "b.png"], "val": ["deep/c.png"], "test": ["d.png"],
    }  # fmt: skip
    assert list(load(path, splits=["test"]).splits) == ["test"]
    with pytest.raises(DataError, match="has no split 'val'; it has train"):
        load(listed("image,label\na.png,x\nb.png,y\n"), splits=["val"])


IN_OTHER_WORDS = {
    "is_valid": ("False", "False", "True", None),
    "data set": ("train", "Training", "validation", "TEST"),
    "set": ("train", "train", "dev", "test"),
    "Usage": ("Training", "Training", None, "PublicTest"),
    "fold": ("train", "train", "valid", "test"),
    "partition": ("tr", "tr", None, "te"),
    "phase": ("train", "train", "eval", "test"),
    "subset": ("train", "train", None, "holdout"),
    "split": ("train", "train", "dev", "eval"),
    "is_test": ("0", "0", None, "1"),
    "in_train": ("yes", "yes", None, "no"),
    "train": ("1", "1", None, "0"),
    "held out": ("f", "f", None, "t"),
}


@pytest.mark.parametrize("column", IN_OTHER_WORDS)
def test_a_split_under_another_name_is_read_and_said(
    listed: Callable[..., Path], column: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = list(zip(("a.png", "b.png", "deep/c.png", "d.png"), "xyxy", strict=True))
    cells = [
        (*row, value) for row, value in zip(rows, IN_OTHER_WORDS[column], strict=True) if value
    ]
    text = f"image,label,{column}\n" + "".join(",".join(row) + "\n" for row in cells)
    dataset = load(listed(text))
    right = {"train": ["a.png", "b.png"], "val": ["deep/c.png"], "test": ["d.png"]}
    there = {path for path, _, _ in cells}
    assert {name: list(split.ids) for name, split in dataset.splits.items()} == {
        name: ids for name, ids in right.items() if there & set(ids)
    }
    (said,) = caplog.messages
    assert f"`{column}`" in said
    assert "\n" not in said


def test_two_columns_of_yes_and_no_are_one_split(listed: Callable[..., Path]) -> None:
    text = "image,label,is_valid,is_test\na.png,x,0,0\nb.png,y,1,0\nd.png,x,0,1\n"
    path = listed(text + "deep/c.png,y,0,0\n")
    assert {name: list(split.ids) for name, split in load(path).splits.items()} == {
        "train": ["a.png", "deep/c.png"], "val": ["b.png"], "test": ["d.png"],
    }  # fmt: skip
    # a column a class: what tells the split is none
    path = listed("image,sky,is_test,cat\na.png,1,0,0\nb.png,0,0,1\nd.png,0,1,1\n")
    dataset = load(path)
    assert dataset.classes == ("sky", "cat")
    assert list(dataset.splits["test"].ids) == ["d.png"]
    # but a class may be a train
    path = listed("image,bus,train\na.png,1,0\nb.png,0,1\n")
    assert load(path).classes == ("bus", "train")


UNCLEAR = {
    "numbers": (b"image,label,set\na.png,x,1\nb.png,y,2\n", "`set` holds '1', '2' and reads like"),
    "a fold of two": (b"image,label,fold\na.png,x,0\nb.png,y,1\n", "not which is which"),
    "another name": (b"image,label,where\na.png,x,train\nb.png,y,test\n", "`where` holds.*`split`"),
    "a fold or none": (b"image,label,test_fold\na.png,x,-1\nb.png,y,0\n", "not which is which"),
    "one or none": (b"image,label,where\na.png,x,train\nb.png,y,\n", "`where` holds '', 'train'"),
    "a cross": (b"image,label,test\na.png,x,x\nb.png,y,\n", "`test` reads like test"),
    "a gap": (b"image,label,set\na.png,x,train\nb.png,y,\n", "line 3: the column `set`.*'' in it"),
    "a gap in flags": (b"image,label,is_test\na.png,x,1\nb.png,y,\n", "`is_test` reads like test"),
    "quality": (b"image,label,valid\na.png,x,1\nb.png,y,1\n", "would make 2 of 2 images val"),
    "both": (b"image,label,is_test,is_val\na.png,x,1,1\nb.png,y,0,0\n", "line 2 is .* and "),
    "two": (b"image,label,set,is_val\na.png,x,train,1\nb.png,y,test,0\n", "`set` and `is_val` "),
    "classes": (b"image,cat,dog,set\na.png,1,0,0\nb.png,0,1,1\n", "`set` holds '0', '1'"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_reads_like_a_split_and_is_not_clear_is_refused(
    listed: Callable[..., Path], data: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        load(listed(data))
    assert "\n" not in str(raised.value)


def test_other_columns_lie_beside_the_rows_of_their_split(listed: Callable[..., Path]) -> None:
    rows = ("x,d.png,owl,test,1", '" y, z ",a.png,owl,train,', "x,b.png,finch,train,3")
    text = "\n".join(("site,image,label,split,patient", *rows))
    splits = load(listed(text)).splits
    assert splits["train"].columns == {"site": ["y, z", "x"], "patient": ["", "3"]}
    assert splits["test"].columns == {"site": ["x"], "patient": ["1"]}
    assert load(listed("image,label\na.png,x\nb.png,y\n")).splits["train"].columns == {}


def test_columns_that_play_no_part_are_named_in_one_line(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    text = "image,label,age,fold,,dataset\na.png,x,27,0,1,north\nb.png,y,3,1,2,south\n"
    load(listed(text + "d.png,y,4,2,3,south\n"))
    said, folds = caplog.messages
    assert "labels: `age`, `fold`, `column 5`, `dataset` (north, south) (--group" in said
    assert "`fold` numbers folds, and none of them is held out" in folds


def test_folders_of_splits_in_paths_need_a_column(listed: Callable[..., Path]) -> None:
    text = "image,label{}\ntrain/a.png,x{}\ntrain/b.png,y{}\ntest/a.png,x{}\n"
    path = listed(text.format(*[""] * 4))
    with pytest.raises(DataError, match="lie in test, train, and no column tells the split"):
        load(path)
    for one in ("train/a.png", "train/b.png", "test/a.png"):
        (path.parent / one).parent.mkdir(exist_ok=True)
        (path.parent / one).write_bytes(b"x")
    path.write_text(text.format(",split", ",train", ",train", ",train"))
    assert list(load(path).splits) == ["train"]


def test_lines_that_name_one_file_through_links_are_counted(
    listed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = listed("image,label\na.png,x\nb.png,y\nc.png,y\n")
    (path.parent / "c.png").symlink_to("a.png")
    load(path)
    (said,) = caplog.messages
    assert said.endswith(
        "1 line names a file that another line names already, through a link "
        "(line 4: c.png is a.png)"
    )


def test_labels_that_are_whole_numbers(listed: Callable[..., Path]) -> None:
    dataset = load(listed("image,label\na.png,10\nb.png,9\ndeep/c.png,10.0\nd.png,-1\n"))
    assert dataset.classes == ("-1", "9", "10")
    assert dataset.splits["train"].labels.tolist() == [2, 1, 2, 0]
    dataset = load(listed("image,label\na.png,1\nb.png,01\nd.png,2\n"))
    assert dataset.classes == ("01", "1", "2")
    dataset = load(listed("image,labels\na.png,2.0|11\nb.png,11.0\nd.png,2\n"))
    assert dataset.classes == ("2", "11")
    assert dataset.splits["train"].labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    # a version is no number that a table writes
    assert load(listed("image,label\na.png,1.0\nb.png,1\nd.png,b\n")).classes == ("1", "1.0", "b")


def test_labels_that_differ_by_unicode_form_are_one(listed: Callable[..., Path]) -> None:
    text = "image,label\na.png,caf\u00e9\nb.png,cafe\u0301\nd.png,tea\n"
    dataset = load(listed(text))
    assert dataset.classes == ("caf\u00e9", "tea")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 1]


def test_a_path_in_the_other_unicode_form_is_found(listed: Callable[..., Path]) -> None:
    path = listed("image,label\ncaf\u00e9.png,x\nb.png,y\n")
    (path.parent / "cafe\u0301.png").write_bytes(b"x")
    train = load(path).splits["train"]
    assert list(train.ids) == ["cafe\u0301.png", "b.png"]
    path.write_text("image,label\ncaf\u00e9.png,x\ncafe\u0301.png,y\n")
    with pytest.raises(DataError, match=r"line 3 names .* again, after line 2, with another"):
        load(path)


def test_absolute_paths(listed: Callable[..., Path]) -> None:
    path = listed("image,label\na.png,x\n")
    there = str(path.parent / "b.png")
    path.write_text(f"image,label\na.png,x\n{there},y\n")
    train = load(path).splits["train"]
    assert list(train.ids) == ["a.png", there]
    assert len(set(map(bytes, train.images.content()))) == 2


WRONG = {
    "empty": (b"", "is empty; expected a line of names"),
    "no rows": (b"image,label\n\n", "has no images"),
    "no image column": (b"name,label\na.png,x\n", "line 1 has no column `image`"),
    "two image columns": (b"image,file,label\na.png,a.png,x\n", "names the image twice"),
    "no labels": (b"image,split\na.png,train\n", "line 1 has no labels"),
    "both": (b"image,label,labels\na.png,x,x\n", "has `label` and `labels`"),
    "a column twice": (b"image,cat,cat\na.png,1,0\n", "names the column 'cat' twice"),
    "row numbers": (b",image,cat,dog\n0,a.png,1,0\n", "column 1 has no name.*index=False"),
    "short": (b"image,label\na.png,x\nb.png\n", "line 3 has 1 cells, the first 2"),
    "bars": (b"image|label\na.png|x\n", "'image.label'; .*, separated by commas, semicolons or"),
    "no path": (b"image,label\na.png,x\n,y\n", "line 3 names no image"),
    "no label": (b"image,label\na.png,x\nb.png, \n", "line 3 has no label"),
    "bar": (b"image,label\na.png,x|y\n", r"line 2 has the label 'x\|y'.*`labels`"),
    "not 0 or 1": (b"image,cat,age\na.png,1,27\n", "line 2, column 'age': '27' is not 0 or 1"),
    "never": (b"image,cat,dog,cow\na.png,1,0,0\nb.png,0,1,0\n", "no image is of the class 'cow'"),
    "one class": (b"image,labels\na.png,x\nb.png,\n", "has only the class 'x'"),
    "no class": (b"image,labels\na.png,\n", "has no class at all"),
    "missing": (b"image,label\na.png,x\nno.png,y\n", "line 3: there is no file"),
    "again": (b"image,label\na.png,x\n./a.png,x\n", "line 3 .* after line 2, with the same"),
    "otherwise": (b"image,label\na.png,x\na.png,y\n", "again, after line 2, with another label"),
    "in two splits": (b"image,label,split\na.png,x,train\na.png,x,test\n", "again, after line 2"),
    "split": (b"image,label,split\na.png,x,extra\n", "line 2: the split 'extra' is not"),
    "no split": (b"image,label,split\na.png,x,train\nb.png,y,\n", "line 3: the split '' is not"),
    "untrained": (b"image,label,split\na.png,x,train\nb.png,y,test\n", "line 3: the class 'y' is"),
    "untrained label": (b"image,labels,split\na.png,x,train\nb.png,x,test\nd.png,x|y,test\n",
                        "line 4: the class 'y' is in test but not in train"),
    "latin 1": ("image,label\na.png,café\n".encode("latin-1"), "line 2 is not UTF-8"),
    "utf 16": ("image,label\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "nul": (b"image,label\na.png,x\n\0\n", "line 3 holds a NUL byte"),
    "quote": (b'image,label\na.png,"x\n', "line 2 cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_list_is_named_with_its_line(
    listed: Callable[..., Path], data: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        load(listed(data))
    assert "birds.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_no_list(listed: Callable[..., Path], tmp_path: Path) -> None:
    path = listed("image,label\na.png,x\nb.png,y\n")
    with pytest.raises(DataError, match=r"nothere\.csv: there is no such file"):
        load(path.with_name("nothere.csv"))
    with pytest.raises(DataError, match=r"is a file of another kind; give .* a list of images"):
        load(path.with_name("a.png"))
    with pytest.raises(UsageError, match=r"is a list of images, which has no coarse labels"):
        load_dataset(str(path), coarse=True)


def test_paths_may_be_relative_to_another_folder(make_folder: Make, tmp_path: Path) -> None:
    photographs = make_folder("a.png", "b/c.png", root="photographs")
    (tmp_path / "list.csv").write_text("image,label\na.png,x\nb/c.png,y\n")
    dataset = load_dataset(str(tmp_path / "list.csv"), root=photographs, cache_dir=tmp_path)
    assert list(dataset.splits["train"].ids) == ["a.png", "b/c.png"]
    assert dataset.splits["train"].images.image(1).shape == (5, 7, 3)


def test_skip_bad_leaves_out_what_is_missing_or_no_image(make_folder: Make) -> None:
    root = make_folder("a.png", "b.png", "c.png")
    (root / "c.png").write_bytes(b"no image")
    (root / "list.csv").write_text("image,labels\na.png,x|y\nb.png,x\nc.png,x\nno.png,y\n")
    cache = root.parent / "cache"
    dataset = load_dataset(str(root / "list.csv"), cache_dir=cache, skip_bad=True)
    assert list(dataset.splits["train"].ids) == ["a.png", "b.png"]
    assert [bad.id for bad in dataset.skipped] == ["c.png", "no.png"]


def test_a_limit_on_images_of_several_labels(listed: Callable[..., Path]) -> None:
    path = listed("image,labels\na.png,x\nb.png,y\nd.png,x|y\ndeep/c.png,\n")
    two, three = (list(load(path, limit=n).splits["train"].ids) for n in (2, 3))
    assert (len(two), len(three)) == (2, 3)
    assert set(two) < set(three)
    with pytest.raises(UsageError, match="--per-class counts images of one label each"):
        load_dataset(str(path), cache_dir=path.parent / "cache", per_class=1)


def test_a_list_of_a_folders_images_reuses_its_features(make_folder: Make, tmp_path: Path) -> None:
    """The same images in the same order have the same key, and other labels forward nothing."""
    ids = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    root, store = make_folder(*ids), Store(tmp_path / "store")
    for number, id_ in enumerate(ids):
        data = (root / id_).read_bytes()
        (root / id_).write_bytes(data + bytes([number]))  # four contents

    def extract(dataset: Dataset) -> tuple[int, str]:
        observer = Silent()
        job = make_job(dataset)
        engine = lambda cuts: FakeEngine(cuts, 32)  # noqa: E731
        (entry,) = extract_features(job, store, engine, observer, workers=1)
        train = entry["train"]
        np.testing.assert_array_equal(train.labels, dataset.splits["train"].labels)
        assert train.ids == list(dataset.splits["train"].ids)
        return observer.forwarded, entry.key.digest

    folder = load_dataset(str(root), cache_dir=tmp_path / "cache")
    assert extract(folder)[0] == 4
    for name, text in {
        "same.csv": "image,label\n" + "".join(f"{id_},{id_[:3]}\n" for id_ in ids),
        "several.csv": "image,labels\n" + "".join(f"{id_},{id_[:3]}|pet\n" for id_ in ids),
    }.items():
        (root / name).write_text(text)
        forwarded, digest = extract(load_dataset(str(root / name), cache_dir=tmp_path / "cache"))
        assert forwarded == 0
        assert digest == make_job(folder).cuts[0].key.digest
    (root / "same.csv").write_text(
        "image,label\n" + "".join(f"{i},x{n % 2}\n" for n, i in enumerate(reversed(ids)))
    )
    assert extract(load_dataset(str(root / "same.csv"), cache_dir=tmp_path / "cache"))[0] == 0
