"""A network for each fold: held out once, answering together, in one bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import probe
from probe.bundle import Bundle
from probe.bundle.about import ABOUT, SEAL, seal_of
from probe.bundle.make import BundleRequest, bundle_run
from probe.core.records import write_record
from probe.errors import BundleError, DataError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.export import export_onnx
from probe.finetune.folds import open_folds
from probe.finetune.source import Places
from probe.heads import load_head
from probe.runs.fit import HeadRequest
from probe.runs.results import read_run
from tests.commands import probe as cli
from tests.finetune.data import RUN, fit
from tests.finetune.test_longer import killed, newest
from tests.finetune.test_promote import promote
from tests.finetune.test_several_labels import cache as several_labels  # noqa: F401

QUICK = {"epochs": 2, "augment": "none", "lr": 1e-3}
TYPED = ("--folds", "3", "--epochs", "2", "--augment", "none", "--lr", "1e-3")


@pytest.fixture(scope="module")
def tuned(made: Path, tmp_path_factory: pytest.TempPathFactory) -> probe.Run:
    """A run of three networks on 160 digits."""
    cache = Path(shutil.copytree(made, tmp_path_factory.mktemp("folds") / "cache"))
    return probe.promote(RUN, folds=3, **QUICK, cache_dir=cache, quiet=True)


def members(run: probe.Run) -> list[Path]:
    return sorted(one for one in (run.folder / "folds").iterdir() if one.is_dir())


def test_each_image_is_answered_by_the_network_that_did_not_see_it(tuned: probe.Run) -> None:
    whole = load_predictions(tuned.folder)["oof"]
    held = [load_predictions(place)["val"] for place in members(tuned)]
    assert sorted(one for each in held for one in each.ids) == sorted(whole.ids)
    assert len(set(whole.ids)) == len(whole) == 160 == tuned.result.n_train
    place = {name: row for row, name in enumerate(whole.ids)}
    for each in held:
        rows = [place[name] for name in each.ids]
        np.testing.assert_array_equal(whole.logits[rows], each.logits)
    result = tuned.result
    right = float((whole.logits.argmax(axis=1) == whole.labels).mean())
    assert result.metrics["oof"]["top1"] == pytest.approx(right)
    each = [read_run(place).metrics["val"]["top1"] for place in members(tuned)]
    assert result.spread["mean"] == pytest.approx(np.mean(each))
    assert result.spread["deviation"] == pytest.approx(np.std(each, ddof=1))
    assert result.params["folds"] == 3
    assert not list(tuned.folder.rglob("checkpoints"))


def test_the_gain_is_over_heads_that_did_not_see_the_image_either(tuned: probe.Run) -> None:
    places = Places(cache_dir=tuned.folder.parents[1])
    folds = open_folds(tuned.folder.parent / RUN, places, 3, 42)
    gain = json.loads((tuned.folder / "promotion.json").read_text())["gain"]["oof"]
    right = folds.probe("oof").answers == folds.train.labels
    assert gain["before"] == pytest.approx(right.mean())
    now = load_predictions(tuned.folder)["oof"].right
    assert (gain["repaired"], gain["broken"]) == ((now & ~right).sum(), (right & ~now).sum())
    for source, (_, held) in zip(folds.sources, enumerate(folds.rows), strict=True):
        assert not set(source.train.ids) & set(source.val.ids)
        assert list(source.val.ids) == [folds.train.ids[row] for row in held]
        assert source.test is None


def test_heads_begin_without_the_images_of_their_fold(made: Path) -> None:
    folds = open_folds(made / "runs" / RUN, Places(cache_dir=made), 4, 0)
    rows = folds.opened.joined.splits["train"].features.reshape(160, -1)
    labels = folds.train.labels
    for source, held in zip(folds.sources, folds.rows, strict=True):
        learnt = np.delete(np.arange(160), held)
        again = folds.opened.head.for_refit().fit(rows[learnt], labels[learnt])
        np.testing.assert_allclose(source.head.coef_, again.coef_, atol=1e-6)
        logits = folds.probe("oof").logits[held]
        np.testing.assert_allclose(logits, again.predict_logits(rows[held]), atol=1e-5)
    whole = folds.opened.head.for_refit().fit(rows, labels)
    assert not np.allclose(whole.coef_, folds.sources[0].head.coef_, atol=1e-3)


def test_a_bundle_answers_with_the_mean_of_all_networks(tuned: probe.Run, tmp_path: Path) -> None:
    made = tuned.bundle(tmp_path / "all")
    assert made.about.ensemble
    images = [(one * 15.9).astype(np.uint8) for one in load_digits().images[-8:]]
    assert made.about.temperature is None  # one of single networks would not hold for their mean
    total = np.zeros((8, 10))
    for number, place in enumerate(members(tuned)):
        alone = bundle_run(
            place, tmp_path / str(number), cache_dir=tuned.folder.parents[1],
            request=BundleRequest(remember=None),
        )  # fmt: skip
        z = load_head(place / "head.safetensors").predict_logits(
            alone.features(np.stack([alone.pack(one) for one in images]))
        )
        p = np.exp(z)
        total += p / p.sum(axis=1, keepdims=True) / 3
    np.testing.assert_allclose(made.predict_proba(images), total, atol=1e-5)
    card = (tmp_path / "all" / "README.md").read_text()
    assert "3 networks resnet18" in card
    assert "the mean over 3 networks, one per fold" in card
    assert card.count("torchvision") == 1
    out = tmp_path / "all.onnx"
    export_onnx(made, out)
    session = onnxruntime.InferenceSession(out)
    packed = np.stack([made.pack(one) for one in images])
    found = session.run(["probabilities"], {"data": made.unpack(packed)[0]})[0]
    np.testing.assert_allclose(found, total, atol=1e-4)


def test_a_page_says_that_figures_out_of_fold_flatter(tuned: probe.Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    cli("report", tuned.folder.name, "--out", page, "--cache-dir", tuned.folder.parents[1])
    text = page.read_text()
    assert "Caution: the best epoch of" in text
    assert "was chosen on the same images, so these figures are too high" in text


def test_networks_that_share_a_frozen_backbone_share_its_file(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    run = probe.promote(RUN, folds=2, epochs=1, freeze="backbone", cache_dir=cache, quiet=True)
    bundle = run.bundle(tmp_path / "frozen")
    assert [one.name for one in (tmp_path / "frozen").glob("weights*")] == ["weights.safetensors"]
    assert len(bundle.networks) == 2
    assert bundle.passes == ((0, 1),)
    assert bundle.predict_proba([np.zeros((8, 8), np.uint8)]).shape == (1, 10)


def test_an_ensemble_whose_parts_do_not_fit_is_refused(tuned: probe.Run, tmp_path: Path) -> None:
    tuned.bundle(tmp_path / "b", remember="nothing")
    path = tmp_path / "b" / ABOUT
    plain = json.loads(path.read_text())
    for change, message in (
        ({"heads": plain["heads"][:2]}, "a head for each of several networks"),
        ({"schema": 5}, "its schema is not an ensemble's"),
        ({"ensemble": "yes"}, "its schema is not an ensemble's"),
        ({"schema": 7}, "newer probe"),
    ):
        other = {**plain, **change}
        del other[SEAL]
        path.write_text(json.dumps({**other, SEAL: seal_of(other)}))
        with pytest.raises(BundleError, match=message):
            Bundle.load(tmp_path / "b")


def test_a_run_killed_in_its_second_fold_ends_like_one_that_was_not(
    tuned: probe.Run, cache: Path
) -> None:
    killed(cache, 3, *TYPED)  # two epochs of the first fold, and one
    folder = newest(cache)
    assert [(folder / "folds" / one / "result.json").exists() for one in "12"] == [True, False]
    done = promote(cache, "--resume")
    assert "fold 2 of 3" in done.stderr
    assert "fold 1 of 3" not in done.stderr
    mine, its = (load_predictions(one)["oof"] for one in (folder, tuned.folder))
    np.testing.assert_array_equal(mine.logits, its.logits)
    for number in "123":
        mine, its = (one / "folds" / number for one in (folder, tuned.folder))
        for file in ("backbone.safetensors", "head.safetensors"):
            assert (mine / file).read_bytes() == (its / file).read_bytes()
    with pytest.raises(UsageError, match="start anew with another length"):
        promote(cache, "--resume", str(folder), "--epochs", "3")


def evaluations(cache: Path) -> int:
    return sum(len(one.read_text().splitlines()) for one in (cache / "ledger").glob("*"))


def test_test_images_are_scored_once_and_by_all(several_labels: Path) -> None:  # noqa: F811
    before = evaluations(several_labels)
    run = probe.promote(RUN, folds=2, epochs=1, cache_dir=several_labels, quiet=True)
    # by the networks, and by the heads that they started from
    assert run.result.test_looks == evaluations(several_labels) == before + 2
    found = load_predictions(run.folder)
    assert set(found) == {"oof", "test"}
    bundle = run.bundle(several_labels / "all", remember="nothing")
    places = Places(cache_dir=several_labels)
    test = open_folds(several_labels / "runs" / RUN, places, 2, 42).others["test"]
    assert list(test.ids) == found["test"].ids.tolist()
    p = bundle.predict_proba([test.images.image(row) for row in range(len(test))])
    np.testing.assert_allclose(p, found["test"].probabilities, atol=1e-4)
    gain = json.loads((run.folder / "promotion.json").read_text())["gain"]["test"]
    folds = open_folds(several_labels / "runs" / RUN, places, 2, 42)
    test_rows = folds.opened.joined.splits["test"].features.reshape(len(test), -1)
    p = np.mean([one.head.predict_proba(test_rows) for one in folds.sources], axis=0)
    each = [average_precision_score(test.labels[:, one], p[:, one]) for one in range(p.shape[1])]
    assert gain["before"] == pytest.approx(np.mean(each), abs=1e-6)


def test_a_run_of_folds_that_held_nothing_out_has_a_network_for_each(cache: Path) -> None:
    fit(cache, "20260102-000000-001", HeadRequest(solver="path", grids={"C": (0.1, 1)}, folds=4))
    with pytest.raises(UsageError, match="--folds 5"):
        promote(cache, "20260102-000000-001")
    shown = promote(cache, "20260102-000000-001", "--folds", "2", "--epochs", "1").stdout
    assert "oof" in shown
    assert "2 networks, in its folder folds" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--folds", "3", "--lr", "0.1,0.2"), "folds are of one recipe"),
        (("--folds", "3", "--compare", "zeros"), "folds are of one recipe"),
        (("--folds", "3", "--forecast"), "leave --folds out"),
        (("--folds", "17"), "--folds 17: it must be from 2 to 16"),
        (("--folds", "65"), "--folds 65: a bundle has at most 64 networks"),
    ],
)
def test_folds_that_make_no_sense_are_refused(
    made: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        promote(made, *arguments)


def test_a_dry_run_estimates_all_folds_and_keeps_nothing(cache: Path) -> None:
    done = promote(cache, "--folds", "4", "--dry-run")
    assert "each held out from one of 4 networks" in done.stderr
    assert "of 160 validation images the probe gets" in done.stderr  # those of all folds
    assert [one.name for one in (cache / "runs").iterdir()] == [RUN]


def test_groups_stay_together_and_own_validation_images_are_answered_by_all(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    digits = load_digits(n_class=2)
    lines = ["path,label,split,writer"]
    for row in range(120):
        Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(tmp_path / f"{row}.png")
        split = "train" if row < 80 else "val" if row < 100 else "test"
        writer = f"w{rng.integers(12)}" if split == "train" else f"{split} {row % 5}"
        lines.append(f"{row}.png,{digits.target[row]},{split},{writer}")
    (tmp_path / "digits.csv").write_text("\n".join(lines))
    cache = tmp_path / "cache"
    made = probe.extract(
        tmp_path / "digits.csv", "resnet18", layer="stage1", weights="random:0", size=32,
        cache_dir=cache, quiet=True,
    )  # fmt: skip
    head = probe.fit(made, head="path", C=0.1, group="writer", quiet=True)
    with pytest.raises(UsageError, match=r"\(writer\); name the groups again with --group"):
        head.promote(folds=3, epochs=1)
    run = head.promote(folds=3, epochs=1, group="writer", augment="none", quiet=True)
    writer = {one.split(",")[0]: one.split(",")[3] for one in lines[1:] if ",train," in one}
    held = [{writer[one] for one in load_predictions(place)["val"].ids} for place in members(run)]
    assert set.union(*held) == set(writer.values())
    assert sum(map(len, held)) == len(set(writer.values()))
    assert set(run.result.metrics) == {"oof", "val", "test"}
    assert (run.result.n_train, run.result.n_val, run.result.n_test) == (80, 20, 20)
    assert run.result.groups["by"] == "writer"
    assert run.result.groups["units"] == {"oof": len(set(writer.values())), "val": 5, "test": 5}
    bundle = run.bundle(tmp_path / "all", remember="nothing")
    whole = load_predictions(run.folder)["val"]
    p = bundle.predict_proba([tmp_path / one for one in whole.ids])
    np.testing.assert_allclose(p, whole.probabilities, atol=1e-4)


def test_damage_and_change_are_told_before_anything_is_trained_or_counted(
    tuned: probe.Run, tmp_path: Path
) -> None:
    cache = Path(shutil.copytree(tuned.folder.parents[1], tmp_path / "cache"))
    run = cache / "runs" / tuned.folder.name
    (run / "result.json").unlink()
    whole = (run / "folds" / "2" / "backbone.safetensors").read_bytes()
    (run / "folds" / "2" / "backbone.safetensors").write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"folds/2: a file of this fold is damaged.*remove the"):
        probe.promote(run, resume=True, cache_dir=cache, quiet=True)
    assert not list(cache.glob("ledger/*"))
    dealt = run / "folds" / "dealt.json"
    before = dealt.read_text()
    write_record(dealt, {"schema": 1, "digest": "of other folds"})
    with pytest.raises(UsageError, match="would hold out other images than when it began"):
        probe.promote(run, resume=True, cache_dir=cache, quiet=True)
    dealt.write_text(before)
    shutil.rmtree(run / "folds" / "2")
    (run / "folds" / "1" / "checkpoints").mkdir()  # as a kill leaves them
    (run / "folds" / "1" / "checkpoints" / "last.safetensors").write_bytes(bytes(100))
    done = probe.promote(run, resume=True, cache_dir=cache, quiet=True)
    assert done.result.metrics == tuned.result.metrics
    assert not list(run.rglob("checkpoints"))


def test_what_cannot_begin_leaves_no_run(cache: Path) -> None:
    with pytest.raises(UsageError, match="--max-memory 1MB is too little"):
        promote(cache, "--folds", "2", "--max-memory", "1MB")
    assert [one.name for one in (cache / "runs").iterdir()] == [RUN]


def test_weights_of_images_are_asked_for_before_the_first_fold(cache: Path) -> None:
    ids = open_folds(cache / "runs" / RUN, Places(cache_dir=cache), 2, 42).train.ids
    path = cache / "weights.csv"
    path.write_text("".join(f"{one},1\n" for one in ids[:-1]))
    with pytest.raises(UsageError, match="1 image has no weight"):
        promote(cache, "--folds", "2", "--sampling", "weighted", "--sampling-weights", str(path))
    path.write_text("".join(f"{one},{row % 2}\n" for row, one in enumerate(ids)))
    weighted = ("--sampling", "weighted", "--sampling-weights", str(path), "--max-memory", "8GB")
    shown = promote(cache, "--folds", "2", "--steps", "3", "--patience", "1", *weighted).stdout
    assert "2 networks, in its folder folds" in shown
