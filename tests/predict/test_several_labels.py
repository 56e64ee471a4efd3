"""A run on images that may have several labels, from the bundle to every way of asking it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probe.bundle import ABOUT, Bundle
from probe.bundle.files import CARD
from probe.bundle.make import BundleRequest, bundle_run
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.errors import BundleError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.export import export_mxnet, export_onnx, export_sklearn
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.heads import load_head
from probe.predict import Prediction, Predictor, predict_images
from probe.predict.augment import combine_labels
from probe.predict.evaluate import evaluate
from probe.predict.explain import TrainingImages, activation_map, explain, occlusion_map
from probe.runs.fit import HEAD, HeadRequest
from probe.runs.results import read_run
from tests.commands import probe
from tests.fakes import Silent
from tests.finished import make_bundle, make_run
from tests.needs import needs_mxnet
from tests.several import LABELS, make_list

FOUR = np.eye(4, dtype=np.uint8)


class World:
    """A cache with an entry and a run of quarters, and the bundle of the run."""

    def __init__(self, folder: Path) -> None:
        self.list, self.cache = make_list(folder / "data", train=150), folder / "cache"
        request = Request(
            backbone="squeezenet1_1", layers=("fire3",), dataset=str(self.list), size=32,
            weights="random:0", cache_dir=self.cache,
        )  # fmt: skip
        prepared = prepare(request)
        extract_features(prepared.job, Store(self.cache), prepared.engine_for, Silent(), workers=1)
        asked = HeadRequest(solver="path", grids={"C": (0.01, 0.1, 1.0)})
        self.run = make_run(self.cache, asked)
        self.path = make_bundle(self.cache, self.run, folder / "the bundle")
        kept = load_predictions(self.run)["test"]
        self.images = [str(self.list.parent / one) for one in kept.ids.tolist()]
        self.labels = kept.labels
        self.bundle = Bundle.load(self.path)
        self.p = self.bundle.predict_proba(self.images)
        self.given = self.p >= self.bundle.thresholds


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("several"))


def names(given: NDArray[np.bool_], p: NDArray[np.float64]) -> list[str]:
    order = np.argsort(-p, kind="stable")
    return [LABELS[one] for one in order if given[one]]


def test_the_bundle_gives_the_labels_that_the_run_gives(world: World) -> None:
    """Scaling by a temperature moves probabilities and thresholds, and no decision."""
    result, about = read_run(world.run), world.bundle.about
    kept = load_predictions(world.run)["test"]
    chosen = [one["threshold"] for one in result.multilabel["classes"].values()]
    assert about.several
    assert about.temperature == result.temperature != 1
    np.testing.assert_array_equal(world.given, kept.probabilities >= chosen)
    assert (world.given == kept.labels).mean() > 0.8  # a third of all labels are there
    assert (world.given.sum(axis=1) == 0).any()
    assert (world.given.sum(axis=1) > 1).any()
    assert about.rejection is not None
    assert about.rejection.confidence is None
    assert about.rejection.distance is not None


def test_the_card_says_what_a_probability_is(world: World) -> None:
    card = (world.path / CARD).read_text()
    figures = read_run(world.run).metrics["test"]
    assert f"{100 * figures['map']:.2f} %" in card
    assert "softmax" not in card
    assert "threshold" in card
    assert "low-confidence" not in card


def test_python_names_labels(world: World) -> None:
    found = world.bundle.labels(world.images[:12])
    assert found == [tuple(names(*row)) for row in zip(world.given[:12], world.p[:12], strict=True)]
    told = list(predict_images(Predictor([world.bundle]), world.images))
    for one, given, p in zip(told, world.given, world.p, strict=True):
        assert isinstance(one, Prediction)
        assert list(one.given or ()) == names(given, p)
        assert len(one.labels) == max(given.sum(), 1)
        wanted = [p[LABELS.index(label)] for label in one.labels]
        assert one.probabilities == pytest.approx(wanted, abs=1e-5)
        assert given.any() or one.probabilities[0] == pytest.approx(p.max(), abs=1e-5)


def test_the_command_line_tells_labels_or_that_there_is_none(world: World) -> None:
    none = int(np.flatnonzero(world.given.sum(axis=1) == 0)[0])
    two = int(np.flatnonzero(world.given.sum(axis=1) == 2)[0])
    paths = [world.images[none], world.images[two]]
    shown = probe("predict", world.path, *paths).splitlines()
    assert len(shown) == 5
    assert shown[0].startswith(f"{paths[0]}  no label")
    assert shown[1].endswith("(below its threshold)")
    assert [line.split()[-1] for line in shown[3:]] == names(world.given[two], world.p[two])
    lines = [json.loads(one) for one in probe("predict", world.path, *paths, "-f", "jsonl",
                                              "--top-k", 3).splitlines()]  # fmt: skip
    assert [one["labels"] for one in lines] == [[], names(world.given[two], world.p[two])]
    assert [len(one["predictions"]) for one in lines] == [3, 3]
    for line, row in zip(lines, (none, two), strict=True):
        best = np.sort(world.p[row])[::-1][:3]
        assert [one["probability"] for one in line["predictions"]] == pytest.approx(best, abs=1e-5)
    rows = list(csv.DictReader(io.StringIO(probe("predict", world.path, *paths, "-f", "csv"))))
    assert [one["given"] for one in rows] == ["0", "1", "1"]


def test_views_and_bundles_are_combined_with_their_thresholds(world: World, tmp_path: Path) -> None:
    every = np.array([[[0.9, 0.2]], [[0.5, 0.6]]])
    limits, weights = np.array([[0.5, 0.5], [0.7, 0.3]]), np.array([3.0, 1.0])
    p, t = combine_labels(every, limits, weights, "probabilities")
    np.testing.assert_allclose(p, [[0.8, 0.3]])
    np.testing.assert_allclose(t, [0.55, 0.45])
    votes, half = combine_labels(every, limits, weights, "vote")
    np.testing.assert_allclose(votes, [[0.75, 0.25]], atol=1e-5)
    np.testing.assert_allclose(half, [0.5, 0.5])
    odds = np.log(every / (1 - every))
    p, _ = combine_labels(every, limits, weights, "logits")
    np.testing.assert_allclose(np.log(p / (1 - p)), (3 * odds[0] + odds[1]) / 4, atol=1e-9)
    twice = Predictor([world.bundle, world.bundle], tta="flip")
    told = next(iter(predict_images(twice, world.images[:1])))
    assert isinstance(told, Prediction)
    assert told.given is not None


def test_bundles_of_one_label_and_of_several_do_not_answer_together(
    world: World, digits_bundle: Path
) -> None:
    with pytest.raises(UsageError, match="one label an image, another several"):
        Predictor([world.bundle, Bundle.load(digits_bundle)])


def test_evaluating_gives_the_figures_of_the_run(world: World) -> None:
    split = load_dataset(str(world.list), cache_dir=world.cache).splits["test"]
    turned = split.labels[:, ::-1]  # a list may have its classes in another order
    found = evaluate(
        Predictor([world.bundle]), type(split)(ids=split.ids, labels=turned, images=split.images),
        LABELS[::-1],
    )  # fmt: skip
    wanted = read_run(world.run).metrics["test"]
    for name in ("map", "macro_auc", "micro_f1_chosen", "macro_f1_chosen"):
        assert found.figures[name] == pytest.approx(wanted[name], abs=1e-6)
    assert found.figures["calibration_error"] == pytest.approx(
        wanted["calibration_error_scaled"], abs=1e-3
    )
    assert found.labels is not None
    assert list(found.labels) == list(LABELS)
    shown = probe("evaluate", world.path, "-d", world.list, "--cache-dir", world.cache)
    assert "mAP" in shown
    assert "threshold" in shown
    assert "top-1" not in shown


def test_labels_of_the_other_kind_are_refused(world: World, digits_bundle: Path) -> None:
    with pytest.raises(UsageError, match="may have several labels, and the bundle gives one"):
        probe("evaluate", digits_bundle, "-d", world.list, "--cache-dir", world.cache)
    with pytest.raises(UsageError, match="one label each, and the bundle gives several"):
        probe("evaluate", world.path, "-d", "digits", "--cache-dir", world.cache)


def test_a_label_is_explained_by_what_speaks_for_it(world: World) -> None:
    row = int(np.flatnonzero(world.labels[:, 2])[0])
    image = np.asarray(Image.open(world.images[row]))
    found = explain(world.bundle, image, label="red", wanted="occlusion")
    assert found.heat is not None
    half = found.heat.shape[0] // 2
    quarters = [found.heat[:half, :half], found.heat[:half, -half:], found.heat[-half:, :half],
                found.heat[-half:, -half:]]  # fmt: skip
    assert int(np.argmax([one.mean() for one in quarters])) == 2  # where the red lies
    (network,) = world.bundle.networks
    cam = activation_map(world.bundle, network.resized(image), 2)
    head = load_head(world.run / HEAD)
    features = world.bundle.features(world.bundle.pack(image)[None])
    ((coef, intercept),) = head.layers()
    score = head.decision_function(features)[0, 2]
    shift = intercept[2] - float(coef[2] @ (head.normalizer_.mean / head.normalizer_.scale))
    assert cam.mean() + shift == pytest.approx(score, abs=1e-3)
    dataset = load_dataset(str(world.list), cache_dir=world.cache)
    near = TrainingImages(world.bundle, dataset, Store(world.cache)).nearest(features, 3)
    own = dict(zip(dataset.splits["train"].ids, dataset.splits["train"].labels, strict=True))
    for one in near:
        assert one.label == (", ".join(np.array(LABELS)[own[one.id] == 1]) or "no label")
    assert occlusion_map(world.bundle, image, 2).shape == found.heat.shape


def test_the_server_gives_the_same_labels(world: World) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from probe.serve import create_app

    bundle = Bundle.load(world.path)
    with testclient.TestClient(create_app(bundle, name="b"), base_url="http://localhost") as client:
        assert client.get("/api/bundle").json()["several"] is True
        for row in range(4):
            data = Path(world.images[row]).read_bytes()
            reply = client.post("/api/predict?top_k=4&neighbours=2", content=data).json()
            assert reply["labels"] == names(world.given[row], world.p[row])
            told = {one["label"]: one["probability"] for one in reply["predictions"]}
            assert [told[name] for name in LABELS] == pytest.approx(world.p[row], abs=1e-4)
            assert len(reply["neighbours"]) == 2


def test_exports_answer_the_same(world: World, tmp_path: Path) -> None:
    """Each is checked against the bundle before it is written; here by its own runtime again."""
    onnxruntime = pytest.importorskip("onnxruntime")
    import joblib

    packed = np.stack([world.bundle.pack(one) for one in world.images[:6]])
    (images,) = world.bundle.unpack(packed)
    (path,) = export_onnx(world.bundle, tmp_path / "b.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    p, _ = session.run(["probabilities", "features"], {"data": images})
    np.testing.assert_allclose(p, world.p[:6], atol=1e-4)
    about = {one.key: one.value for one in _metadata(session)}
    assert json.loads(about["thresholds"]) == pytest.approx(world.bundle.thresholds)
    (path,) = export_sklearn(world.bundle, tmp_path / "b.joblib")
    head = joblib.load(path)
    features = world.bundle.features(packed)
    np.testing.assert_allclose(head.predict_proba(features), world.p[:6], atol=1e-6)
    assert list(head.classes_) == list(LABELS)
    assert head.predict(features).shape == (6, 4)


@needs_mxnet
def test_mxnet_files_say_that_an_image_may_have_several_labels(
    world: World, tmp_path: Path
) -> None:
    *_, about_path = export_mxnet(world.bundle, tmp_path / "b")
    assert json.loads(about_path.read_text())["several"] is True


def _metadata(session: object) -> Sequence[object]:
    from types import SimpleNamespace

    known = session.get_modelmeta().custom_metadata_map  # type: ignore[attr-defined]
    return [SimpleNamespace(key=key, value=value) for key, value in known.items()]


def test_heads_of_folds_and_hidden_layers(world: World, tmp_path: Path) -> None:
    hidden = {"epochs": 4, "hidden": "8"}
    run = make_run(world.cache, HeadRequest(solver="dense", params=hidden))
    made = bundle_run(run, tmp_path / "hidden", cache_dir=world.cache)
    export_sklearn(made, tmp_path / "hidden.joblib")
    folds = make_run(world.cache, HeadRequest(solver="ridge", folds=3, grid=True))
    found = bundle_run(
        folds, tmp_path / "folds", cache_dir=world.cache, request=BundleRequest(folds=True)
    )
    assert len(found.heads) == 3
    features = found.features(np.stack([found.pack(one) for one in world.images[:5]]))
    each = [head.predict_proba(features) for head in found.heads]
    scores = [np.log(p / (1 - p)) / (found.about.temperature or 1) for p in each]
    wanted = np.mean([1 / (1 + np.exp(-one)) for one in scores], axis=0)
    np.testing.assert_allclose(found.probabilities(features), wanted, atol=1e-6)


def test_a_head_of_the_other_kind_is_refused(world: World, digits_run: Path) -> None:
    from dataclasses import replace

    from probe.bundle import write_bundle

    about = replace(world.bundle.about, several=False, thresholds=None, rejection=None, files={})
    out = world.path.parent / "odd"
    with pytest.raises(BundleError, match="gives several labels an image, the bundle one"):
        write_bundle(out, replace(about, remembers=None), [world.bundle.parameters()],
                     [load_head(world.run / HEAD)])  # fmt: skip
    assert not out.exists()
    assert (world.path / ABOUT).is_file()
