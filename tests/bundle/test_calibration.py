"""What a bundle of folds' heads is calibrated by, and that a vote is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from probe.bundle import Bundle
from probe.bundle.card import model_card
from probe.bundle.files import CARD
from probe.bundle.make.run import calibration_of, calibration_of_folds
from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import BundleError
from probe.evaluation.multilabel import best_thresholds
from probe.evaluation.predictions import load_predictions
from probe.evaluation.scored import usable_temperature
from probe.evaluation.statistics import apply_binary_temperature
from probe.runs.fit import HeadRequest, fit_head, keep_run, plan_head
from tests import fakes
from tests.commands import invoke, probe
from tests.finished import make_bundle, save_digits
from tests.heads.test_several_labels import make


def kept(folder: Path, joined: Any, asked: HeadRequest) -> Path:
    folder.mkdir()
    keep_run(folder, fit_head(joined, asked, plan_head(joined, asked)), joined.entry.classes)
    return folder


def test_a_vote_of_real_heads_says_that_it_is_one(digits_cache: Path, tmp_path: Path) -> None:
    store = Store(digits_cache)
    joined = join(store, store.choose(None))
    asked = HeadRequest(solver="path", params={"C": 0.01}, folds=3, ensemble="vote")
    run = kept(tmp_path / "run", joined, asked)
    path = make_bundle(digits_cache, run, tmp_path / "b.probe")
    bundle = Bundle.load(path)
    assert bundle.votes == 3
    assert bundle.about.temperature is None
    assert bundle.about.rejection is not None
    assert bundle.about.rejection.confidence is None
    assert bundle.about.rejection.distance is not None
    images = save_digits(tmp_path / "images", 6)
    shares = 3 * bundle.predict_proba(images)
    np.testing.assert_allclose(shares, shares.round(), atol=1e-9)
    card = model_card(bundle.about, "b", bundle.neighbours, votes=bundle.votes)
    head = yaml.safe_load(card.split("---")[1])  # as Hugging Face's hub reads it
    assert head["pipeline_tag"] == "image-classification"
    for result in head.get("model-index", [{"results": []}])[0]["results"]:
        figures = bundle.about.metrics[result["dataset"]["split"]]
        assert figures["top1"] in [one["value"] for one in result["metrics"]]
    assert "Each of 3 heads has a vote" in card
    assert "calibrated: scores" not in card
    done = invoke("predict", path, *images, "--cache-dir", tmp_path)
    assert "shares of 3 votes, not calibrated; no threshold for low confidence" in done.stderr
    asked_of = ["evaluate", path, "--dataset", "digits", "--limit", "20"]
    told = probe(*asked_of, "--cache-dir", digits_cache)
    assert "shares of 3 votes" in told
    assert "flagged low confidence" not in told

    folds = make_bundle(digits_cache, run, tmp_path / "folds", folds=True)
    found = Bundle.load(folds)
    oof = load_predictions(run)["oof"]
    assert found.votes == 0
    assert found.about.temperature == usable_temperature(oof.scores, oof.labels)
    assert "each answered by the head of the fold that held it out" in (folds / CARD).read_text()


def test_neighbours_of_folds_are_not_kept_and_that_is_said(
    digits_cache: Path, tmp_path: Path
) -> None:
    store = Store(digits_cache)
    joined = join(store, store.choose(None))
    run = kept(tmp_path / "run", joined, HeadRequest(solver="knn", folds=3))
    with pytest.raises(BundleError, match="a run keeps no knn heads of folds"):
        make_bundle(digits_cache, run, tmp_path / "b", folds=True)


@pytest.mark.parametrize("how", ["average", "vote"])
@pytest.mark.parametrize("splits", [("train",), ("train", "val")])
def test_thresholds_of_labels_suit_what_is_thresholded(
    how: Literal["average", "vote"], splits: tuple[str, ...], tmp_path: Path
) -> None:
    classes = tuple("abcde")
    data = fakes.joined({s: make(160, seed=n) for n, s in enumerate((*splits, "test"))}, classes)
    asked = HeadRequest(solver="path", folds=4, ensemble=how)
    done = fit_head(data, asked, plan_head(data, asked))
    result, said = done.result, done.predictions
    found = calibration_of(result, said, classes)
    if how == "vote":
        assert (found.temperature, found.thresholds, found.held_out) == (None, None, None)
        at = {one["threshold"] for one in (result.multilabel or {})["classes"].values()}
        assert at == {0.5}
        assert "macro_f1_chosen" not in result.metrics["test"]
        p = done.head.predict_proba(data.splits["test"].features)
        assert (done.head.predict(data.splits["test"].features) == (p >= 0.5)).all()
        assert (p == 0.5).any()  # two of four
    else:
        assert found.temperature == result.temperature
        held_out = said[splits[-1] if "val" in splits else "oof"]
        assert found.held_out is held_out
        chosen = best_thresholds(held_out.probabilities.astype(float), held_out.labels)
        moved = apply_binary_temperature(
            np.log(chosen / (1 - chosen))[None], found.temperature or 1.0
        )[0]
        np.testing.assert_allclose(found.thresholds or (), moved, atol=1e-5)
    of_folds = calibration_of_folds(said)
    assert of_folds.held_out is said["oof"]
    assert of_folds.thresholds is not None
