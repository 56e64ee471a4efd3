"""Entries among the candidates: rows that meet by id, and what is refused where they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probe.bench.given import (
    Reference,
    given_source,
    named_entry,
    reference_of_entry,
    reference_of_images,
)
from probe.bundle.make import bundle_run
from probe.cache.features import FeatureSet
from probe.cache.interchange import export_features, import_features
from probe.cache.joining import Joined, join
from probe.cache.store import Store
from probe.cli.app import app
from probe.errors import BundleError, DataError, ProbeError, UnknownNameError, UsageError
from probe.extraction.extract import extract_features
from probe.runs.results import read_run
from tests.fakes import FakeEngine, Silent, make_dataset, make_job

Change = Callable[[dict[str, Any]], dict[str, Any]]
IMAGES = make_dataset(train=120, test=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one extracted entry, and its export beside it."""
    folder = tmp_path_factory.mktemp("given")
    job = make_job(IMAGES)
    job = replace(job, provenance={**job.provenance, "size": 8, "weights": "random:0"})
    (made,) = extract_features(job, Store(folder), FakeEngine, Silent(), workers=1)
    export_features(made, folder / "toy.npz")
    return folder


def imported(folder: Path, name: str, change: Change = dict, **options: Any) -> Joined:
    """Import the export once more, changed."""
    with np.load(folder / "toy.npz") as file:
        arrays = change(dict(file))
    path = folder / f"{name}.npz"
    np.savez(path, **arrays)
    store = Store(folder)
    entry = import_features([path], store, backbone=name, **options)
    return join(store, store.choose(entry.name))


def renamed(arrays: dict[str, Any]) -> dict[str, Any]:
    """Give each row the id that a folder's image would have."""
    for split in ("train", "test"):
        names = arrays[f"{split}_ids"].tolist()
        arrays[f"{split}_ids"] = np.array([f"img/{name}.png" for name in names])
    return arrays


def turned(arrays: dict[str, Any]) -> dict[str, Any]:
    for role in ("features", "labels", "ids"):
        arrays[f"train_{role}"] = arrays[f"train_{role}"][::-1]
    return arrays


def images() -> Reference:
    return reference_of_images(IMAGES)


def test_an_export_keeps_its_names_and_is_another_entry(folder: Path) -> None:
    extracted = FeatureSet.open(Store(folder).choose("toy-resnet18-gap").path)
    again = import_features([folder / "toy.npz"], Store(folder))
    try:
        wanted = (extracted.key.backbone, extracted.key.layer, extracted.key.pool)
        assert (again.key.backbone, again.key.layer, again.key.pool) == wanted
        assert again.dataset == extracted.dataset
        assert again.name.rpartition("-")[0] == extracted.name.rpartition("-")[0]
        assert again.key.recipe != extracted.key.recipe  # nothing proves how it was made
        assert again.key.parameters == "unknown"
    finally:
        Store(folder).discard(again.path)


def test_rows_meet_the_images_by_id_whatever_their_order(folder: Path) -> None:
    plain, other = imported(folder, "plain"), imported(folder, "turned", turned)
    for joined in (plain, other):
        source = given_source(joined, images())
        assert source.kind == "imported"
        for name, split in IMAGES.splits.items():
            own = source.splits[name]
            assert np.array_equal(own.features, plain.splits[name].features)
            assert np.array_equal(own.labels, split.labels)
            assert np.array_equal(own.content, split.images.content())  # copies are known as such


def test_more_rows_than_images_are_left_out(folder: Path) -> None:
    whole = imported(folder, "whole")
    few = make_dataset(train=120, test=30)
    train = few.splits["train"]
    short = replace(train, ids=train.ids[:50], labels=train.labels[:50],
                    images=train.images.take(np.arange(50)))  # fmt: skip
    source = given_source(whole, reference_of_images(replace(few, splits={"train": short})))
    assert list(source.splits) == ["train"]
    assert np.array_equal(source.splits["train"].features, whole.splits["train"].features[:50])


def _of_other_labels(arrays: dict[str, Any]) -> dict[str, Any]:
    arrays["train_labels"] = np.roll(arrays["train_labels"], 1)
    return arrays


def _without_test(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in arrays.items() if not name.startswith("test")}


def _of_several(arrays: dict[str, Any]) -> dict[str, Any]:
    for split in ("train", "test"):
        arrays[f"{split}_labels"] = np.eye(3, dtype=np.uint8)[arrays[f"{split}_labels"]]
    return arrays


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "no features of 120 of the 120 train images, first 'train/00000' .its own ids"),
        (_of_other_labels, "for 120 of the 120 train images, first 'train/00000', 'cat' for 'ant'"),
        (_without_test, "it has no test rows, and toy has 30"),
        (_of_several, "it has several labels an image"),
        (lambda arrays: {**arrays, "classes": np.array(["bee", "ant", "cat"])},
         "classes are bee, ant, cat and those of toy are ant, bee, cat .*in that order"),
    ],
)  # fmt: skip
def test_rows_of_something_else_are_refused(folder: Path, change: Change, said: str) -> None:
    joined = imported(folder, "strange", change)
    with pytest.raises(DataError, match=said):
        given_source(joined, images())
    Store(folder).discard(joined.entry.path)


def test_an_extracted_entry_has_to_be_of_the_same_pictures(folder: Path) -> None:
    store = Store(folder)
    joined = join(store, store.choose("toy-resnet18-gap"))
    assert given_source(joined, images()).splits is joined.splits
    other = reference_of_images(
        replace(IMAGES, splits={"train": make_dataset(test=120).splits["test"]})
    )
    known = replace(other.splits["train"], ids=IMAGES.splits["train"].ids)
    with pytest.raises(DataError, match="same ids and other contents"):
        given_source(joined, replace(other, splits={"train": known}))


def test_a_row_number_is_no_id_and_that_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = reference_of_entry(imported(folder, "plain"))
    given_source(imported(folder, "bare"), first)
    assert "bare-gap" in caplog.text
    assert "holds no ids: its row k is taken for row k of toy-plain-gap" in caplog.text
    caplog.clear()
    named = imported(folder, "named", renamed)
    given_source(named, reference_of_entry(named))
    assert not caplog.text


def test_a_backbones_name_comes_before_an_entrys(folder: Path) -> None:
    store = Store(folder)
    imported(folder, "resnet18")  # an entry toy-resnet18-gap-... beside the extracted one
    imported(folder, "solo", dataset="resnet18")
    assert named_entry("resnet18", store) is None
    assert named_entry("resnet18@32", store) is None
    assert named_entry("nothing-like-it", store) is None
    assert named_entry("a/b", store) is None
    found = named_entry("resnet18-solo", store)
    assert found is not None
    assert found.name.startswith("resnet18-solo-gap-")
    with pytest.raises(UnknownNameError, match="more than one"):
        named_entry("toy-resnet18", store)


def bench(folder: Path, *more: str, code: int = 0) -> Any:
    arguments = ["bench", "--heads", "prototype", "--cache-dir", str(folder), "--json", *more]
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, ProbeError):
        raise done.exception
    assert done.exit_code == code, (done.exception, done.stderr)
    return json.loads(done.stdout)


def test_a_bench_of_entries_alone(folder: Path) -> None:
    def some(arrays: dict[str, Any], start: int) -> dict[str, Any]:
        return {
            name: one[:, start : start + 8] if name.endswith("features") else one
            for name, one in arrays.items()
        }

    imported(folder, "left", lambda arrays: some(arrays, 0))
    imported(folder, "right", lambda arrays: some(arrays, 8))
    imported(folder, "wrong", lambda arrays: _of_other_labels(some(arrays, 0)))
    found = bench(
        folder, "--backbones", "toy-left,toy-right,toy-wrong", "--concat", "toy-left+toy-right",
        code=1,
    )  # fmt: skip
    rows = {row["name"]: row for row in found["rows"]}
    assert [row["kind"] for row in rows.values()] == ["backbone", "imported", "imported", "concat"]
    left, right, both, wrong = (
        next(row for name, row in rows.items() if name.startswith(start) and ("+" in name) == plus)
        for start, plus in (
            ("toy-left", False), ("toy-right", False), ("toy-left", True), ("toy-wrong", False),
        )
    )  # fmt: skip
    assert wrong["status"] == "failed"
    assert "other labels" in wrong["reason"]
    assert both["feature_dim"] == 16
    assert right["cost"].get("parameters") is None
    result = read_run(folder / "runs" / left["run"])
    assert result.entry == left["name"]
    assert result.metrics["val"]["top1"] == left["metrics"]["val"]["top1"]
    assert found["comparisons"][0]["images"] == {"train": 120, "test": 30}

    with pytest.raises(BundleError, match="features were imported"):
        bundle_run(folder / "runs" / left["run"], folder / "out.probe", cache_dir=folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backbones", "toy-plain", "--limit", "3"), "--limit: speaks of images"),
        (("--backbones", "toy-plain", "--size", "32"), "--size: entries hold features"),
        (("--backbones", "toy-plain,vgg16"), "--dataset: vgg16 needs images"),
        (("--backbones", "toy-plane"), "the beginning of an entry's name"),
    ],
)
def test_what_makes_no_sense_is_one_line(folder: Path, options: tuple[str, ...], said: str) -> None:
    imported(folder, "plain")
    with pytest.raises(UsageError, match=said):
        bench(folder, *options)
