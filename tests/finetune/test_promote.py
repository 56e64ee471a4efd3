"""The whole path as a user goes it: a run in, a fine-tuned run out, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from probe.backbones.catalog import BACKBONES
from probe.bench.find import default_run
from probe.bundle import Bundle
from probe.bundle.files import CARD
from probe.cache.store import Store
from probe.core.memo import Memo
from probe.core.records import CHECKSUM, write_record
from probe.errors import DataError, ProbeError, PromoteError, UsageError
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, images_of_entry, prepare
from probe.finetune import mirror
from probe.finetune.options import Options
from probe.finetune.promotion import begin
from probe.finetune.request import read_sample_weights
from probe.finetune.source import PROMOTED, Places, open_source
from probe.heads import load_head, save_head
from probe.heads.history import load_history
from probe.runs.fit import HEAD, HeadRequest
from probe.runs.results import read_run
from probe.weights import open_tensors, random_parameters, resolve_weights
from probe.weights.resolve import NO_TERMS
from tests.commands import invoke
from tests.finetune.data import RUN, Silent, fit, source_of, trained, training_of


def promote(cache: Path, *arguments: str, code: int = 0) -> Result:
    """Run the command in this process; an expected error is raised, as `main` would print it."""
    return invoke("promote", "--cache-dir", cache, *arguments, code=code)


QUICK = ("--epochs", "2", "--lr", "1e-5", "--augment", "none")


@pytest.fixture(scope="module")
def tuned(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A cache with a promoted run, and what `--json` said of it."""
    cache = Path(shutil.copytree(made, tmp_path_factory.mktemp("tuned") / "cache"))
    done = promote(cache, *QUICK, "--compare", "last-layer", "--log", "tensorboard", "--json")
    return cache, json.loads(done.stdout)


def test_a_promoted_run_is_a_run(tuned: tuple[Path, dict[str, Any]]) -> None:
    cache, said = tuned
    folder = Path(said["folder"])
    result = read_run(folder)
    assert result.head == said["head"] == "promoted"
    assert result.n_val == 48
    assert set(result.metrics) == {"val"}
    history = load_history(folder)
    assert [one.epoch for one in history] == [1, 2]
    best = max(history, key=lambda one: (one.val_top1, -(one.val_loss or 0)))
    assert result.params["best_epoch"] == best.epoch
    assert result.metrics["val"]["top1"] == pytest.approx(best.val_top1)
    probe_run = load_predictions(cache / "runs" / RUN)["val"]
    assert load_predictions(folder)["val"].ids.tolist() == probe_run.ids.tolist()
    lines = (folder / "steps.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * (112 // 32)
    gain = said["gain"]["val"]
    assert gain["after"] - gain["before"] == pytest.approx((gain["repaired"] - gain["broken"]) / 48)
    for name in ("curves.png", "confusion.png", "comparison.png", "comparison.csv"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "tensorboard").iterdir())
    assert not (folder / "compare" / "last-layer" / "checkpoints").exists()


def test_its_backbone_can_be_extracted_again_and_its_head_gives_its_predictions(
    tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = Path(tuned[1]["folder"])
    prepared = prepare(
        Request(
            backbone="resnet18", dataset="digits", cache_dir=tmp_path, layers=("stage1",),
            weights=str(folder / "backbone.safetensors"), per_class=16,
        )
    )  # fmt: skip
    (entry,) = extract_features(
        prepared.job, Store(tmp_path), prepared.engine_for, Silent(), workers=1
    )
    split = entry["train"]
    known = load_predictions(folder)["val"]
    place = {one: row for row, one in enumerate(split.ids)}
    rows = [place[one] for one in known.ids.tolist()]
    found = load_head(folder / HEAD).predict_proba(split.features[rows])
    np.testing.assert_allclose(found, known.probabilities, atol=1e-4)


def test_it_can_be_bundled_and_predicts(tuned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    cache, said = tuned
    out = tmp_path / "bundle"
    invoke("bundle", said["folder"], "--out", out, "--cache-dir", cache)
    source = source_of(cache)
    known = load_predictions(Path(said["folder"]))["val"]
    images = [source.val.images.image(row) for row in range(6)]
    winners = known.probabilities[:6].argmax(axis=1)
    assert Bundle.load(out).predict(images) == [source.classes[one] for one in winners]


def rewrite(path: Path, text: str, other: str) -> None:
    """Replace a text in a record, as an earlier version would have written it."""
    plain = json.loads(path.read_text().replace(text, other))
    plain.pop(CHECKSUM, None)
    path.write_text(json.dumps(plain))


def test_a_network_from_scratch_is_credited_to_nobody(cache: Path, tmp_path: Path) -> None:
    path = cache / "runs" / RUN / "result.json"  # as if the probe had been on published weights
    rewrite(path, "random:0", "resnet18.torchvision_v1")
    said = json.loads(promote(cache, "--start", "scratch", "--epochs", "1", "--json").stdout)
    folder, origin = Path(said["folder"]), said["weights"]
    kind, _, seed = origin.partition(":")
    begun = begin(source_of(cache), Options(start="scratch"), tmp_path / "begun")
    start = random_parameters(int(seed), BACKBONES["resnet18"], begun.source.layer).parameters
    assert kind == "random"
    for name, array in begun.training.network.state.weights.values().items():
        if name in start:
            np.testing.assert_array_equal(array, start[name])
    backbone = folder / "backbone.safetensors"
    assert open_tensors(backbone).metadata["probe.source"] == f"{origin}, trained on digits"
    done = invoke("bundle", folder, "--out", tmp_path / "bundle", "--cache-dir", cache)
    about = Bundle.load(tmp_path / "bundle").about
    card = (tmp_path / "bundle" / CARD).read_text()
    assert about.weights == f"{origin}, trained on digits"
    assert about.licence == NO_TERMS
    assert "resnet18, trained from random weights, cut at stage1" in card.replace("R", "r")
    for text in (done.output, card, (folder / "result.json").read_text(), about.to_json()):
        assert "torchvision_v1" not in text
        assert "fine-tuned" not in text
    result = folder / "result.json"  # as earlier versions wrote it
    rewrite(result, origin, "resnet18.torchvision_v1")
    assert read_run(folder).weights == "random weights"
    resolved = resolve_weights(
        BACKBONES["resnet18"], str(backbone), cache_dir=cache,
        memo=Memo(cache / "memo.sqlite"), preprocess=None,
    )  # fmt: skip
    assert resolved.name == f"backbone.safetensors ({origin}, trained on digits)"
    assert resolved.terms == about.licence


def test_before_the_first_step_it_is_the_probe(made: Path, tmp_path: Path) -> None:
    source = source_of(made)
    begun = begin(source, Options(), tmp_path)
    assert begun.difference is not None
    assert begun.difference < 1e-4
    assert begun.score == pytest.approx(source.result.metrics["val"]["top1"])
    fresh = begin(source, Options(start="fresh"), tmp_path)
    assert fresh.difference is not None
    assert fresh.score < begun.score
    assert begin(source, Options(start="scratch"), tmp_path).difference is None


def test_a_head_of_zeros_prefers_no_class_and_learns(cache: Path, tmp_path: Path) -> None:
    begun = begin(source_of(cache), Options(start="zeros"), tmp_path / "a")
    assert begun.difference is not None
    np.testing.assert_allclose(begun.probabilities, 0.1, atol=1e-6)
    folder = fit(cache, "20270101-000000-001", HeadRequest(params={"epochs": 3, "hidden": (9,)}))
    source = open_source(folder, Places(cache_dir=cache))
    options = Options(start="zeros", epochs=1, augment="none", warmup=0)
    begun = begin(source, options, tmp_path / "b")
    np.testing.assert_allclose(begun.probabilities, 0.1, atol=1e-6)
    before = begun.training.network.state.weights.values()
    assert before["head.0.weight"].any()  # zeros there would never learn
    begun.training.run(Silent())
    after = begun.training.network.state.weights.values()
    for name in ("head.0.weight", "head.1.weight", "head.1.bias"):
        assert (before[name] != after[name]).any()


def test_another_head_is_noticed_before_anything_is_trained(cache: Path) -> None:
    path = cache / "runs" / RUN / HEAD
    head = load_head(path)
    head.coef_ = head.coef_[::-1].copy()
    save_head(head, path)
    with pytest.raises(PromoteError, match="does not give the probe's validation"):
        promote(cache, *QUICK)
    assert [one.name for one in (cache / "runs").iterdir()] == [RUN]  # and nothing is left


def test_other_weights_are_noticed(made: Path) -> None:
    places = Places(cache_dir=made, weights="random:1")
    with pytest.raises(DataError, match="weights found now are not those"):
        open_source(made / "runs" / RUN, places)


def test_an_image_that_is_another_one_now_is_noticed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(request: Request) -> Any:
        dataset = images_of_entry(request)
        images = dataset.splits["train"].images
        content = images.content().copy()
        content[7] ^= 1
        monkeypatch.setattr(type(images), "content", lambda self: content[: len(self)])
        return dataset

    monkeypatch.setattr("probe.finetune.source.images_of_entry", changed)
    with pytest.raises(DataError, match="not those the features were made of, first train/"):
        open_source(cache / "runs" / RUN, Places(cache_dir=cache))


@pytest.mark.parametrize(
    ("request_", "entries", "message"),
    [
        (HeadRequest(params={"epochs": 1}, val_size=0), 1, "held nothing out"),
        (HeadRequest(solver="knn"), 1, "knn head is no layer"),
        (HeadRequest(params={"epochs": 1}), 2, "several backbones, or"),
    ],
    ids=["nothing held out", "knn", "concatenated features"],
)
def test_a_run_that_cannot_be_fine_tuned_is_refused_and_the_best_other_named(
    cache: Path, request_: HeadRequest, entries: int, message: str
) -> None:
    folder = fit(cache, "20270101-000000-001", request_)
    result = json.loads((folder / "result.json").read_text())
    result["entry"] = "+".join([result["entry"]] * entries)
    if "val" in result["metrics"]:
        result["metrics"]["val"]["top1"] = 1.0  # not named although it is the best
    write_record(folder / "result.json", result)
    with pytest.raises(UsageError, match=f"{message}.*`probe promote {RUN}`"):
        open_source(folder, Places(cache_dir=cache))


def test_an_mlp_head_starts_where_it_ended(cache: Path, tmp_path: Path) -> None:
    folder = fit(cache, "20270101-000000-001", HeadRequest(params={"epochs": 3, "hidden": (9,)}))
    source = open_source(folder, Places(cache_dir=cache))
    difference = begin(source, Options(), tmp_path).difference
    assert difference is not None
    assert difference < 1e-4


def test_the_newest_run_is_taken_and_a_promoted_one_is_not(
    tuned: tuple[Path, dict[str, Any]],
) -> None:
    cache, said = tuned
    assert default_run(cache, but=(PROMOTED,))[0].name == RUN
    with pytest.raises(UsageError, match="fine-tuned already"):
        promote(cache, said["folder"], *QUICK)


def test_predictions_of_other_images_are_refused(cache: Path) -> None:
    folder = cache / "runs" / RUN
    known = load_predictions(folder)["val"]
    ids = known.ids.copy()
    ids[0] = "train/99999"
    other = Predictions(ids=ids, labels=known.labels, probabilities=known.probabilities)
    save_predictions(folder, {"val": other})
    with pytest.raises(DataError, match="train/99999 is not in the entry"):
        promote(cache, *QUICK)


def test_a_frozen_backbone_keeps_its_bits_and_a_thawed_one_does_not(
    made: Path, tmp_path: Path
) -> None:
    start = training_of(made, tmp_path / "start").network.state.weights.values()
    last = trained(made, tmp_path / "a", freeze="backbone")
    thawed = trained(made, tmp_path / "b", freeze="backbone", unfreeze=((2, "none"),), epochs=2)
    for name, value in start.items():
        head = name.startswith("head.")
        assert (value.tobytes() != last[name].tobytes()) == head, name
        assert value.tobytes() != thawed[name].tobytes(), name


def test_keeping_the_frozen_part_in_memory_changes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = trained(made, tmp_path / "a", freeze="backbone")
    monkeypatch.setattr("probe.finetune.train.CACHED_BYTES", 0)
    again = trained(made, tmp_path / "b", freeze="backbone")
    for name, value in kept.items():
        np.testing.assert_allclose(value, again[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 5e-4}, {"momentum": 0.5}, {"wd": 0.1}, {"backbone_lr_mult": 0.1},
        {"head_lr_mult": 10.0}, {"layer_decay": 0.5}, {"lr_mult": (("stage1", 0.0),)},
        {"schedule": "constant"}, {"warmup": 1.0}, {"bn": "moving"}, {"label_smoothing": 0.1},
        {"mixup": 0.4}, {"accumulate": 2}, {"clip": 0.01}, {"augment": "flip"}, {"sizes": (28,)},
        {"sampling": "balanced"}, {"ohem": 0.5}, {"seed": 7}, {"optimizer": "adamw"},
        {"batch_size": 16}, {"start": "fresh"}, {"start": "zeros"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_every_option_does_something(
    made: Path, tmp_path: Path, options: dict[str, Any], plain: dict[str, Any]
) -> None:
    found = trained(made, tmp_path, **options)
    assert any(found[name].tobytes() != plain[name].tobytes() for name in plain)


@pytest.fixture(scope="module")
def plain(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    found = trained(made, folder / "a")
    again = trained(made, folder / "b")
    assert all(found[name].tobytes() == again[name].tobytes() for name in found)
    return found


def test_patience_ends_a_training_that_gets_no_better(made: Path, tmp_path: Path) -> None:
    training = training_of(made, tmp_path, epochs=9, lr=1e-12, patience=2)
    watcher = Silent()
    training.run(watcher)
    assert 3 <= len(watcher.epochs) < 9


def test_a_training_that_diverges_says_so(made: Path, tmp_path: Path) -> None:
    training = training_of(made, tmp_path, lr=1e12, clip=0.0, epochs=3)
    with pytest.raises(PromoteError, match="smaller --lr"):
        training.run(Silent())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--freeze", "stage3"), "--freeze stage3"),
        (("--freeze", "nonsense"), "no layer 'nonsense'"),
        (("--unfreeze", "3:none"), "frees nothing more"),
        (("--unfreeze", "x"), "EPOCH:LAYER"),
        (("--lr-mult", "conv9=2"), "no parameter and no layer"),
        (("--lr-mult", "stage1"), "PATTERN=FACTOR"),
        (("--train-sizes", "big"), "sides in pixels"),
        (("--train-sizes", "7"), "the run's own size is 32"),
        (("--optimizer", "lion"), "--optimizer lion"),
        (("--bn", "maybe"), "--bn maybe"),
        (("--lr", "-1"), "--lr -1"),
        (("--ohem", "2"), "--ohem 2"),
        (("--sampling", "weighted"), "go together"),
        (("--accumulate", "9"), "only 3 batches"),
        (("--compare", "magic"), "--compare magic"),
        (("--start", "scratch", "--compare", "scratch"), "the run itself does"),
        (("--resume",), "no fine-tuning was interrupted"),
        (("--resume", "--lr", "1"), "keeps its options"),
        (("no-such-run",), "no such folder"),
        (("--out", "/proc/nowhere"), "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_in_a_line_and_leaves_nothing(
    made: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        promote(made, *arguments)
    assert [one.name for one in (made / "runs").iterdir()] == [RUN]


def test_a_sample_weight_file_is_read_or_refused(cache: Path, tmp_path: Path) -> None:
    ids = list(source_of(cache).train.ids)
    path = tmp_path / "weights.csv"
    path.write_text("id,weight\n" + "\n".join(f"{one},1" for one in ids))
    options = ("--sampling", "weighted", "--sampling-weights", str(path))
    promote(cache, *QUICK, "--dry-run", *options)
    for text, message in (
        ("\n".join(f"{one},1" for one in ids[1:]), "1 image has no weight"),
        (f"id,weight\n{ids[0]},many\n", "line 2 is not"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_sample_weights(path, ids)


def test_a_batch_can_be_drawn(cache: Path, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "batch.png"
    promote(cache, "--augment", "strong", "--show-batch", str(path))
    with Image.open(path) as picture:
        assert picture.width > 8 * 96
    assert [one.name for one in (cache / "runs").iterdir()] == [RUN]


def test_a_dry_run_estimates_advises_and_leaves_nothing(cache: Path) -> None:
    advised = "a mirror changes what they show"  # digits

    def shown(augment: str) -> str:
        done = promote(cache, *QUICK, "--dry-run", "--augment", augment)
        return " ".join(done.stderr.split())

    assert advised in shown("light")
    assert advised not in shown("crop")
    text = shown("auto")
    assert "so --augment auto is none" in text
    assert advised not in text
    for words in ("about", "advice", "GB at the peak"):
        assert words in text
    assert [one.name for one in (cache / "runs").iterdir()] == [RUN]


def test_whether_images_are_mirrored_is_settled_by_the_probe(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, found = source_of(made), []
    for start in ("probe", "zeros", "fresh", "scratch"):  # whatever the network starts from
        begun = begin(source, Options(start=start), tmp_path)
        assert begun.training.options.augment == "none"  # these are digits
        assert not begun.training.feed.options.policy().flip
        found.append(begun.mirror)
    assert found[0] is not None
    assert found == [found[0]] * 4
    assert found[0].plain == pytest.approx(source.result.metrics["val"]["top1"])
    assert begin(source, Options(augment="crop"), tmp_path).mirror is None
    monkeypatch.setattr(mirror, "LOST", 1.0)
    begun = begin(source, Options(), tmp_path)
    assert begun.training.options.augment == begun.training.feed.options.augment == "flip"


def test_a_network_no_better_on_held_out_images_is_not_recommended(cache: Path) -> None:
    done = promote(cache, *QUICK, "--lr", "1e-12")  # nothing is learnt, so nothing is gained
    said = "".join(done.stdout.split())
    assert "keeptheprobe" in said
    assert "onerecipe:adamw,lr1e-12,warmup1" in said
    assert "--optimizersgd" in said
    assert f"probebundle{RUN}--cache-dir{cache}" in said
