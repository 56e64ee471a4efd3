"""A promoted run as a bundle: its own network, and what it remembers of training images."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from probe.bundle import Bundle
from probe.bundle.files import CARD
from probe.bundle.make import bundle_run
from probe.bundle.make.source import source_of
from probe.bundle.make.training import forwarded_training
from probe.cache.joining import join
from probe.cache.store import Store
from probe.core.records import write_record
from probe.datasets import load_dataset
from probe.evaluation.predictions import load_predictions
from probe.extraction.extract import extract_features
from probe.extraction.request import Request, prepare
from probe.runs.fit import HeadRequest
from probe.runs.results import read_run
from probe.weights.resolve import BACKBONE_KEY
from probe.weights.safetensors_file import write_safetensors
from probe.weights.tensors import PREPROCESS_KEY
from tests.fakes import Silent
from tests.finished import make_run, save_digits


def promoted(run: Path, bundle: Bundle, out: Path) -> tuple[Path, str]:
    """Copy a run as if it had been fine-tuned; return it and the parameter that was changed."""
    shutil.copytree(run, out)
    tuned = dict(bundle.parameters())
    first = sorted(name for name in tuned if name.endswith("weight"))[0]
    tuned[first] = tuned[first] * np.float32(1.01)  # so that it is not the frozen one
    write_safetensors(
        out / "backbone.safetensors",
        tuned,
        {name: array.shape for name, array in tuned.items()},
        {
            BACKBONE_KEY: "efficientnet_lite0",
            PREPROCESS_KEY: json.dumps(bundle.networks[0].preprocess.to_json()),
        },
    )
    result = json.loads((out / "result.json").read_text())
    write_record(out / "result.json", {**result, "head": "promoted"})
    return out, first


def test_it_has_its_own_network_and_forwards_training_images_for_the_distance(
    digits_cache: Path, digits_run: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    run, first = promoted(digits_run, Bundle.load(digits_bundle), tmp_path / "run")
    seen: list[tuple[int, int]] = []
    made = bundle_run(
        run, tmp_path / "b", cache_dir=digits_cache, on_rows=lambda *done: seen.append(done)
    )
    frozen = Bundle.load(digits_bundle).parameters()[first]
    assert not np.array_equal(made.parameters()[first], frozen)
    assert "fine-tuned" in (tmp_path / "b" / CARD).read_text()
    assert seen[-1] == (300, 300)
    assert made.neighbours is not None
    assert made.about.rejection is not None
    assert made.about.rejection.confidence is not None
    assert made.about.rejection.distance_rows == 90
    digits = load_dataset("digits", cache_dir=tmp_path, limit=300).splits["train"]
    held_out = set(load_predictions(run)["val"].ids.tolist())
    kept = next(row for row, one in enumerate(digits.ids) if one not in held_out)
    own = made.features(made.pack(digits.images.image(kept))[None])
    assert made.neighbours.nearest(own, 1)[0][0, 0] < 0.02  # itself, but for float16


def test_where_the_images_are_gone_it_says_what_to_run(
    digits_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    for row, path in enumerate(save_digits(tmp_path / "all", 60)):
        place = photos / "train" / str(row % 2) / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    request = Request(backbone="efficientnet_lite0", dataset=str(photos), size=32, cache_dir=cache)
    prepared = prepare(request)
    extract_features(prepared.job, Store(cache), prepared.engine_for, Silent(), workers=1)
    head = make_run(cache, HeadRequest(solver="prototype"))
    run, _ = promoted(head, Bundle.load(digits_bundle), tmp_path / "run")
    next(photos.rglob("*.png")).write_bytes(b"another")
    store = Store(cache)
    joined = join(store, store.choose(None))
    source = source_of(run, read_run(run), joined.entry, None, cache)
    with caplog.at_level(logging.WARNING):
        found = forwarded_training(source, joined, cache, lambda _done, _total: None)
    assert found is None
    (told,) = [
        one.getMessage() for one in caplog.records if "out-of-distribution" in one.getMessage()
    ]
    assert "are not those the features were made of" in told
    assert f"--weights {run / 'backbone.safetensors'} --dataset {photos}" in told
