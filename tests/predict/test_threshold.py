"""A threshold from the run to the bundle's answers, over real weights: even and odd digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle import Bundle
from probe.bundle.about import ABOUT, About, seal_of
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.errors import BundleError, UsageError
from probe.evaluation.two_classes import Threshold
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.predict import Predictor, predict_images
from probe.predict.evaluate import evaluate
from probe.runs.fit import HeadRequest
from probe.runs.results import read_run
from tests.fakes import Silent
from tests.finished import make_bundle, make_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return the images, a run on them that finds 90 % of odd digits, and its bundle."""
    folder = tmp_path_factory.mktemp("threshold")
    digits = load_dataset("digits", cache_dir=folder, limit=240).splits["train"]
    for row, label in enumerate(digits.labels.tolist()):
        place = folder / "images" / ("odd" if label % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images.image(row)).save(place / f"{row:03d}.png")
    request = Request(
        backbone="efficientnet_lite0", dataset=str(folder / "images"), size=32,
        cache_dir=folder / "cache",
    )  # fmt: skip
    prepared = prepare(request)
    extract_features(
        prepared.job, Store(folder / "cache"), prepared.engine_for, Silent(), workers=1
    )
    run = make_run(folder / "cache", HeadRequest(solver="path", params={"C": 1e-4}, recall=0.9))
    return folder / "images", run, make_bundle(folder / "cache", run, folder / "bundle")


def test_a_bundle_answers_by_the_runs_threshold(finished: tuple[Path, Path, Path]) -> None:
    images, run, path = finished
    bundle, two = Bundle.load(path), read_run(run).two_classes
    assert two is not None
    threshold = bundle.about.threshold
    assert threshold is not None
    assert (threshold.positive, threshold.recall, threshold.split) == ("odd", 0.9, "val")
    temperature = bundle.about.temperature or 1.0
    assert threshold.log_odds == two["threshold"]["log_odds"] / temperature
    paths = [str(one) for one in sorted(images.rglob("*.png"))[:40]]
    p = bundle.predict_proba(paths)
    expected = np.where(np.log(p[:, 1] / p[:, 0]) >= threshold.log_odds, "odd", "even")
    assert (expected != np.where(p[:, 1] > 0.5, "odd", "even")).any()
    assert bundle.predict(paths) == expected.tolist()
    told = list(predict_images(Predictor([bundle]), paths))
    assert [one.labels[0] for one in told] == expected.tolist()  # type: ignore[union-attr]
    assert all(len(one.labels) == 2 for one in told)  # type: ignore[union-attr]
    assert "odd from a probability of" in (path / "README.md").read_text()


def test_evaluate_tells_figures_at_the_threshold(finished: tuple[Path, Path, Path]) -> None:
    images, _, path = finished
    found = load_dataset(str(images), cache_dir=images.parent / "cache")
    store = Store(images.parent / "cache")
    predictor = Predictor([Bundle.load(path)], store=store)
    split = found.splits["train"]
    outcome = evaluate(predictor, split, found.classes)
    two = outcome.to_json()["two_classes"]
    own = split.labels == 1
    said = np.array([name == "odd" for name in predictor.bundles[0].predict(
        [str(images / one) for one in split.ids]
    )])  # fmt: skip
    figures = two["at_threshold"]["figures"]
    assert figures["recall"] == pytest.approx((said & own).sum() / own.sum())
    assert figures["precision"] == pytest.approx((said & own).sum() / said.sum())
    rejection = predictor.bundles[0].about.rejection
    assert rejection is not None
    p = predictor.bundles[0].predict_proba([str(images / one) for one in split.ids])
    sure = p.max(axis=1) >= (rejection.confidence or 0)
    if not outcome.out_of_distribution:  # as top-1 counts, not by the threshold
        expected = (p.argmax(axis=1) == split.labels)[sure].mean()
        assert outcome.top1_answered == pytest.approx(expected)
    assert outcome.baseline is not None
    assert outcome.baseline["top1"] == max(own.mean(), 1 - own.mean())
    with pytest.raises(UsageError, match="threshold for odd"):
        evaluate(predictor, split, found.classes, positive="even")
    with pytest.raises(UsageError, match="answers alone"):
        Predictor([predictor.bundles[0]] * 2)
    with pytest.raises(UsageError, match="not votes"):
        Predictor(predictor.bundles, combination="vote")


@pytest.mark.parametrize(
    "change",
    [{"positive": "none"}, {"log_odds": "x"}, {"recall": 2}, {"odd": 1}, {"positives": 0}],
)
def test_a_threshold_that_makes_no_sense_is_refused(
    finished: tuple[Path, Path, Path], change: dict[str, object]
) -> None:
    data = json.loads((finished[2] / ABOUT).read_text())
    data.pop("seal")
    data["threshold"] |= change
    text = json.dumps({**data, "seal": seal_of(data)}).encode()
    with pytest.raises(BundleError, match="makes no sense"):
        About.from_json(text, "here")


def test_a_bundle_without_a_threshold_is_written_as_before(
    finished: tuple[Path, Path, Path],
) -> None:
    data = json.loads((finished[2] / ABOUT).read_text())
    data.pop("seal")
    del data["threshold"]
    about = About.from_json(json.dumps({**data, "seal": seal_of(data)}).encode(), "here")
    assert about.threshold is None
    assert "threshold" not in json.loads(about.to_json())


def test_a_threshold_for_costs_is_kept_and_checked(finished: tuple[Path, Path, Path]) -> None:
    chosen = Threshold(
        positive="odd", log_odds=-0.5, split="val", positives=40, false_positive=1,
        false_negative=5, expected=0.2, low=0.1, high=0.4,
    )  # fmt: skip
    data = json.loads((finished[2] / ABOUT).read_text())
    data.pop("seal")

    def read(threshold: dict[str, object]) -> About:
        text = {**data, "threshold": threshold}
        return About.from_json(json.dumps({**text, "seal": seal_of(text)}).encode(), "here")

    about = read(chosen.to_dict())
    assert about.threshold == chosen
    assert json.loads(about.to_json())["threshold"] == chosen.to_dict()
    assert "a false negative 5; expected cost an image 0.2 (0.1 to 0.4" in chosen.words()
    for change in ({"false_positive": -1}, {"expected": "x"}, {"always": "none"}):
        with pytest.raises(BundleError, match="makes no sense"):
            read(chosen.to_dict() | change)
