"""Runs on features side by side, or after a PCA, as bundles: one model made of several networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest

from probe.bench.find import default_run
from probe.bundle import ABOUT, WEIGHTS, Bundle
from probe.bundle.files import CARD
from probe.bundle.make import bundle_run
from probe.bundle.make.source import share_parameters
from probe.bundle.network import resizing
from probe.cache.store import Store
from probe.datasets import Dataset, load_dataset
from probe.engines import forward
from probe.errors import BundleError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.evaluation.statistics import apply_temperature
from probe.export import export_mxnet, export_onnx, export_sklearn
from probe.heads.fitted import LayeredHead, layered_scores
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.predict import Predictor
from probe.predict.augment import augmented
from probe.predict.evaluate import evaluate
from probe.predict.explain import (
    TrainingImages,
    activation_map,
    explain,
    hidden_views,
    occlusion_map,
    widest_input,
)
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION
from tests.commands import probe, probe_json
from tests.finished import make_bundle, save_digits
from tests.needs import needs_mxnet
from tests.runs.test_one_answer import on_the_command_line, over_http

NETWORKS = "resnet18/stage1@32=random:0,squeezenet1_1/fire2+fire3@16=random:1"
PARTS = ["resnet18/stage1@32=random:0", "squeezenet1_1/fire2@16=random:1",
         "squeezenet1_1/fire3@16=random:1"]  # fmt: skip
ONE, ALL = f"{PARTS[1]}-pca16", "+".join(PARTS)
RUNS = [ONE, ALL, f"{ALL}-pca16"]
INPUTS = ["resnet18_32", "squeezenet1_1_16"]
WITHIN = 1e-4


def bench(folder: Path, head: str = "ridge") -> dict[str, Path]:
    """Compare three cuts of two networks with 25 digits a class; return each row's run."""
    found = probe_json(
        "bench", "--dataset", "digits", "--per-class", "25", "--backbones", NETWORKS,
        "--heads", head, "--concat", "all", "--pca", "16", "--cache-dir", str(folder),
    )  # fmt: skip
    return {row["name"]: folder / "runs" / row["run"] for row in found["rows"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several") / "cache"


@pytest.fixture(scope="module")
def runs(cache: Path) -> dict[str, Path]:
    return bench(cache)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("digits", cache_dir=tmp_path_factory.mktemp("digits"), per_class=25)


@pytest.fixture(scope="module")
def bundles(
    cache: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        name: make_bundle(cache, runs[name], folder / f"{number}.probe", remember="ids")
        for number, name in enumerate(RUNS)
    }


@pytest.mark.parametrize("name", RUNS)
def test_pixels_and_the_cache_give_what_the_run_said_of_each_row(
    name: str,
    cache: Path,
    bundles: dict[str, Path],
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = Bundle.load(bundles[name], batch_size=8)
    known = load_predictions(cache / "runs" / bundle.about.run)["val"]
    split = digits.splits["train"]
    place = {one: row for row, one in enumerate(split.ids)}
    held_out = split.take(np.array([place[one] for one in known.ids]))
    assert bundle.about.temperature is not None
    expected = apply_temperature(known.scores, bundle.about.temperature)
    fresh = evaluate(Predictor([bundle]), held_out, digits.classes)
    np.testing.assert_allclose(fresh.scored.probabilities, expected, atol=WITHIN)

    def forward(_: object) -> None:
        raise AssertionError("a forward pass")

    for network in bundle.networks:
        monkeypatch.setattr(network.engine, "submit", forward)
    kept = evaluate(Predictor([bundle], store=Store(cache)), held_out, digits.classes)
    assert (fresh.from_cache, kept.from_cache) == (0, len(held_out))
    np.testing.assert_allclose(kept.scored.probabilities, expected, atol=WITHIN)
    lacking = Predictor([bundle], store=Store(cache / "elsewhere"))
    assert not lacking.has_cached_features


@pytest.mark.parametrize("name", RUNS)
def test_what_it_remembers_are_features_as_the_head_takes_them(
    name: str, cache: Path, runs: dict[str, Path], bundles: dict[str, Path], digits: Dataset
) -> None:
    bundle = Bundle.load(bundles[name])
    known, rejection = bundle.neighbours, bundle.about.rejection
    assert known is not None
    assert rejection is not None
    assert known.features.shape[1] == (16 if "pca" in name else 64 + 128 + 128)
    assert rejection.distance_rows == 75
    split = digits.splits["train"]
    row = list(split.ids).index(known.ids[3])
    image = split.images.image(row)
    distances, nearest = known.nearest(bundle.features(bundle.pack(image)[None]), 1)
    assert known.ids[nearest[0, 0]] == split.ids[row]
    assert distances[0, 0] < 0.02  # itself, but for float16
    training = TrainingImages(bundle, digits, Store(cache))
    found = explain(bundle, image, wanted="none", k=1, training=training)
    assert found.neighbours[0].id == split.ids[row]


def test_views_of_all_networks_go_together(bundles: dict[str, Path], digits: Dataset) -> None:
    bundle = Bundle.load(bundles[f"{ALL}-pca16"], batch_size=4)
    image = digits.splits["train"].images.image(0)
    every = [augmented(image, one.preprocess, "crops5") for one in bundle.networks]
    each = [
        network.features(np.stack(views))
        for network, views in zip(bundle.networks, every, strict=True)
    ]
    expected = bundle.probabilities(bundle.joined(each)).mean(axis=0)
    found = Predictor([bundle], tta="crops5").answer_images([image, image]).probabilities
    np.testing.assert_allclose(found, [expected, expected], atol=1e-6)


def test_the_card_and_the_command_name_all_parts(
    cache: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "both"
    told = probe("bundle", runs[f"{ALL}-pca16"], "--out", out, "--cache-dir", cache)
    assert "network 1  resnet18 to stage1, random:0 at 32 pixels" in told
    assert "network 2  squeezenet1_1 to fire2, random:1 at 16 pixels" in told
    assert "after the PCA 16" in told
    card = (out / CARD).read_text()
    assert "cut at fire2, beside a frozen squeezenet1_1, cut at fire3, reduced to 16" in card
    assert "reduced to 16 features by a PCA" in card
    assert {path.name for path in out.glob("weights*")} == {
        "weights-1.safetensors", "weights-2.safetensors",
    }  # fmt: skip
    networks = json.loads((out / ABOUT).read_text())["networks"]
    assert [one["layer"] for one in networks] == ["stage1", "fire2", "fire3"]
    assert len({one["parameters"] for one in networks}) == 3


def test_after_a_bench_its_winner_is_bundled_unless_another_run_is_newer(
    cache: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    later = shutil.copytree(cache, tmp_path / "cache")
    (bench_folder,) = (later / "benches").glob("2*")
    found = json.loads((bench_folder / "bench.json").read_text())
    (winner,) = (one["winner"] for one in found["comparisons"])
    (run,) = (row["run"] for row in found["rows"] if row["id"] == winner)
    folder, why = default_run(later)
    assert folder == later / "runs" / run
    assert why == f"the winner of the newest bench, {bench_folder.name}"
    newer = shutil.copytree(runs[ONE], later / "runs" / "29990101-000000-001")
    assert default_run(later) == (newer, "the newest run")
    with pytest.raises(UsageError, match="no finished run yet"):
        default_run(tmp_path / "none")


def test_layers_of_one_backbone_come_from_one_pass(bundles: dict[str, Path]) -> None:
    bundle = Bundle.load(bundles[ALL])
    assert bundle.passes == ((0,), (1, 2))
    assert [len(bundle.parameters(number)) for number in (1, 2)] == [len(bundle.parameters(2))] * 2
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    for network in bundle.networks[1:]:
        about, whole = network.about, bundle.parameters(2)
        spec = about.spec(whole)
        cuts = [spec.cut(about.layer, about.pool)]
        (alone,) = forward(spec, whole, cuts, network.preprocess, image)
        np.testing.assert_allclose(network.features(image), alone, rtol=1e-3, atol=1e-4)


def test_a_backbone_taken_twice_is_kept_once() -> None:
    def source(backbone: str, parameters: dict[str, np.ndarray]) -> Any:
        return SimpleNamespace(
            key=SimpleNamespace(backbone=backbone), loaded=SimpleNamespace(parameters=parameters),
            parameters=parameters, backbone=None,
        )  # fmt: skip

    one, other = np.ones(3), np.zeros(3)
    shallow, deep, strange = {"x": one}, {"x": one, "y": one}, {"x": other}
    every = [source("r", shallow), source("v", deep), source("r", deep), source("r", strange)]
    files, held = share_parameters([*every, every[2]])
    numbers = [2, 1, 2, 3, 2]  # by the first network that needs the whole file
    assert files == [f"weights-{number}.safetensors" for number in numbers]
    assert list(held.values()) == [deep, deep, strange]
    assert share_parameters([every[2], every[2]]) == ([WEIGHTS] * 2, {WEIGHTS: deep})


@pytest.mark.parametrize("name", RUNS)
def test_exports_answer_as_the_bundle_does(
    name: str, bundles: dict[str, Path], digits: Dataset, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    bundle, split = Bundle.load(bundles[name]), digits.splits["train"]
    packed = np.stack([bundle.pack(split.images.image(row)) for row in range(5)])
    expected = bundle.probabilities(bundle.features(packed))
    names = ["data"] if name == ONE else INPUTS
    images = dict(zip(names, bundle.unpack(packed), strict=True))

    (path,) = export_onnx(bundle, tmp_path / "a.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == names
    np.testing.assert_allclose(session.run(None, images)[0], expected, atol=WITHIN)

    (file,) = export_sklearn(bundle, tmp_path / "a.joblib")
    pipeline, rows = joblib.load(file), np.concatenate(bundle.network_features(packed), axis=1)
    np.testing.assert_allclose(pipeline.predict_proba(rows), expected, atol=WITHIN)
    if "pca" in name:  # what is lost is all that inverting loses
        back = pipeline[:2].inverse_transform(pipeline[:2].transform(rows))
        np.testing.assert_allclose(pipeline[:2].transform(back), pipeline[:2].transform(rows))


@pytest.mark.parametrize("name", RUNS)
def test_mxnet_files_answer_as_the_bundle_does(
    name: str, bundles: dict[str, Path], digits: Dataset, tmp_path: Path, mx: Any
) -> None:
    bundle, split = Bundle.load(bundles[name]), digits.splits["train"]
    packed = np.stack([bundle.pack(split.images.image(row)) for row in range(5)])
    names = ["data"] if name == ONE else INPUTS
    symbol, params, about = export_mxnet(bundle, tmp_path / "a")
    with pytest.warns(UserWarning, match="Cannot decide type"):  # MXNet's own, always
        block = mx.gluon.SymbolBlock.imports(str(symbol), names, str(params))
    arrays = [mx.nd.array(one, dtype="uint8") for one in bundle.unpack(packed)]
    expected = bundle.probabilities(bundle.features(packed))
    np.testing.assert_allclose(block(*arrays)[0].asnumpy(), expected, atol=WITHIN)
    taken = [one["input"] for one in json.loads(about.read_text())["networks"]]
    assert taken == (names if name == ONE else [names[0], names[1], names[1]])


def test_the_command_line_and_the_server_answer_as_python_does(
    bundles: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, (image,) = bundles[f"{ALL}-pca16"], save_digits(tmp_path, 1)
    bundle = Bundle.load(path)
    expected = dict(zip(bundle.about.classes, bundle.predict_proba([image])[0], strict=True))
    assert on_the_command_line(path, image, capsys, monkeypatch) == pytest.approx(
        expected, abs=WITHIN
    )
    assert over_http(path, image) == pytest.approx(expected, abs=WITHIN)


def test_networks_that_are_fed_alike_share_an_input(
    cache: Path, runs: dict[str, Path], bundles: dict[str, Path]
) -> None:
    from dataclasses import replace

    bundle = Bundle.load(bundles[ALL])
    one = bundle.networks[0]
    twice = replace(bundle, networks=(one, one))
    assert (len(bundle.inputs), len(twice.inputs)) == (2, 1)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    packed = twice.pack(image)[None]
    assert packed.shape == (1, 32 * 32 * 3)
    first, second = twice.network_features(packed)
    np.testing.assert_array_equal(first, second)


def test_a_map_of_several_networks_is_occlusion_of_one_place(
    bundles: dict[str, Path], digits: Dataset
) -> None:
    bundle = Bundle.load(bundles[ALL], batch_size=8)
    image = np.kron(digits.splits["train"].images.image(0), np.ones((4, 6, 1), np.uint8))
    with pytest.raises(UsageError, match="several networks; take --heatmap occlusion"):
        explain(bundle, image, wanted="cam")
    found = explain(bundle, image, wanted="auto")
    assert (found.kind, found.image.shape) == ("occlusion", (32, 32, 3))
    assert found.heat is not None
    number = bundle.about.classes.index(found.label)
    views = {}
    for spec in bundle.inputs:  # by hand: the patch in the upper left corner, 0.2 of each side
        view = augmented(image, spec, "none")[0].copy()
        side = round(round(0.2 * 32) / 32 * spec.size)
        view[:side, :side] = view.reshape(-1, 3).mean(axis=0).astype(np.uint8)
        views[spec] = [view]
    hidden = bundle.probabilities(bundle.features(bundle.pack_views(views.__getitem__)))
    plain = bundle.predict_proba([image])
    fall = np.log(plain[0, number]) - np.log(hidden[0, number])
    assert occlusion_map(bundle, image, number)[0, 0] == pytest.approx(fall, abs=1e-4)


def test_a_place_is_the_same_for_an_input_that_is_cropped_and_one_that_is_not() -> None:
    image = np.random.default_rng(0).integers(0, 200, (40, 80, 3), dtype=np.uint8)
    whole, cropped = CAFFE_BGR.with_size(20), TORCHVISION.with_size(10)
    bundle: Any = SimpleNamespace(inputs=(cropped, whole))
    assert widest_input(bundle, image) is whole
    box = np.array([[[10.0, 28.0], [20.0, 40.0]]])  # rows 10 to 20 and columns 28 to 40
    # 40 x 80 pixels become 20 x 20, or columns 20 to 60 of them 10 x 10
    for spec, rows, columns in ((whole, (5, 10), (7, 10)), (cropped, (2, 5), (2, 5))):
        hidden, plain = hidden_views(image, box, spec)
        np.testing.assert_array_equal(plain, augmented(image, spec, "none")[0])
        changed = np.argwhere((hidden != plain).any(axis=2))
        assert changed.min(axis=0).tolist() == [rows[0], columns[0]]
        assert (changed.max(axis=0) + 1).tolist() == [rows[1], columns[1]]


def test_an_activation_map_goes_through_the_pca(bundles: dict[str, Path], digits: Dataset) -> None:
    bundle = Bundle.load(bundles[ONE])
    (head,) = bundle.heads
    assert isinstance(head, LayeredHead)
    split = digits.splits["train"]
    images = np.stack([bundle.networks[0].resized(split.images.image(row)) for row in (0, 1)])
    scores = layered_scores(bundle.features(images), head.normalizer_, head.layers())
    centred = scores - scores.mean(axis=1, keepdims=True)
    means = [[activation_map(bundle, one, c).mean() for c in (0, 5)] for one in images]
    change, expected = means[0] - np.array(means[1]), (centred[0] - centred[1])[[0, 5]]
    np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-3)


def test_a_run_that_did_not_keep_its_pca_is_refused_and_fitted_again(
    cache: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    old = shutil.copytree(cache, tmp_path / "cache")
    run = old / "runs" / runs[ONE].name
    shutil.copy(runs[f"{ALL}-pca16"] / PROJECTION, run)
    with pytest.raises(BundleError, match="another run's, from 320 features to 16 and not from 12"):
        bundle_run(run, tmp_path / "b", cache_dir=old)
    (run / PROJECTION).unlink()
    with pytest.raises(BundleError, match="did not keep the PCA; run the same `probe bench` ag"):
        bundle_run(run, tmp_path / "b", cache_dir=old)
    again = bench(old)
    assert again[ONE] != run
    assert again[ALL] == old / "runs" / runs[ALL].name
    next((old / "features").glob("*stage1*.h5")).unlink()
    with pytest.raises(BundleError, match=r"resnet18-stage1-avg-\w+, which is not in .* any more"):
        bundle_run(runs[ALL], tmp_path / "b", cache_dir=old)
    assert bundle_run(again[ONE], tmp_path / "b", cache_dir=old).about.pca == 16


@needs_mxnet
def test_features_of_several_backbones_are_not_fine_tuned(
    cache: Path, runs: dict[str, Path]
) -> None:
    with pytest.raises(UsageError, match="features of several backbones"):
        probe_json("promote", str(runs[ALL]), "--cache-dir", str(cache))


def test_what_is_wrong_is_one_line(
    cache: Path, runs: dict[str, Path], bundles: dict[str, Path], tmp_path: Path
) -> None:
    arguments = ("bundle", str(runs[ALL]), "--out", str(tmp_path / "b"), "--cache-dir", str(cache))
    with pytest.raises(UsageError, match=r"say which of them, as resnet18=random:0"):
        probe_json(*arguments, "--weights", "random:0")
    with pytest.raises(BundleError, match=r"not the weights that .* was made with"):
        probe_json(*arguments, "--weights", "squeezenet1_1=random:0")
    given = ("--weights", "squeezenet1_1=random:1", "--weights", "resnet18=random:0")
    assert probe_json(*arguments, *given)["dataset"] == "digits"
    folder = tmp_path / "b"
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    from tests.bundle.test_bundle import change

    about = json.loads((folder / ABOUT).read_text())
    change(damaged, networks=about["networks"][::-1])
    with pytest.raises(BundleError, match="reference images give other"):
        Bundle.load(damaged)
    change(damaged, networks=about["networks"][:1])
    with pytest.raises(BundleError, match="names other files"):
        Bundle.load(damaged)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 24}, {"resize": "squash"}, {"resize": "crop", "crop_fraction": 0.8},
        {"interpolation": "bicubic"},
        {"antialias": False}, {"crop_rounding": "down"}, {"channels": "BGR"}, {"scale": 2.0},
        {"mean": (0.1, 0.2, 0.3)}, {"std": (0.3, 0.3, 0.3)},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_networks_share_resized_images_only_where_they_are_the_same(
    resize: str, change: dict[str, Any]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 47, 3), dtype=np.uint8)
    spec = replace(TORCHVISION.with_size(32), resize=resize)
    other = replace(spec, **change)
    same = np.array_equal(resize_image(image, spec), resize_image(image, other))
    assert same or resizing(spec) != resizing(other)
