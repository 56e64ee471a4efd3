"""An entry's rows all come from one engine, whatever was interrupted, added or asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import probe
from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.datasets.spec import Dataset
from probe.errors import UsageError
from probe.extraction.extract import extract_features
from probe.extraction.job import Job
from tests.cache.toy import Failing, StoppedError
from tests.commands import probe_json
from tests.fakes import FakeEngine, Silent, make_dataset, make_job
from tests.needs import EVERY_ENGINE, needs_mxnet

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def extract(cache: Path, count: int, **options: object) -> FeatureSet:
    labels = np.arange(count) % 2
    return probe.extract(
        (PIXELS[:count], labels), "resnet18", name=f"{count} images", weights="random:0",
        cache_dir=cache, quiet=True, **{"size": 32, **options},
    )  # fmt: skip


@needs_mxnet
def test_auto_takes_the_engine_that_made_most_of_the_rows(tmp_path: Path) -> None:
    assert extract(tmp_path, 4).provenance["engine"] == "onnx"
    assert extract(tmp_path, 20, engine="mxnet").provenance["engine"] == "mxnet"
    grown = extract(tmp_path, 30)
    assert grown.provenance["engine"] == "mxnet"
    assert grown.seal[1] == 10
    assert extract(tmp_path, 30).path == grown.path  # found
    assert extract(tmp_path, 30, engine="onnx").provenance["engine"] == "mxnet"  # found as well


@needs_mxnet
def test_auto_goes_on_with_the_engine_that_began_however_few_rows_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.engines.mxnet.engine import MxnetEngine

    wide = {"layer": "stage1", "pool": "none", "size": 64, "batch_size": 8}  # blocks of 16 rows
    collect, calls = MxnetEngine.collect, []

    def stop(self: MxnetEngine, ticket: object) -> object:
        calls.append(ticket)
        if len(calls) == 4:
            raise StoppedError
        return collect(self, ticket)

    with monkeypatch.context() as patched:
        patched.setattr(MxnetEngine, "collect", stop)
        with pytest.raises(StoppedError):
            extract(tmp_path, 40, engine="mxnet", **wide)
    entry = extract(tmp_path, 40, **wide)
    assert entry.provenance["engine"] == "mxnet"
    assert entry.seal[1] == 24


@needs_mxnet
def test_rows_of_another_engine_are_forwarded_again_and_agree(tmp_path: Path) -> None:
    first = extract(tmp_path, 20, engine="mxnet")
    other = extract(tmp_path, 24, engine="onnx")
    assert other.provenance["engine"] == "onnx"
    assert other.seal[1] == 24
    found, expected = other["train"].features[:20], first["train"].features
    norms = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(found - expected, axis=1) / norms).max() < 1e-4


@pytest.mark.parametrize("made", EVERY_ENGINE)
@pytest.mark.parametrize("checks", EVERY_ENGINE)
def test_rows_are_checked_by_every_engine_and_more_strictly_by_their_own(
    made: str, checks: str, tmp_path: Path
) -> None:
    probe.extract(
        "digits", "resnet18", weights="random:0", size=32, limit=30, engine=made, device="cpu",
        cache_dir=tmp_path, quiet=True,
    )  # fmt: skip
    found = probe_json(
        "cache", "verify", "--sample", 10, "--engine", checks, "--device", "cpu",
        "--cache-dir", tmp_path,
    )["entries"][0]  # fmt: skip
    told = found["sample"]
    assert found["good"]
    assert (told["made_by"], told["checked_by"]) == (made, checks)
    assert told["tolerance"] == (1e-5 if made == checks else 1e-4)
    assert told["relative"] < 1e-5
    assert (told["relative"] < 1e-7) is (made == checks)
    usual = probe_json("cache", "verify", "--sample", 10, "--cache-dir", tmp_path)["entries"][0]
    assert usual["sample"]["checked_by"] == made


def test_an_engine_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--engine torch: expected auto, onnx, openvino or mxnet"):
        extract(tmp_path, 4, engine="torch")
    assert not list(tmp_path.glob("features/*"))


def job_of(dataset: Dataset, engine: str) -> Job:
    job = make_job(dataset)
    return replace(job, provenance={**job.provenance, "engine": engine})


@pytest.mark.parametrize(("engine", "rows"), [("mxnet", 318), ("onnx", 830)])
def test_what_one_engine_began_is_not_ended_by_the_other(
    engine: str, rows: int, tmp_path: Path
) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    with pytest.raises(StoppedError):
        extract_features(
            job_of(dataset, "mxnet"), store, lambda cuts: Failing(cuts, 16), Silent(), workers=1
        )
    observer = Silent()
    (entry,) = extract_features(job_of(dataset, engine), store, FakeEngine, observer, workers=1)
    assert observer.forwarded == rows
    assert entry.provenance["engine"] == engine
    entry.verify()


def test_the_shorter_side_is_a_number_for_several_layers_too(tmp_path: Path) -> None:
    labels, options = np.arange(4) % 2, {"weights": "random:0", "size": 32, "quiet": True}
    (several,) = probe.extract_layers(
        (PIXELS[:4], labels), "resnet18", ["gap"], resize=40, cache_dir=tmp_path / "a", **options
    )
    alone = extract(tmp_path / "b", 4, resize="40")
    assert several.key == alone.key
    assert several.key != extract(tmp_path / "b", 4).key
