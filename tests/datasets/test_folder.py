"""Folders of class folders: what are splits, classes and images, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.classes import numbering, ordered_classes
from probe.errors import DataError, UsageError

Make = Callable[..., Path]


def load(root: Path, splits: list[str] | None = None, *, skip_bad: bool = False) -> Dataset:
    cache = root.parent / "cache"
    return load_dataset(str(root), cache_dir=cache, splits=splits, skip_bad=skip_bad)


def test_class_folders_alone_are_train(make_folder: Make) -> None:
    dataset = load(make_folder("dog/2.png", "cat/b.JPG", "cat/a.Jpeg", "dog/10.tiff"))
    assert dataset.name == "pictures"
    assert dataset.classes == ("cat", "dog")
    train = dataset.splits["train"]
    assert list(train.ids) == ["cat/a.Jpeg", "cat/b.JPG", "dog/10.tiff", "dog/2.png"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.images.image(3).shape == (5, 7, 3)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders(make_folder: Make, val: str) -> None:
    root = make_folder("test/cat/1.png", "train/dog/1.png", "train/cat/1.png", f"{val}/dog/7.png")
    dataset = load(root)
    assert list(dataset.splits) == ["train", "val", "test"]
    assert list(dataset.splits["val"].ids) == [f"{val}/dog/7.png"]
    assert dataset.splits["val"].labels.tolist() == [1]
    assert list(load(root, ["test"]).splits) == ["test"]
    assert load(root, ["test"]).classes == ("cat", "dog")


def test_a_folder_with_only_some_splits_is_just_those(make_folder: Make) -> None:
    root = make_folder("test/cat/1.png")
    assert list(load(root).splits) == ["test"]
    with pytest.raises(DataError, match="no split 'val'; it has test"):
        load(root, ["val"])


def test_images_beside_no_folder_have_no_labels(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load(make_folder("b.png", "a.png"))
    assert dataset.classes == ("unlabeled",)
    assert list(dataset.splits["train"].ids) == ["a.png", "b.png"]
    assert dataset.splits["train"].labels.tolist() == [0, 0]
    assert "has no class folders: its images are read without labels" in caplog.text


def test_unlabeled_takes_all_images_whatever_the_folders_are_called(make_folder: Make) -> None:
    root = make_folder("2.png", "train/cat/1.png", "test/1.png", "masks/1.png")
    dataset = load_dataset(
        str(root), cache_dir=root.parent / "cache", reading=ReadOptions(unlabeled=True)
    )
    assert list(dataset.splits) == ["train"]
    expected = ["2.png", "masks/1.png", "test/1.png", "train/cat/1.png"]
    assert list(dataset.splits["train"].ids) == expected


@pytest.mark.parametrize("above", ["", "wrapped/"])
def test_images_without_labels_keep_their_splits(make_folder: Make, above: str) -> None:
    ids = [f"{above}{one}" for one in ("train/1.png", "train/x/2.png", "Validation/3.png")]
    root = make_folder(*ids, f"{above}test/4.png")
    reading, cache = ReadOptions(unlabeled=True), root.parent / "cache"
    dataset = load_dataset(str(root), cache_dir=cache, reading=reading)
    assert {name: list(split.ids) for name, split in dataset.splits.items()} == {
        "train": ids[:2], "val": ids[2:], "test": [f"{above}test/4.png"],
    }  # fmt: skip
    assert dataset.classes == ("unlabeled",)
    assert all(split.labels.tolist() == [0] * len(split) for split in dataset.splits.values())


@pytest.mark.parametrize(
    "paths",
    [
        ["test/1.png", "test/2.png"],  # nothing to tell it apart from
        ["train/1.png", "test/2.png", "more/3.png"],
        ["train/1.png", "training/2.png", "test/3.png"],
        ["seg_train/1.png", "seg_test/3.png"],  # with other words it may be any name
    ],
)
def test_images_without_labels_are_of_train_where_folders_are_not_all_splits(
    make_folder: Make, paths: list[str]
) -> None:
    root = make_folder(*paths)
    reading, cache = ReadOptions(unlabeled=True), root.parent / "cache"
    dataset = load_dataset(str(root), cache_dir=cache, reading=reading)
    assert {name: list(split.ids) for name, split in dataset.splits.items()} == {
        "train": sorted(paths)
    }


def test_images_beside_folders_name_the_choice(make_folder: Make) -> None:
    with pytest.raises(DataError) as caught:
        load(make_folder("cat/1.png", "2.png"))
    said = "images lie beside the folders (2.png); expected CLASS/IMAGE or train/CLASS/IMAGE: "
    assert str(caught.value).endswith(
        said + "move them, or --unlabeled takes all images, without labels"
    )


def test_an_option_that_says_nothing_about_a_folder_is_refused(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    with pytest.raises(UsageError, match="--label has no effect on a folder of class folders"):
        load_dataset(str(root), cache_dir=root.parent, reading=ReadOptions(label="x"))


def test_what_is_no_image_is_ignored(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "cat/more/x/2.png")
    for name in ("cat/.hidden.jpg", "cat/Thumbs.db", "cat/notes.txt", "readme.md", "cat/jpg"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    (root / "cat" / ".thumbs").mkdir()
    (root / "cat" / ".thumbs" / "1.png").write_text("x")
    assert list(load(root).splits["train"].ids) == ["cat/1.png", "cat/more/x/2.png"]


WRONG = {
    "mixed": (["train/cat/1.png", "dog/1.png"], r"both split folders \(train\) and others \(dog\)"),
    "beside the classes": (["cat/1.png", "2.png"], r"images lie beside the folders \(2\.png\)"),
    "beside in a split": (["train/cat/1.png", "train/2.png"], r"train: images lie beside"),
    "no class folder": (["train/2.png"], r"train: images lie in no class folder"),
    "only in test": (["train/a/1.png", "test/b/1.png"], "class 'b' is in test but not in train"),
    "twice": (["val/a/1.png", "valid/a/1.png"], "are all 'val'; keep one"),
}


def test_an_empty_class_folder_is_named(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    (root / "dog").mkdir()
    (root / "dog" / "readme.txt").write_text("none yet")
    with pytest.raises(DataError, match=r"dog: a class folder without an image.*--skip-bad"):
        load(root)


def test_empty_class_folders_are_left_out_when_asked(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("train/cat/1.png", "train/owl/2.png", "test/cat/3.png")
    (root / "train" / "dog").mkdir()
    (root / "val" / "cat").mkdir(parents=True)
    found = load(root, skip_bad=True)
    assert found.classes == ("cat", "owl")
    assert list(found.splits) == ["train", "test"]
    assert [one.id for one in found.skipped] == ["train/dog", "val/cat"]
    (tmp_path / "bare" / "dog").mkdir(parents=True)
    with pytest.raises(DataError, match="dog: a class folder without an image; remove it"):
        load(tmp_path / "bare", skip_bad=True)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="e: has no class folders; expected"):
        load(tmp_path / "e")


def test_links_are_followed_and_loops_end(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "cat/a/2.png")
    (root / "cat" / "a" / "loop").symlink_to(root / "cat")
    (root / "cat" / "b").symlink_to(root / "cat" / "a")
    (root / "cat" / "3.png").symlink_to(root / "cat" / "1.png")
    (root / "dog").symlink_to(make_folder("x/4.png", root="elsewhere") / "x")
    ids = load(root).splits["train"].ids
    assert list(ids) == ["cat/1.png", "cat/3.png", "cat/a/2.png", "dog/4.png"]


def test_a_broken_link_is_a_bad_image(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    (root / "cat" / "2.png").symlink_to(root / "gone.png")
    dataset = load_dataset(str(root), cache_dir=root.parent / "c", skip_bad=True)
    assert [bad.id for bad in dataset.skipped] == ["cat/2.png"]


def test_a_pipe_does_not_hang(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    os.mkfifo(root / "cat" / "2.png")
    assert list(load(root).splits["train"].ids) == ["cat/1.png"]


@pytest.mark.parametrize("place", [b"cat/\xff.png", b"\xff/1.png"])
def test_a_name_that_is_not_utf_8(make_folder: Make, place: bytes) -> None:
    root = make_folder("cat/1.png")
    path = os.fsencode(root) + b"/" + place
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"xff.*is not UTF-8; rename it") as caught:
        load(root)
    str(caught.value).encode()


def test_names_in_any_script(make_folder: Make) -> None:
    root = make_folder("猫/ä b.png")
    train = load(root).splits["train"]
    assert list(train.ids) == ["猫/ä b.png"]
    assert train.images.image(0).shape == (5, 7, 3)


def ids_of(dataset: Dataset) -> dict[str, list[str]]:
    return {name: list(split.ids) for name, split in dataset.splits.items()}


NEAR = {  # folders of train, val and test
    "Training": ("Training", None, "Testing"),
    "training_set": ("training_set", None, "test_set"),
    "seg_train": ("seg_train/seg_train", None, "seg_test/seg_test"),
    "train_images": ("train_images", "val_images", "test_images"),
    "images_train": ("images_train", "images-valid", "images-test"),
    "cifar_train": ("cifar_train", None, "cifar_test"),
    "train2017": ("train2017", "val2017", None),
    "dev": ("train", "dev", "test"),
    "eval": ("train", None, "eval"),
    "eval beside test": ("train", "eval", "test"),
    "holdout": ("train", "val", "Hold-out"),
    "tr": ("tr", "va", "te"),
    "mixed": ("train", "val", "Testing"),
    "wrapped": ("a/b/train", None, "a/b/test"),
    "doubled": ("train/train", None, "test/test"),
    "wrapped within": ("train/images", None, "test/images"),
    "camels": ("TrainSet", None, "TestSet"),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_names_of_splits_are_read_and_said(
    make_folder: Make, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    splits = dict(zip(("train", "val", "test"), NEAR[name], strict=True))
    right = {
        split: [f"{folder}/cat/1.png", f"{folder}/dog/1.png"]
        for split, folder in splits.items()
        if folder
    }
    dataset = load(make_folder(*(path for paths in right.values() for path in paths)))
    assert dataset.classes == ("cat", "dog")
    assert ids_of(dataset) == right
    assert all(split.labels.tolist() == [0, 1] for split in dataset.splits.values())
    assert caplog.messages
    assert all("reading" in message and "\n" not in message for message in caplog.messages)


def test_plain_names_are_not_worth_a_word(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder("Train/cat/1.png", "valid/cat/1.png", "TEST/cat/more/1.png")
    for name in ("__MACOSX/train/cat/._1.png", "Train/cat/@eaDir/1.png/SMALL.jpg", ".git/x.png",
                 "Train/cat/Thumbs.db", "Train/cat/desktop.ini"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no image")
    assert list(load(root).splits) == ["train", "val", "test"]
    assert not caplog.messages


def test_folders_without_images_beside_splits_are_left_out(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(*grid("train2017 val2017", "cat dog"))
    (root / "annotations").mkdir()
    (root / "annotations" / "captions.json").write_text("{}")
    assert list(load(root).splits) == ["train", "val"]
    assert "left out folders without images beside the splits: annotations" in caplog.text
    root = make_folder(*grid("train", "cat dog"), root="unfinished")
    (root / "test").mkdir()
    with pytest.raises(DataError, match="test: has no class folders"):
        load(root)


@pytest.mark.parametrize("folder", ["a/test", "Testing", "a/b/test_set", "test/test"])
def test_a_test_set_alone_is_never_trained_on(make_folder: Make, folder: str) -> None:
    dataset = load(make_folder(f"{folder}/cat/1.png", f"{folder}/dog/1.png"))
    assert ids_of(dataset) == {"test": [f"{folder}/cat/1.png", f"{folder}/dog/1.png"]}


def test_splits_within_the_classes(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load(
        make_folder(*(f"{c}/{s}/1.png" for c in ("cat", "dog") for s in ("train", "Testing")))
    )
    assert dataset.classes == ("cat", "dog")
    assert ids_of(dataset) == {
        "train": ["cat/train/1.png", "dog/train/1.png"],
        "test": ["cat/Testing/1.png", "dog/Testing/1.png"],
    }
    assert "each class has its splits; reading Testing as test, train as train" in caplog.text


def test_folders_that_a_file_names_are_classes(make_folder: Make) -> None:
    """What looks like copies, folds or splits can be said to be classes."""

    def declared(names: str, paths: list[str], root: str) -> Dataset:
        folder = make_folder(*paths, root=root)
        (folder / "classes.txt").write_text(names)
        return load(folder)

    nested = grid("cat dog", "indoor outdoor")
    with pytest.raises(DataError, match=r"if they are classes, write .* into classes\.txt"):
        load(make_folder(*nested, root="plain"))
    dataset = declared("\ufeffcat\r\ndog\r\n", nested, "nested")
    assert dataset.classes == ("cat", "dog")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 1, 1]
    assert declared("train\nbus\ncar\n", grid("train bus"), "cars").classes == ("bus", "train")
    dataset = declared("fold1\nfold2\n", grid("train test", "fold1 fold2"), "folds")
    assert dataset.classes == ("fold1", "fold2")
    assert list(dataset.splits) == ["train", "test"]
    coco = declared("train\ncat\ndog\n", grid("train", "cat dog"), "coco")
    assert (coco.classes, list(coco.splits)) == (("cat", "dog"), ["train"])
    with pytest.raises(DataError, match="cat, dog hold no images"):  # one is not named
        declared("cat\nbird\n", nested, "others")


CLASSES = {  # what looks similar, and is classes
    "two kinds of trains": ["freight_train/1.png", "passenger_train/1.png"],
    "deep classes": ["cat/2019/1.png", "cat/2020/1.png", "dog/x/1.png", "dog/y/1.png"],
    "a folder in every class": ["n1/images/1.png", "n2/images/1.png"],
    "a sport": ["cycling/1.png", "training/1.png"],
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_remain_classes(make_folder: Make, name: str) -> None:
    dataset = load(make_folder(*CLASSES[name]))
    assert dataset.classes == tuple(sorted({path.split("/")[0] for path in CLASSES[name]}))
    assert ids_of(dataset) == {"train": sorted(CLASSES[name])}


def grid(*names: str) -> list[str]:
    """Return images in folders called like the first names, the second below, and so on."""
    paths = [""]
    for each in names:
        paths = [f"{path}{name}/" for path in paths for name in each.split()]
    return [f"{path}1.png" for path in paths]


UNCLEAR = {
    "copies": (grid("color grayscale segmented", "apple pear"),
               r"hold no images.*\(apple, pear\).*pictures/color\), or list the images in a \.csv"),
    "copies with splits": (grid("color grey", "train test", "a b"), "color, grey hold no images"),
    "copies of a split": (grid("train", "color grey", "a b"), "train: color, grey hold no images"),
    "copies, wrapped": (grid("one", "color grey", "a b"), "one: color, grey hold no images"),
    "folds": (grid("fold_0 fold_1 fold_2", "a b"), "fold_0, fold_1, fold_2 are called like folds"),
    "folds without classes": (grid("split1 split2"), "split1, split2 are called like folds"),
    "without classes": (grid("Training Testing"), "Testing: images lie in no class folder"),
    "one class with splits": (grid("cat", "train test") + grid("dog"), "cat: splits .* lie in a"),
    "both": (grid("cat", "train test") + grid("cat dog"), "cat: splits .* lie in a class folder"),
    "unlabelled": (grid("seg_train seg_test", "a b") + grid("seg_pred"), "and others .seg_pred"),
    "without labels": (grid("labeled", "a b") + grid("Unlabeled"), "Unlabeled says that its"),
    "twice": (grid("train Training test", "a b"), "Training, train are all 'train'; keep one"),
    "domains": (grid("trainA trainB testA testB"), "are all 'test'; keep one of them"),
}  # fmt: skip


@pytest.mark.parametrize(("paths", "message"), [*WRONG.values(), *UNCLEAR.values()])
def test_a_wrong_layout_is_one_clear_line(
    make_folder: Make, paths: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(make_folder(*paths))
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_in_order(make_folder: Make) -> None:
    dataset = load(make_folder(*(f"{n}/1.png" for n in (1, 2, 9, 10, 11, 100))))
    assert dataset.classes == ("1", "2", "9", "10", "11", "100")
    assert list(dataset.splits["train"].ids)[3] == "10/1.png"
    assert load(make_folder("9/1.png", "10/1.png", "x/1.png", root="p")).classes == ("10", "9", "x")
    assert ordered_classes(["007", "7", "-1", "10", "0"]) == ("-1", "0", "007", "7", "10")
    assert numbering(("1", "2", "10")) == (
        "names are whole numbers, in order by number: class '1' is 0, '2' is 1, '10' is 2"
    )
    assert "not by number" in str(numbering(("1", "10", "2")))
    assert numbering(("1", "b")) is None


def test_unicode_forms_of_a_name_are_one_class(make_folder: Make) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    root = make_folder(f"train/{composed}/1.png", f"train/{apart}/2.png", "train/tea/1.png",
                       f"test/{apart}/1.png")  # fmt: skip
    dataset = load(root)
    assert dataset.classes == (composed, "tea")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 1]
    assert dataset.splits["test"].labels.tolist() == [0]
    assert dataset.splits["test"].images.image(0).shape == (5, 7, 3)


def test_images_are_known_by_their_first_bytes_and_the_rest_is_counted(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ["noending", "w.jpeg.1", "x.jpg?size=large", "y.jpg_large", "z.jpg "]
    root = make_folder("dog/1.png", *(f"dog/{name}" for name in odd))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    (root / "cat").mkdir()
    for name in ("1.ppm", "2.tga", "3.jp2", "4.avif"):
        Image.fromarray(pixels).save(root / "cat" / name)
    for name in ("cat/1.heic", "cat/2.HEIC", "dog/notes.txt", "dog/README", "dog/x.png~"):
        (root / name).write_bytes(b"something else")
    (root / "dog" / "raw.nef").write_bytes(b"II*\0" + bytes(40))  # begins like TIFF
    dataset = load(root)
    cats, dogs = [f"cat/{n}" for n in ("1.ppm", "2.tga", "3.jp2", "4.avif")], ["dog/1.png"]
    assert ids_of(dataset) == {"train": cats + sorted(dogs + [f"dog/{name}" for name in odd])}
    train = dataset.splits["train"]
    assert all(train.images.image(row).ndim == 3 for row in range(len(train)))
    np.testing.assert_array_equal(train.images.image(1), pixels)
    (said,) = caplog.messages
    assert "left out 6 files that are no image to be read: 2 .heic, " in said
    assert all(part in said for part in ("1 .txt", "1 without an ending", "1 .nef", "1 .png~"))


def test_no_file_with_a_known_ending_is_opened(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder("cat/1.png", "cat/2.JPEG", "dog/1.webp")
    (root / "dog" / "1.xml").write_text("x")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    assert len(load(root).splits["train"]) == 3


def test_thumbnails_are_left_out_in_one_line(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder("cat/1.png", "cat/thumbnails/1.png", "dog/1.png", "dog/Thumbs/1.png")
    assert ids_of(load(root)) == {"train": ["cat/1.png", "dog/1.png"]}
    (said,) = caplog.messages
    assert "left out 2 folders of thumbnails" in said


def test_links_to_other_classes_are_left_out(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder("train/a/1.png", "train/a/deep/4.png", "train/b/2.png", "train/b/in/3.png",
                       "test/a/7.png")  # fmt: skip
    outside = make_folder("5.png", root="outside")
    a = root / "train" / "a"
    for name, target in {
        "up": "..", "top": "../..", "other": "../b", "inside": "../b/in", "self": "self",
        "out": str(outside), "abroad": str(root.parent), "across": "../../test/a",
        "same": "deep", "x.png": "../b/2.png", "y.png": "deep/4.png", "loop": ".",
    }.items():  # fmt: skip
        (a / name).symlink_to(target)
    assert ids_of(load(root))["train"] == [
        "train/a/1.png", "train/a/deep/4.png", "train/a/out/5.png", "train/a/y.png",
        "train/b/2.png", "train/b/in/3.png",
    ]  # fmt: skip
    (said,) = caplog.messages
    assert "left out 10 links (" in said


def test_two_classes_that_are_one_folder_are_refused(make_folder: Make) -> None:
    root = make_folder("a/1.png")
    (root / "b").symlink_to("a")
    with pytest.raises(DataError, match="b: is the same folder as the class 'a'; remove the link"):
        load(root)


def test_names_that_are_not_utf_8_do_not_stop_the_rest(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "cat/2.png", "dog/1.png")
    os.rename(root / "cat" / "2.png", os.fsencode(root) + b"/cat/caf\xe9.png")
    os.makedirs(os.fsencode(root) + b"/cat/notes\xe9")  # nothing in it, so no matter
    os.makedirs(os.fsencode(root) + b"/cat/deep\xe9")
    (root / "dog" / "2.png").write_bytes((root / "dog" / "1.png").read_bytes())
    os.rename(root / "dog" / "2.png", os.fsencode(root) + b"/cat/deep\xe9/2.png")
    with pytest.raises(DataError, match=r"is not UTF-8; rename it \(2 such; --skip-bad") as caught:
        load(root)
    str(caught.value).encode()
    dataset = load(root, skip_bad=True)
    assert ids_of(dataset) == {"train": ["cat/1.png", "dog/1.png"]}
    assert sorted(one.id for one in dataset.skipped) == [
        r"cat/caf\xe9.png", r"cat/deep\xe9/2.png",
    ]  # fmt: skip
    assert dataset.skipped[0].reason == "the name is not UTF-8"


@pytest.mark.parametrize(
    "folders",
    [
        ("images", "masks"), ("JPEGImages", "SegmentationClass"), ("img", "ground_truth"),
        ("cat/images", "cat/masks", "dog/images", "dog/masks"),
        ("train/images", "train/labels", "test/images", "test/labels"),
        ("cat", "dog/images", "dog/masks"), ("cat", "dog", "dog/images", "dog/masks"),
    ],
)  # fmt: skip
def test_masks_are_no_class_and_no_images_of_one(
    make_folder: Make, folders: tuple[str, ...]
) -> None:
    root = make_folder(*(f"{folder}/{n}.png" for folder in folders for n in (1, 2)))
    with pytest.raises(DataError, match="are called like images and the masks or"):
        load(root)


def test_masks_beside_images_are_counted(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a (1).png", "a (1)_mask.png", "a (1)_mask_1.png", "face_mask.png", "b_mask.jpg")
    root = make_folder(*(f"cat/{name}" for name in names), "dog/b.png")
    load(root)
    (said,) = caplog.messages
    assert "2 images are called like masks of images beside them (cat/a (1)_mask.png, ...)" in said


def test_masks_that_faces_wear_are_classes(make_folder: Make) -> None:
    assert load(make_folder("mask/1.png", "no_mask/1.png")).classes == ("mask", "no_mask")
    assert load(make_folder("with_mask/1.png", "without_mask/1.png", root="b")).classes == (
        "with_mask", "without_mask",
    )  # fmt: skip
