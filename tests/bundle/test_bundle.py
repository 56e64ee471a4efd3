"""A bundle made of real weights and a real head, and what happens to a damaged one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.bundle import ABOUT, Bundle, files
from probe.bundle.about import NEIGHBOURS, REFERENCE, seal_of
from probe.bundle.files import CARD, BundleFiles, read_arrays, write_arrays, writing
from probe.bundle.make import BundleRequest, bundle_run
from probe.bundle.network import WEIGHTS
from probe.bundle.write import synthetic_images
from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import BundleError, ProbeError, UnsafeFileError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.evaluation.statistics import apply_temperature
from probe.heads import load_head, save_head
from probe.runs.fit import HEAD
from tests.finished import make_bundle, save_digits


def test_a_bundle_answers_as_the_run_did_with_its_temperature(
    digits_cache: Path, digits_run: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    bundle = Bundle.load(digits_bundle, batch_size=8)
    entry = join(Store(digits_cache), Store(digits_cache).choose(None)).entry["train"]
    head = load_head(digits_run / HEAD)
    assert bundle.about.temperature is not None
    expected = apply_temperature(head.predict_logits(entry.features[:20]), bundle.about.temperature)
    paths = save_digits(tmp_path, 20)
    found = bundle.predict_proba(paths)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert bundle.predict(paths) == [bundle.about.classes[row.argmax()] for row in expected]


def test_a_bundle_of_before_with_its_graph_beside_it_loads(
    digits_bundle: Path, tmp_path: Path
) -> None:
    """What a network computes was written down once; now it follows from the backbone's name."""
    older = shutil.copytree(digits_bundle, tmp_path / "older")
    (older / "graph.json").write_text('{"symbol": {"nodes": [{"op": "Custom"}]}}')
    reseal(older, "graph.json")
    image = np.zeros((1, 32, 32, 3), np.uint8)
    both = [Bundle.load(folder).features(image) for folder in (older, digits_bundle)]
    np.testing.assert_array_equal(*both)
    (older / "graph-2.json").write_text("{}")
    reseal(older, "graph-2.json")
    with pytest.raises(BundleError, match="names other files"):
        Bundle.load(older)


def test_it_stands_alone_as_a_folder_and_as_a_file(
    digits_cache: Path, digits_run: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    alone = shutil.copytree(digits_bundle, tmp_path / "elsewhere")
    names = {ABOUT, WEIGHTS, HEAD, REFERENCE, NEIGHBOURS, CARD}
    assert {path.name for path in alone.iterdir()} == names
    card = (alone / CARD).read_text()
    figures = json.loads((alone / ABOUT).read_text())["metrics"]["val"]
    assert f"{100 * figures['top1']:.2f} %" in card
    assert "Apache-2.0" in card
    assert "temperature" in card
    assert "float16" in card
    assert str(tmp_path.parents[1]) not in card + (alone / ABOUT).read_text()  # no path of ours
    one = make_bundle(digits_cache, digits_run, tmp_path / "one.probe")
    image = synthetic_images(3, 50)
    whole, packed = Bundle.load(alone), Bundle.load(one)
    np.testing.assert_allclose(
        whole.predict_proba(list(image)), packed.predict_proba(list(image)), atol=1e-6
    )
    again = make_bundle(digits_cache, digits_run, tmp_path / "again" / "one.probe")
    assert one.read_bytes() == again.read_bytes()


def test_nothing_of_the_users_images_is_kept_unless_asked_for(
    digits_cache: Path, digits_run: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    plain = Bundle.load(digits_bundle).neighbours
    assert plain is not None
    assert (plain.ids, plain.pictures) == ((), ())
    assert b"train/" not in (digits_bundle / NEIGHBOURS).read_bytes()
    asked = make_bundle(digits_cache, digits_run, tmp_path / "b", remember="pictures")
    kept = Bundle.load(asked).neighbours
    assert kept is not None
    assert len(kept.pictures) == len(kept.ids) == len(kept)
    held_out = set(load_predictions(digits_run)["val"].ids.tolist())
    assert held_out.isdisjoint(kept.ids)
    none = make_bundle(digits_cache, digits_run, tmp_path / "c", remember=None)
    assert not (none / NEIGHBOURS).exists()
    assert "nothing of any one image" in (none / CARD).read_text()


def test_its_flags_hit_the_stated_share_of_held_out_rows(
    digits_cache: Path, digits_run: Path, tmp_path: Path
) -> None:
    bundle = Bundle.load(make_bundle(digits_cache, digits_run, tmp_path / "b", reject_rate=0.1))
    entry = join(Store(digits_cache), Store(digits_cache).choose(None)).entry["train"]
    held_out = set(load_predictions(digits_run)["val"].ids.tolist())
    rows = [row for row, one in enumerate(entry.ids) if one in held_out]
    features = entry.rows(rows)
    verdicts = bundle.verdicts(features, bundle.probabilities(features))
    assert 0.05 <= verdicts.low_confidence.mean() <= 0.1
    assert 0.05 <= verdicts.out_of_distribution.mean() <= 0.1
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    strange = bundle.features(noise)
    assert bundle.verdicts(strange, bundle.probabilities(strange)).out_of_distribution.all()


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
    about = json.loads((folder / ABOUT).read_text())
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(folder, files={**about["files"], name: digest})


def change(folder: Path, **fields: object) -> None:
    about = json.loads((folder / ABOUT).read_text())
    del about["seal"]
    changed = {**about, **fields}
    (folder / ABOUT).write_text(json.dumps({**changed, "seal": seal_of(changed)}))


def rename_a_class(folder: Path) -> None:
    path = folder / ABOUT
    path.write_text(path.read_text().replace('"7"', '"9 "'))


def other_preprocessing(folder: Path, **fields: object) -> None:
    (network,) = json.loads((folder / ABOUT).read_text())["networks"]
    change_network(folder, preprocess={**network["preprocess"], **fields})


def other_weights(folder: Path) -> None:
    arrays = read_arrays((folder / WEIGHTS).read_bytes(), "")
    name = next(iter(arrays))
    write_arrays(folder / WEIGHTS, {**arrays, name: arrays[name][..., None]})
    reseal(folder, WEIGHTS)


def change_network(folder: Path, **fields: object) -> None:
    (network,) = json.loads((folder / ABOUT).read_text())["networks"]
    change(folder, networks=[{**network, **fields}])


def many_networks(folder: Path, count: int) -> None:
    change(folder, networks=json.loads((folder / ABOUT).read_text())["networks"] * count)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def change_rejection(folder: Path, **fields: object) -> None:
    change(folder, rejection={**json.loads((folder / ABOUT).read_text())["rejection"], **fields})


def one_class_more(folder: Path) -> None:
    change(folder, classes=[*json.loads((folder / ABOUT).read_text())["classes"], "more"])


def no_reference_images(folder: Path) -> None:
    arrays = read_arrays((folder / REFERENCE).read_bytes(), "")
    write_arrays(folder / REFERENCE, {name: array[:0] for name, array in arrays.items()})
    reseal(folder, REFERENCE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / WEIGHTS), r"weights\.safetensors is not what was written"),
        (lambda folder: flip(folder / HEAD), r"head\.safetensors is not what was written"),
        (lambda folder: flip(folder / NEIGHBOURS), r"neighbours\.safetensors is not what"),
        (lambda folder: (folder / REFERENCE).unlink(), r"reference\.safetensors is missing"),
        (lambda folder: (folder / ABOUT).unlink(), r"not a bundle, bundle\.json is missing"),
        (lambda folder: (folder / ABOUT).write_text("{"), "cannot be read"),
        (lambda folder: (folder / ABOUT).write_text('{"schema": 99}'), "update probe"),
        (
            lambda folder: (folder / ABOUT).write_text('{"schema": 3, "run": "20260101-1"}'),
            r"older probe \(schema 3\).*make it again with `probe bundle 20260101-1 --out",
        ),
        (lambda folder: (folder / ABOUT).write_text('{"schema": true}'), "is not of a bundle"),
        (lambda folder: other_head(folder, width=7, classes=10), "the head takes 7 features"),
        (lambda folder: other_head(folder, width=1280, classes=12), "12 classes apart"),
        (lambda folder: other_head(folder, width=1280, classes=10), "other probabilities"),
        (rename_a_class, r"bundle\.json is not what was written"),
        (lambda folder: other_preprocessing(folder, scale=0.5), "reference images give other"),
        (
            lambda folder: other_preprocessing(folder, channels="BGR"),
            "reference images give other",
        ),
        (other_weights, "weights are not those of efficientnet_lite0 to gap"),
        (lambda folder: change(folder, temperature=9.0), "other probabilities"),
        (lambda folder: change(folder, temperature="hot"), "temperature"),
        (
            lambda folder: change_network(folder, backbone="resnet18", layer="gap"),
            "weights are not those of resnet18 to gap",
        ),
        (lambda folder: change_network(folder, backbone="resnet1"), "makes no sense"),
        (lambda folder: change_network(folder, file="../weights.safetensors"), "no file of a b"),
        (lambda folder: change(folder, networks=[]), "no networks"),
        (lambda folder: change(folder, pca=1280), r"names other files"),
        (lambda folder: change(folder, several=True, thresholds=[0.5]), "one a class"),
        (lambda folder: change(folder, thresholds=[0.5] * 10), "for images of several labels"),
        (lambda folder: change(folder, heads=["../head.safetensors"]), "no files of a bundle"),
        (lambda folder: change(folder, heads=[]), "no head"),
        (lambda folder: change(folder, heads=[HEAD] * 100_000), "a head is named twice"),
        (lambda folder: many_networks(folder, 65), "more than 64 networks"),
        (
            lambda folder: os.truncate(folder / ABOUT, 20 << 30),
            r"bundle\.json has 21,474,836,480 b",
        ),
        (lambda folder: os.truncate(folder / WEIGHTS, 20 << 30), r"weights\.safetensors has 21,"),
        (lambda folder: piped(folder / HEAD), r"head\.safetensors is missing"),
        (lambda folder: piped(folder / ABOUT), r"bundle\.json is missing"),
        (lambda folder: change(folder, classes=["a", "a"]), "classes"),
        (one_class_more, "rows have other classes than it names"),
        (no_reference_images, "reference images are not of its networks' sizes"),
        (lambda folder: change(folder, metrics={"val": {"top1": "x"}}), "a metric is no number"),
        (lambda folder: change(folder, metrics={"val": [1]}), "makes no sense"),
        (lambda folder: change(folder, intervals={"val": {"top1": [0, None]}}), "an interval is"),
        (lambda folder: change_rejection(folder, rate="x"), "rate is not between 0 and 1"),
        (lambda folder: change_rejection(folder, k=True), "k is no positive number"),
        (lambda folder: change_rejection(folder, errors_caught=7), "a share is not 0 to 1"),
        (lambda folder: change_rejection(folder, distance_rows=-1), "no number of rows"),
    ],
)
def test_a_bundle_that_is_not_what_it_was_is_refused(
    digits_bundle: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(digits_bundle, tmp_path / "b")
    damage(folder)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)


def test_a_large_file_that_is_another_is_not_read_into_memory(
    digits_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(digits_bundle, tmp_path / "b")
    flip(folder / WEIGHTS)
    monkeypatch.setattr(files, "LARGE", 10_000)
    files_of = BundleFiles(folder)
    about, read = files_of.about(), []
    monkeypatch.setattr(files_of, "_read", lambda *given: read.append(given))
    with pytest.raises(BundleError, match="is not what was written"):
        files_of.checked(WEIGHTS, about)
    assert read == []


def test_hostile_archives_are_refused(digits_bundle: Path, tmp_path: Path) -> None:
    squeezed = tmp_path / "squeezed.probe"
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in digits_bundle.iterdir():
            archive.write(path, path.name)
    with pytest.raises(UnsafeFileError, match="compressed"):
        Bundle.load(squeezed)
    upward = tmp_path / "upward.probe"
    with zipfile.ZipFile(upward, "w") as archive:
        archive.write(digits_bundle / ABOUT, "../bundle.json")
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        Bundle.load(upward)
    cut = tmp_path / "cut.probe"
    with zipfile.ZipFile(cut, "w") as archive:
        for path in digits_bundle.iterdir():
            archive.write(path, path.name)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ProbeError, match="not a bundle"):
        Bundle.load(cut)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cut.probe", "squeezed.probe", "upward.probe",
    ]  # fmt: skip


def test_nothing_is_overwritten_or_half_written(
    digits_cache: Path, digits_run: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="is there already"):
        bundle_run(digits_run, digits_bundle, cache_dir=digits_cache)
    with pytest.raises(BundleError, match="not the weights that"):
        bundle_run(
            digits_run,
            tmp_path / "b",
            cache_dir=digits_cache,
            request=BundleRequest(weights=("random:0",)),
        )
    with pytest.raises(BundleError, match="no heads of folds"):
        make_bundle(digits_cache, digits_run, tmp_path / "b", folds=True)
    with pytest.raises(UsageError, match="reject-rate"):
        BundleRequest(reject_rate=0.7)
    assert list(tmp_path.iterdir()) == []


WRITING = """
import sys
from pathlib import Path
from probe.bundle.files import writing
with writing(Path(sys.argv[1])) as folder:
    (folder / "weights.safetensors").write_bytes(bytes(1 << 20))
    print(folder.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["my bundle", "[x].probe"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(
    tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    (tmp_path / f".{name} and others").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        theirs = tmp_path / process.stdout.readline().strip()
        with pytest.raises(KeyboardInterrupt), writing(out):
            raise KeyboardInterrupt
        assert theirs.is_dir()
        process.kill()
    with writing(out) as folder:
        assert not theirs.exists()
        (folder / ABOUT).write_text("{}")
        folder_name = folder.name
    assert {path.name for path in tmp_path.iterdir()} == {name, f".{name} and others"}
    assert folder_name.startswith(f".{name}.")
    with pytest.raises(BundleError, match="is there already"), writing(out):
        pass


def test_of_two_that_write_one_bundle_the_second_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "b.probe"

    def write(text: str) -> None:
        with writing(out) as folder:
            (folder / ABOUT).write_text(text)
            if text == "second":
                write("first")

    with pytest.raises(BundleError, match="is there already"):
        write("second")
    assert [path.name for path in tmp_path.iterdir()] == ["b.probe"]
    with zipfile.ZipFile(out) as archive:
        assert archive.read(ABOUT) == b"first"


def test_an_unfitted_head_is_refused(digits_bundle: Path, tmp_path: Path) -> None:
    from probe.bundle import write_bundle
    from probe.heads import DenseHead

    bundle = Bundle.load(digits_bundle)
    with pytest.raises(BundleError, match="not fitted"):
        write_bundle(tmp_path / "b", bundle.about, {WEIGHTS: bundle.parameters()}, [DenseHead()])
    assert list(tmp_path.iterdir()) == []


def test_reference_images_are_the_same_everywhere() -> None:
    images = synthetic_images(12, 64)
    assert images.shape == (12, 64, 64, 3)
    assert 100 < images.mean() < 155
    assert images.std() > 30
    np.testing.assert_array_equal(images, synthetic_images(12, 64))


def test_damaged_archives_never_end_in_anything_but_an_error_of_ours(
    digits_cache: Path, digits_run: Path, tmp_path: Path
) -> None:
    whole = make_bundle(digits_cache, digits_run, tmp_path / "b.probe").read_bytes()
    with zipfile.ZipFile(tmp_path / "b.probe") as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != CARD}
    assert set(members) == {ABOUT, WEIGHTS, HEAD, REFERENCE, NEIGHBOURS}
    for name, content in members.items():  # one byte in the middle of each
        data = bytearray(whole)
        data[whole.index(content) + len(content) // 2] ^= 1
        (tmp_path / "damaged.probe").write_bytes(data)
        with pytest.raises(BundleError, match=name):
            Bundle.load(tmp_path / "damaged.probe")
    rng = np.random.default_rng(0)
    about_bytes, directory_bytes = 2500, 700
    for number in range(60):
        data = bytearray(whole)
        at = int(rng.integers(0, about_bytes))
        if number % 2:
            at = len(data) - int(rng.integers(1, directory_bytes))
        data[at] ^= int(rng.integers(1, 256))
        (tmp_path / "damaged.probe").write_bytes(data)
        with contextlib.suppress(ProbeError):  # some bytes say nothing: a date, a comment
            BundleFiles(tmp_path / "damaged.probe").about()


def test_an_answer_waits_for_neither_mxnets_package_nor_scikit_learn(
    digits_bundle: Path, tmp_path: Path
) -> None:
    (image,) = save_digits(tmp_path, 1)
    code = (
        "import sys\nfrom probe import Bundle\n"
        f"print(Bundle.load({str(digits_bundle)!r}).predict([{str(image)!r}])[0])\n"
        "print({'mxnet', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    answer, heavy = done.stdout.splitlines()
    assert answer == Bundle.load(digits_bundle).predict([image])[0]
    assert heavy == "set()"
    assert done.stderr == ""  # MXNet's library talks while it fuses networks, unless told not to
