"""`import probe`: the functions, their results, and that they are the commands."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe import api
from probe.bench.options import BenchOptions
from probe.bundle.make import BundleRequest
from probe.cli.pass_options import PassOptions
from probe.core.options import counts, read_bytes, words
from probe.datasets import Dataset, given_dataset, load_dataset
from probe.errors import DataError, ProbeError, UsageError
from probe.extraction.request import Request
from probe.finetune.options import Options
from probe.heads.catalog import HEADS
from probe.runs.head_request import HeadRequest
from tests.needs import needs_mxnet

COLOURS = {"cat": (200, 30, 30), "dog": (30, 30, 200), "owl": (30, 200, 30)}
NETWORK = {"weights": "random:0", "size": 32, "quiet": True}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, 12 images of each of three classes."""
    folder = tmp_path_factory.mktemp("api")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(rng.normal(colour, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PROBE_CACHE", str(place / "cache"))


@pytest.fixture(scope="module")
def features(place: Path) -> probe.FeatureSet:
    return probe.extract(place / "photos", "squeezenet1_0", cache_dir=place / "cache", **NETWORK)


@pytest.fixture(scope="module")
def run(features: probe.FeatureSet) -> probe.Run:
    return probe.fit(features, "path", C="grid", quiet=True)


class FakeFrame:
    """As much of pandas' DataFrame as is asked for."""

    def __init__(self, data: Any = None, index: Any = None, columns: Any = None) -> None:
        self.data, self.index = data, index
        self.columns = columns if columns is not None else list(data[0])
        self.iloc = self

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.data[place[0]][self.columns[place[1]]]


# the same as the commands


def test_entry_and_figures_are_those_of_the_commands(
    place: Path, features: probe.FeatureSet, run: probe.Run
) -> None:
    from typer.testing import CliRunner

    from probe.cli.app import app

    def command(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*words, "--cache-dir", "other", "--json"])
        assert done.exit_code == 0, (done.exception, done.output)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    made = command(
        "extract", "--backbone", "squeezenet1_0", "--weights", "random:0", "--size", "32",
        "--dataset", "photos",
    )  # fmt: skip
    assert made["entries"][0]["digest"] == features.key.digest
    assert made["entries"][0]["name"] == features.name
    fitted = command("head", "--head", "path", "--C", "grid")
    assert fitted["metrics"] == run.metrics
    assert fitted["params"] == run.result.params
    assert fitted["selection"] == run.result.selection
    left = {path.name for path in Path(fitted["run"]).iterdir()}
    assert left == {path.name for path in run.folder.iterdir()}
    assert run.result.command == f"probe.fit({features.name!r}, 'path', C='grid')"


def defaults(function: Any) -> dict[str, Any]:
    return {
        name: one.default
        for name, one in inspect.signature(function).parameters.items()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    }


def declared(kind: Any) -> dict[str, Any]:
    return {one.name: one.default for one in fields(kind)}


@pytest.mark.parametrize(
    ("function", "kind", "own", "renamed"),
    [
        (probe.extract, PassOptions, {"name", "overwrite", "quiet"}, {}),
        (probe.bench, BenchOptions, {"cache_dir", "log", "quiet"}, {}),
        (
            probe.promote,
            Options,
            {"run", "weights", "dataset_root", "group", "workers", "max_memory", "compare",
             "log", "resume", "out", "cache_dir", "quiet", "sampling_weights", "folds"},
            {"train_sizes": "sizes"},
        ),
        (api.make_bundle, BundleRequest, {"run", "out", "cache_dir", "quiet"}, {}),
        (
            api.fit,
            HeadRequest,
            {"features", "group", "out", "cache_dir", "quiet", "seeds", "draws", "jobs", "head",
             "scheduler", "log",
             *(one.name for spec in HEADS.values() for one in spec.options)},
            {"learning_curve": "per_class"},
        ),
    ],
    ids=["extract", "bench", "promote", "bundle", "fit"],
)  # fmt: skip
def test_arguments_have_the_names_and_defaults_of_what_they_become(
    function: Any, kind: Any, own: set[str], renamed: dict[str, str]
) -> None:
    asked = declared(kind)
    for name, default in defaults(function).items():
        if name not in own and default is not inspect.Parameter.empty:
            there = asked[renamed.get(name, name)]
            assert (default or None) == (there or None), name


def test_every_option_of_a_command_is_an_argument() -> None:
    assert {one.name for one in fields(PassOptions)} <= set(defaults(probe.extract))
    assert {one.name for one in fields(BenchOptions)} <= set(defaults(probe.bench))
    assert {one.name for one in fields(Request)} - {
        "layers",
        "splits",
        "command",
        "images",
        "network",
    } <= set(defaults(probe.extract))
    options = {one.name for spec in HEADS.values() for one in spec.options}
    assert options <= set(inspect.signature(probe.fit).parameters)


def test_help_says_what_there_is() -> None:
    assert "alpha" in str(inspect.signature(probe.fit))
    for function in (
        probe.extract, probe.fit, probe.bench, probe.promote, probe.forecast, probe.audit,
        probe.evaluate, probe.explain, probe.export, probe.show_dataset, probe.split_dataset,
        probe.fetch_dataset,
    ):  # fmt: skip
        for name in defaults(function):
            if name not in {one.name for spec in HEADS.values() for one in spec.options}:
                assert re.search(rf"\b{name}\b", function.__doc__ or ""), (function, name)


# arguments


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda f: probe.extract("photos", "resnet18", sizee=3), TypeError, "did you mean 'size'"),
        (lambda f: probe.extract("photos"), TypeError, "'backbone'"),
        (lambda f: probe.extract("photos", "resnet18", size=0), UsageError, "from 1"),
        (lambda f: probe.extract("photos", "resnet18", size="x"), UsageError, "a whole number"),
        (lambda f: probe.extract("photos", "resnet18", size=True), UsageError, "a whole number"),
        (lambda f: probe.extract("photos", "resnet81"), ProbeError, "resnet18"),
        (lambda f: probe.extract("photos", "resnet18", dtype="f2"), UsageError, "--dtype"),
        (lambda f: probe.extract("photos", "resnet18", layer="a,b"), UsageError, "extract_layers"),
        (lambda f: probe.extract_layers("photos", "resnet18", "gap"), UsageError, "a list"),
        (lambda f: probe.extract_layers("photos", "x", ["gap"], sizee=3), TypeError, "'size'"),
        (lambda f: probe.extract_layers("photos", "x", ["gap"], size=0), UsageError, "from 1"),
        (lambda f: probe.fit(f, "path", epoks=3), TypeError, "did you mean 'epochs'"),
        (lambda f: probe.fit(f, "path", epochs=3), UsageError, "belongs to --head dense"),
        (lambda f: probe.fit(f, "path", C=[]), UsageError, "--C"),
        (lambda f: probe.fit(f, "pth"), ProbeError, "did you mean path"),
        (lambda f: probe.fit([f, f]), UsageError, "give one of them"),
        (lambda f: probe.fit(f, folds=-1), UsageError, "from 0"),
        (lambda f: probe.fit(f, draws=3), UsageError, "--learning-curve"),
        (lambda f: probe.fit(f, cache_dir="elsewhere"), UsageError, "the features lie in"),
        pytest.param(probe.promote, UsageError, "give a Run", marks=needs_mxnet),
        pytest.param(
            lambda f: probe.promote("x", resume=True, wd=0.1), UsageError, "wd=: a run that is",
            marks=needs_mxnet,
        ),
        (lambda f: probe.bench("photos", []), UsageError, "at least one"),
        (lambda f: probe.bench("photos", [None]), UsageError, "backbones=[None]: expected a text"),
        (lambda f: probe.bench("photos", "resnet18", heads=3), UsageError, "heads=3: expected"),
        (lambda f: probe.bench("photos", "resnet18", weights=3), UsageError, "weights=3: expected"),
        (lambda f: probe.extract("photos", "resnet18", layer=3), UsageError, "layer=3: expected"),
        (lambda f: probe.promote("x", compare=None), UsageError, "compare=None: expected"),
        (lambda f: probe.bench(None, ["resnet18"]), UsageError, "needs images"),
        (lambda f: probe.open_features("zzz"), ProbeError, "no entry is called 'zzz'"),
        (lambda f: probe.open_run("zzz"), ProbeError, "no such run"),
        (lambda f: probe.open_bench("zzz"), ProbeError, "no such bench"),
        (lambda f: probe.open_bundle("zzz"), ProbeError, "no such bundle"),
        (lambda f: probe.audit(f, threshold=2), UsageError, "from 0 to 1"),
        (lambda f: probe.audit(f, run="zzz"), ProbeError, "no such run"),
        (lambda f: probe.evaluate("zzz", "photos"), ProbeError, "no such bundle"),
        (lambda f: probe.evaluate("zzz", "photos", weighting="x"), UsageError, "--weighting"),
        (lambda f: probe.explain("zzz", "a.png", out="a.jpg"), UsageError, "ends in .png"),
        (lambda f: probe.export("zzz", "pdf"), UsageError, "--to pdf"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_line(
    features: probe.FeatureSet, call: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        call(features)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_options_are_texts_or_pythons_own() -> None:
    assert words("a, b") == words(["a", "b"]) == ("a", "b")
    assert words(None) == ()
    assert counts("--size", "32,64") == counts("--size", [32, np.int64(64)]) == (32, 64)
    assert counts("--size", 32) == (32,)
    assert read_bytes("1GB") == read_bytes(10**9) == 10**9
    assert Options.of(lr_mult={"conv*": 0.5}) == Options.of(lr_mult=["conv*=0.5"])
    assert Options.of(unfreeze={3: "pool4", 6: "none"}) == Options.of(unfreeze="3:pool4,6:none")


def test_progress_is_shown_unless_it_is_to_be_quiet(
    features: probe.FeatureSet, capsys: pytest.CaptureFixture[str]
) -> None:
    probe.fit(features, "ridge", quiet=True)
    probe.bench("photos", ["squeezenet1_0@32=random:0"], heads="ridge", quiet=True)
    assert capsys.readouterr() == ("", "")
    probe.fit(features, "ridge")
    assert "head   ridge" in capsys.readouterr().err


def test_a_quiet_call_warns_of_nothing(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    again = place / "photos" / "cat" / "0.png"
    paths, labels = [str(again)] * 2, ["cat", "dog"]
    splits = {"train": ([paths[0], place / "photos/dog/0.png"], labels), "test": (paths, labels)}
    pictures = {
        name: ([np.asarray(Image.open(path)) for path in files], of)
        for name, (files, of) in splits.items()
    }
    features = probe.extract(pictures, "squeezenet1_0", **NETWORK)
    assert caplog.text == ""
    probe.fit(features, "ridge", val_size=0, alpha=1.0, quiet=True)
    assert caplog.text == ""
    probe.fit(features, "ridge", val_size=0, alpha=1.0)
    assert "WARNING" in caplog.text


def test_an_interrupt_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.screen import passes

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(passes, "extract_features", stop)
    with pytest.raises(KeyboardInterrupt):
        probe.extract("photos", "squeezenet1_0", weights="random:0", size=64, quiet=True)


# images at hand


def pixels(n: int = 6, grey: bool = False) -> np.ndarray[Any, Any]:
    shape = (n, 8, 8) if grey else (n, 8, 8, 3)
    return np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)


def in_memory(data: Any, tmp_path: Path) -> Dataset:
    found = given_dataset(data, cache_dir=tmp_path)
    assert isinstance(found, Dataset)
    return found


def test_arrays_are_the_images_of_the_dataset_that_they_come_from(tmp_path: Path) -> None:
    digits = load_dataset("digits", cache_dir=tmp_path, limit=20)
    for split in digits.splits.values():
        array = np.stack([split.images.image(row) for row in range(len(split))])
        labels = [digits.classes[number] for number in split.labels]
        made = in_memory((array, labels), tmp_path)
        wanted = split.images.content().tolist()
        assert made.splits["train"].images.content().tolist() == wanted
        grey = in_memory((array[..., 0], labels), tmp_path)
        assert grey.splits["train"].images.content().tolist() == wanted


def test_labels_are_numbered_as_in_a_list(tmp_path: Path) -> None:
    X = pixels(4)
    assert in_memory((X, ["10", "9", "10", "9"]), tmp_path).classes == ("9", "10")
    made = in_memory((X, np.array([2.0, 1.0, 2.0, 1.0])), tmp_path)
    assert (made.classes, made.splits["train"].labels.tolist()) == (("1", "2"), [1, 0, 1, 0])
    several = in_memory((list(X), [("b", "a"), (), ("b",), ("a",)]), tmp_path)
    assert several.splits["train"].labels.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    flags = in_memory((X, np.array([[1, 0], [0, 1], [1, 1], [0, 0]])), tmp_path)
    assert flags.splits["train"].labels.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    apart = in_memory({"test": (X[2:], ["a", "b"]), "train": (X[:2], ["b", "a"])}, tmp_path)
    assert list(apart.splits) == ["train", "test"]
    dev = in_memory({"validation": (X[2:], ["a", "b"]), "train": (X[:2], ["b", "a"])}, tmp_path)
    assert list(dev.splits) == ["train", "val"]
    other = in_memory((X, ["9", "10", "10", "9"]), tmp_path)
    assert other.name != in_memory((X, ["10", "9", "10", "9"]), tmp_path).name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((pixels().astype(float), [0] * 6), "float64 pixels"),
        ((pixels(), [0] * 5), "6 images and 5 labels"),
        ((pixels()[..., :2], [0] * 6), "(6, 8, 8, 2)"),
        ((pixels()[0, 0], [0] * 6), "the shape (8, 3)"),
        (pixels(), "a ndarray"),
        ((pixels(),), "a tuple of 1"),
        ({}, "has no split"),
        ({"holdout": (pixels(), [0] * 6)}, "no split is called 'holdout'"),
        ({name: (pixels(), [0] * 6) for name in ("val", "dev")}, "names val twice"),
        ({"train": pixels()}, "give (images, labels)"),
        ((pixels(), [0, 1, 2, None, 0, 1]), "image 3 has no label"),
        ((pixels(), [0, 1, 2, float("nan"), 0, 1]), "image 3 has no label"),
        ((pixels(), [0.5] * 6), "the label of image 0 is 0.5"),
        ((pixels(), ["a", "\udcff"] * 3), "image 1, '\\udcff', is not UTF-8"),
        ((pixels(), np.full((6, 2), 3)), "the shape (6, 2)"),
        ((pixels(), "abcdef"), "labels are a str"),
        (([], []), "no images were given"),
        (("a.png", ["a"]), "one path"),
        ((["a.png"], ["a"]), "there is no file"),
        (([pixels()[0], 3], [0, 1]), "is of type int"),
        ({"train": (pixels(2), ["a", "b"]), "test": (pixels(1), ["c"])}, "'c' is not in train"),
        (FakeFrame([{"label": "a"}]), "one of them has to be called"),
        (FakeFrame([{"path": "a.png", "label": "a"}]), "there is no file"),
        (FakeFrame([], columns=["path", "label"]), "no rows"),
        (5, "is a int"),
    ],
)
def test_other_things_are_no_dataset(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        given_dataset(data, cache_dir=tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frames_and_paths_become_a_list_that_is_found_again(place: Path, tmp_path: Path) -> None:
    rows = [
        {"path": f"photos/{name}/{number}.png", "label": name, "animal": f"{name}{number // 2}",
         "split": "test" if number > 3 else "train"}
        for name in COLOURS for number in range(6)
    ]  # fmt: skip
    path = given_dataset(FakeFrame(rows), cache_dir=tmp_path, name="animals")
    assert isinstance(path, str)
    assert Path(path).name == "animals.csv"
    assert given_dataset(FakeFrame(rows), cache_dir=tmp_path, name="animals") == path
    found = load_dataset(path, cache_dir=tmp_path)
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 12, "test": 6}
    animals = [row["animal"] for row in rows if row["split"] == "test"]
    assert found.splits["test"].columns == {"animal": animals}
    with pytest.raises(DataError, match="images 0 and 18 are the same file"):
        given_dataset(FakeFrame([*rows, rows[0]]), cache_dir=tmp_path)
    paths = [row["path"] for row in rows]
    labels = [row["label"] for row in rows]
    listed = load_dataset(
        str(given_dataset((paths, labels), cache_dir=tmp_path)), cache_dir=tmp_path
    )
    assert listed.classes == tuple(COLOURS)
    known = {one.tobytes() for one in load_dataset("photos").splits["train"].images.content()}
    assert {one.tobytes() for one in listed.splits["train"].images.content()} <= known


def test_a_real_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"path": ["photos/cat/0.png", "photos/dog/0.png"], "label": ["a", "b"]}
    )
    made = given_dataset(frame, cache_dir=tmp_path)
    assert len(load_dataset(str(made), cache_dir=tmp_path).splits["train"]) == 2
    made = given_dataset((pixels(2), pandas.Series(["a", "b"])), cache_dir=tmp_path)
    assert isinstance(made, Dataset)


@needs_mxnet
def test_images_in_memory_are_not_fine_tuned() -> None:
    features = probe.extract((pixels(12), ["a", "b", "c"] * 4), "squeezenet1_0", **NETWORK)
    with pytest.raises(ProbeError, match="given in memory"):
        probe.fit(features, "ridge", alpha=1.0, quiet=True).promote(epochs=1, quiet=True)


def test_images_in_memory_are_extracted_once_and_fitted() -> None:
    X, y = pixels(12), np.array(["a", "b", "c"] * 4)
    features = probe.extract({"train": (X, y)}, "squeezenet1_0", **NETWORK)
    again = probe.extract((list(X), y), "squeezenet1_0", **NETWORK)
    assert again.path == features.path
    assert features["train"].as_xy()[0].dtype == np.float32
    some = probe.extract((X, y), "squeezenet1_0", per_class=2, **NETWORK)
    assert len(some["train"]) == 6
    assert probe.fit(features, "ridge", alpha=1.0, quiet=True).result.head == "ridge"
    with pytest.raises(UsageError, match="--coarse"):
        probe.extract((X, y), "squeezenet1_0", coarse=True, **NETWORK)
    bench = probe.bench((X, y), ["squeezenet1_0@32=random:0"], heads="ridge", quiet=True)
    assert bench.winner.result.entry == features.name


def test_several_labels() -> None:
    flags = np.random.default_rng(0).integers(0, 2, (24, 3))
    features = probe.extract((pixels(24), flags), "squeezenet1_0", **NETWORK)
    run = probe.fit(features, "ridge", quiet=True)
    assert "map" in run.metrics["val"]
    with pytest.raises(UsageError, match="several labels"):
        run.confusion()
    assert "<table>" in run._repr_html_()


# what is made of features and of bundles


def test_an_audit_is_that_of_the_command(place: Path, features: probe.FeatureSet) -> None:
    from typer.testing import CliRunner

    from probe.cli.app import app

    found = probe.audit(features, quiet=True)
    done = CliRunner().invoke(app, ["audit", features.name, "--json"])
    command = json.loads(done.stdout)
    made = found.record.to_dict()
    for name in ("near_duplicates", "label_errors", "copies", "scores", "threshold", "n_train"):
        assert json.loads(json.dumps(made[name])) == command[name]
    assert made["command"] == f"probe.audit({features.name!r})"
    left = {path.name for path in Path(command["folder"]).iterdir()}
    assert {path.name for path in found.folder.iterdir()} == left
    assert features.name in repr(found)
    assert "labels: " in found._repr_html_()


def test_a_bundle_is_scored_explained_and_exported_as_by_the_commands(
    place: Path, run: probe.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from probe.cli.app import app

    bundle = run.bundle("pets.probe", quiet=True)
    scores = bundle.evaluate("photos", quiet=True)
    done = CliRunner().invoke(app, ["evaluate", "pets.probe", "--dataset", "photos", "--json"])
    assert {"bundle": "pets.probe", **scores.to_json()} == json.loads(done.stdout)
    assert probe.evaluate("pets.probe", "photos", quiet=True).figures == scores.figures
    assert "36 train images of photos" in repr(scores)
    assert "<table>" in scores._repr_html_()
    again = {"train": ([Image.open("photos/owl/1.png").convert("RGB")] * 2, ["owl", "owl"])}
    assert bundle.evaluate(again, quiet=True).n_images == 2
    image = "photos/cat/0.png"
    why = bundle.explain(image, heatmap="none", neighbours=3)
    same = bundle.explain(np.asarray(Image.open(image)), heatmap="none", neighbours=3)
    assert [one.distance for one in why.neighbours] == [one.distance for one in same.neighbours]
    assert why._repr_png_().startswith(b"\x89PNG")
    done = CliRunner().invoke(app, ["explain", "pets.probe", image, "--heatmap", "none", "--json"])
    assert json.loads(done.stdout)["label"] == why.label
    assert [path.name for path in bundle.export("sklearn")] == ["pets.joblib"]
    assert capsys.readouterr() == ("", "")


# results


def test_a_run(features: probe.FeatureSet, run: probe.Run) -> None:
    said = run.predictions["val"]
    wanted = np.zeros((3, 3), int)
    for label, answer in zip(said.labels, said.answers, strict=True):
        wanted[label, answer] += 1
    assert (np.asarray(run.confusion()) == wanted).all()
    assert run.metrics["val"]["top1"] == np.trace(wanted) / wanted.sum()
    assert run.classes == tuple(COLOURS)
    assert probe.open_run(run.name).metrics == run.metrics
    assert probe.open_features(features.name[:12]).path == features.path
    with pytest.raises(UsageError, match="no predictions of 'oof'"):
        run.confusion("oof")
    with pytest.raises(UsageError, match="pip install pandas") if _no_pandas() else _nothing():
        run.confusion().to_frame()


def test_the_rows_of_a_bench_are_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_pandas", lambda: SimpleNamespace(DataFrame=FakeFrame))
    bench = probe.bench("photos", ["squeezenet1_0@32=random:0"], heads="ridge", quiet=True)
    frame = bench.to_frame()
    assert len(frame) == len(bench.rows) == 1
    assert frame[0, frame.columns.index("val_top1")] == bench.winner.metrics["val"]["top1"]


def _no_pandas() -> bool:
    return (
        "pandas" not in sys.modules
        and __import__("importlib.util").util.find_spec("pandas") is None
    )


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_imported_features_are_those_of_the_file(
    features: probe.FeatureSet, tmp_path: Path
) -> None:
    X, y = features["train"].as_xy()
    ids = [f"photo-{row}" for row in range(len(X))]
    np.savez(tmp_path / "pets.npz", features=X, labels=y, ids=ids)
    made = probe.import_features(
        tmp_path / "pets.npz", backbone="own", classes=list(COLOURS), quiet=True
    )
    assert (made.dataset, made.key.backbone, made.classes) == ("pets", "own", tuple(COLOURS))
    again, labels = made["train"].as_xy()
    assert (again == X).all()
    assert (labels == y).all()
    assert list(made["train"].ids) == ids
    assert "pixels" not in made._repr_html_()
    with pytest.raises(UsageError, match="--features zzz"):
        probe.import_features(tmp_path / "pets.npz", features="zzz", quiet=True)


def test_a_learning_curve_belongs_to_its_run(features: probe.FeatureSet, run: probe.Run) -> None:
    assert run.learning_curve is None
    made = probe.fit(features, "ridge", alpha=1.0, learning_curve=[2, 4], draws=2, quiet=True)
    assert made.learning_curve is not None
    assert list(made.learning_curve.bands()) == [2, 4]


def test_reprs_are_short(features: probe.FeatureSet, run: probe.Run) -> None:
    dataset = load_dataset("photos")
    for one in (
        features,
        features["train"],
        run,
        run.confusion(),
        dataset,
        dataset.splits["train"],
    ):
        assert len(repr(one)) < 300, one
    for one in (features, run, run.confusion()):
        assert len(one._repr_html_()) < 400_000
        assert "http" not in one._repr_html_()
    assert "data:image/png;base64," in run._repr_html_()


def test_what_a_notebook_shows_is_escaped() -> None:
    from probe.core.html import Html

    shown = Html().title("<script>").table(["<b>"], [["<i>&"]]).text()
    assert "<script>" not in shown
    assert "&lt;i&gt;&amp;" in shown


# the package


def test_bench_stays_a_function_when_its_room_is_imported() -> None:
    import probe.bench.table

    assert probe.bench is api.bench
    import probe.audit.record
    import probe.export.check

    assert probe.audit is api.audit
    assert probe.export is api.bundles.export
    assert sys.modules["probe.bench.table"].COLUMNS[0] == "bench"


def test_asking_for_a_function_loads_no_heavy_library() -> None:
    heavy = ("mxnet", "sklearn", "matplotlib", "scipy", "rich", "pandas", "h5py")
    code = (
        f"import sys, probe; probe.fit, probe.Run; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
