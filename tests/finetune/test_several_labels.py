"""Fine-tuning on images that may have several labels: a sigmoid each, mean average precision."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from probe.bundle import Bundle
from probe.cache.store import Store
from probe.errors import UsageError
from probe.evaluation.predictions import load_predictions
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.finetune.options import Options
from probe.finetune.promotion import begin
from probe.finetune.source import Places, open_source
from probe.heads import load_head
from probe.heads.history import load_history
from probe.runs.fit import HEAD, HeadRequest
from probe.runs.results import read_run
from tests.commands import probe
from tests.finetune.data import RUN, Silent, fit
from tests.several import LABELS, make_list


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder with a run on quarters that may have several labels."""
    folder = tmp_path_factory.mktemp("several")
    images = make_list(folder / "data", train=64, test=32)
    request = Request(
        backbone="resnet18", dataset=str(images), cache_dir=folder / "cache", weights="random:0",
        layers=("stage1",), size=32,
    )  # fmt: skip
    prepared = prepare(request)
    extract_features(
        prepared.job, Store(folder / "cache"), prepared.engine_for, Silent(), workers=1
    )
    fit(folder / "cache", RUN, HeadRequest(solver="path", grids={"C": (0.01, 0.1)}))
    return folder / "cache"


def test_it_begins_with_the_probes_figures_and_its_gradient(cache: Path, tmp_path: Path) -> None:
    source = open_source(cache / "runs" / RUN, Places(cache_dir=cache))
    begun = begin(source, Options(augment="none", label_smoothing=0.1), tmp_path)
    assert begun.score == pytest.approx(source.result.metrics["val"]["map"], abs=1e-6)
    assert begun.loss == pytest.approx(source.result.metrics["val"]["log_loss"], abs=1e-4)
    training = begun.training
    training.enter_stage(1)
    batch = next(training.batches(1, 0))
    labels = source.train.labels[batch.rows]
    np.testing.assert_allclose(batch.targets, 0.9 * labels + 0.05, atol=1e-6)
    loss, right = training.forward(batch, 1).asnumpy()
    head = load_head(cache / "runs" / RUN / HEAD)
    rows = source.train.take(batch.rows)
    features, p = training.predict(rows)
    z = head.decision_function(features)
    each = np.logaddexp(0, z) - batch.targets * z
    assert loss == pytest.approx(each.mean(), rel=1e-3)
    assert right == pytest.approx(((z > 0) == (labels == 1)).mean(), abs=0.02)
    slices = training.network.state.weights.slices(training.network.state.gradients)
    bias = slices["head.0.bias"].asnumpy()  # of the mean over images of the sum over labels
    np.testing.assert_allclose(bias, (p - batch.targets).mean(axis=0), atol=2e-3)


def test_a_promoted_run_is_a_run_and_becomes_a_bundle(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "promoted"
    shown = probe("promote", RUN, "--epochs", 2, "--batch-size", 16, "--augment", "none",
                  "--compare", "last-layer", "--out", out, "--cache-dir",
                  cache)  # fmt: skip
    assert "mAP" in shown
    assert "top-1" not in shown
    assert "repaired" not in shown
    result, history = read_run(out), load_history(out)
    assert [epoch.train_top1 for epoch in history] == [None, None]
    best = max(history, key=lambda one: one.val_map or 0)
    assert result.metrics["val"]["map"] == pytest.approx(best.val_map, abs=1e-6)
    assert result.multilabel is not None
    assert list(result.multilabel["classes"]) == list(LABELS)
    assert (out / "average_precision.png").is_file()
    with (out / "steps.csv").open(newline="") as file:
        assert next(csv.reader(file))[:4] == ["step", "epoch", "loss", "decisions"]
    gain = json.loads((out / "promotion.json").read_text())["gain"]["val"]
    assert gain["after"] == pytest.approx(result.metrics["val"]["map"])
    assert "repaired" not in gain
    made = json.loads(probe("bundle", out, "--out", tmp_path / "b", "--cache-dir", cache, "--json"))
    assert made["several"] is True
    kept = load_predictions(out)["test"]
    paths = [str(cache.parent / "data" / name) for name in kept.ids[:6].tolist()]
    bundle = Bundle.load(tmp_path / "b")
    head, chosen = load_head(out / HEAD), result.multilabel["classes"].values()
    p = head.predict_proba(bundle.features(np.stack([bundle.pack(one) for one in paths])))
    np.testing.assert_allclose(p, kept.probabilities[:6], atol=1e-4)
    given = p >= [one["threshold"] for one in chosen]
    assert [set(one) for one in bundle.labels(paths)] == [
        {name for name, has in zip(LABELS, row, strict=True) if has} for row in given
    ]
    page = tmp_path / "page.html"
    probe("report", out, "--cache-dir", cache, "--out", page)
    assert page.stat().st_size > 1_000_000


def test_classes_are_not_drawn_alike(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sampling balanced draws classes alike"):
        probe("promote", RUN, "--sampling", "balanced", "--cache-dir", cache, "--dry-run")
    probe("promote", RUN, "--show-batch", tmp_path / "b.png", "--cache-dir", cache)
    assert (tmp_path / "b.png").stat().st_size > 5000
