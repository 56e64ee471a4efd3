"""Which weights are meant, where they are, and who decides their preprocessing."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo, stamp_of
from probe.errors import UsageError, WeightsError, WeightsNotFoundError
from probe.preprocess.spec import CAFFE_BGR, EFFICIENTNET_LITE, TORCHVISION, PreprocessSpec
from probe.weights import (
    WEIGHTS,
    ResolvedWeights,
    open_tensors,
    resolve_weights,
    why_not,
)
from probe.weights.digest import Digests, file_digests
from tests.weights import published, writers
from tests.weights.helpers import draw, lite0_file, shared

ARRAYS = {"features.0.weight": np.ones((2, 3), np.float32)}


def resolve(
    tmp_path: Path, backbone: str, argument: str, preprocess: PreprocessSpec | None = None
) -> ResolvedWeights:
    return resolve_weights(
        BACKBONES[backbone],
        argument,
        cache_dir=tmp_path / "cache",
        memo=Memo(tmp_path / "memo.sqlite"),
        preprocess=preprocess,
    )


def test_a_known_file_brings_its_preprocessing(tmp_path: Path) -> None:
    found = resolve(tmp_path, "vgg16", str(shared("weights", "vgg16_imagenet_notop.h5")))
    assert (found.preprocess, found.decided_by) == (CAFFE_BGR, "known digest")
    assert found.spec is WEIGHTS["vgg16.keras1_notop"]


def test_auto_takes_the_installed_package(tmp_path: Path) -> None:
    lite0_file()
    found = resolve(tmp_path, "efficientnet_lite0", "auto")
    assert (found.name, found.preprocess) == ("efficientnet_lite0.pytorch", EFFICIENTNET_LITE)
    named = resolve(tmp_path, "efficientnet_lite0", "efficientnet_lite0.pytorch")
    assert named == found


def test_auto_takes_the_cache_folder_before_a_package(tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "weights" / "efficientnet-lite0-57934424.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(lite0_file(), cached)
    assert resolve(tmp_path, "efficientnet_lite0", "auto").path == cached
    cached.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="its digest is not that of"):
        resolve(tmp_path, "efficientnet_lite0", "auto")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("squeezenet1_1.torchvision_v1", "TORCH_HOME/hub/checkpoints"),
        ("vgg16.keras", "KERAS_HOME/models"),
        ("resnet50_v2.gluon", "MXNET_HOME/models"),
    ],
)
def test_auto_looks_where_frameworks_keep_their_downloads(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    spec = WEIGHTS[name]
    variable, _, inside = place.partition("/")
    path = tmp_path / inside / spec.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"an older file of that name")
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match=f"no weights for {spec.backbone} found"):
        resolve(tmp_path, spec.backbone, "auto")
    assert "but another digest" in caplog.text
    digests = Digests(spec.sha256.ljust(64, "0"), spec.md5, spec.sha1)
    monkeypatch.setattr("probe.weights.resolve.file_digests", lambda path, memo: digests)
    found = resolve(tmp_path, spec.backbone, "auto")
    assert (found.name, found.path, found.preprocess) == (name, path, spec.preprocess)


def test_auto_says_where_it_looked_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError) as raised:
        resolve(tmp_path, "resnet50", "auto")
    message = str(raised.value)
    for part in (
        str(tmp_path / "cache" / "weights"),
        "resnet50-0676ba61.pth",
        "--weights FILE",
        "--weights random:0",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    ):
        assert part in message
    assert "\n" not in message
    with pytest.raises(WeightsNotFoundError, match=r"put resnet50_v2-ecdde353.params into"):
        resolve(tmp_path, "resnet50_v2", "auto")


def test_a_known_file_of_another_backbone_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"this is vgg16.keras1_notop, weights of vgg16, not of vgg19"
    ):
        resolve(tmp_path, "vgg19", str(shared("weights", "vgg16_imagenet_notop.h5")))


def test_the_basic_resnets_share_their_published_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="resnet18-f37072fd"):
        resolve(tmp_path, "resnet18_v1", "auto")


def test_names_of_the_catalog_are_checked(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="are weights of resnet50, not of vgg16"):
        resolve(tmp_path, "vgg16", "resnet50.torchvision_v1")
    with pytest.raises(WeightsNotFoundError, match=r"not on this machine; run `probe"):
        resolve(tmp_path, "resnet50", "resnet50.torchvision_v1")
    with pytest.raises(WeightsNotFoundError, match="neither a file nor a name in the catalog"):
        resolve(tmp_path, "resnet50", "resnet50.nowhere")


@pytest.mark.parametrize(
    ("backbone", "write", "likely"),
    [
        ("vgg16", writers.write_keras, "caffe_bgr"),
        ("resnet50", writers.write_torch_zip, "torchvision"),
        ("resnet50", writers.write_gluon, "gluon"),
        ("inception_v3", writers.write_safetensors, "torchvision_inception"),
        ("efficientnet_lite0", writers.write_torch_stream, "efficientnet_lite"),
    ],
)
def test_an_unknown_file_needs_a_preprocessing_the_likely_one_named(
    backbone: str,
    write,
    likely: str,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    path = tmp_path / "mine"
    write(path, {"c/kernel": np.ones((2, 3), np.float32)})
    with pytest.raises(UsageError, match=f"--preprocess {likely},"):
        resolve(tmp_path, backbone, str(path))
    found = resolve(tmp_path, backbone, str(path), TORCHVISION)
    assert (found.preprocess, found.decided_by, found.name) == (TORCHVISION, "asked for", "mine")


def test_a_preprocessing_inside_the_file_is_used(tmp_path: Path) -> None:
    spec = replace(CAFFE_BGR, name="mine", size=96)
    note = {"probe.preprocess": json.dumps(spec.to_json())}
    path = writers.write_safetensors(tmp_path / "w.safetensors", ARRAYS, note)
    found = resolve(tmp_path, "vgg16", str(path))
    assert (found.preprocess, found.decided_by) == (spec, "inside the file")
    bad = writers.write_safetensors(tmp_path / "b.safetensors", ARRAYS, {"probe.preprocess": "[1"})
    with pytest.raises(WeightsError, match="not a preprocessing"):
        resolve(tmp_path, "vgg16", str(bad))


def test_a_contradicting_preprocessing_is_used_and_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(shared("weights", "vgg16_imagenet_notop.h5"))
    with caplog.at_level(logging.WARNING):
        assert resolve(tmp_path, "vgg16", path, TORCHVISION).preprocess == TORCHVISION
        assert len(caplog.records) == 1
        assert "caffe_bgr" in caplog.text
        resolve(tmp_path, "vgg16", path, replace(CAFFE_BGR, name="the same"))
        assert len(caplog.records) == 1


def test_random_weights_are_asked_for_by_name(tmp_path: Path) -> None:
    found = resolve(tmp_path, "inception_v3", "random:7")
    assert (found.path, found.seed, found.name, found.preprocess.size) == (None, 7, "random:7", 299)
    for bad in ("random", "random:", "random:-1", "random:x", "random:99999999999", "random:²"):
        with pytest.raises(UsageError, match="a seed is a whole number"):
            resolve(tmp_path, "inception_v3", bad)


def test_resolved_weights_load_and_tell_their_digest(tmp_path: Path) -> None:
    backbone, memo = BACKBONES["squeezenet1_1"], Memo(tmp_path / "memo.sqlite")
    found = resolve(tmp_path, backbone.name, "random:0")
    layer = backbone.layers[0]
    assert found.load(backbone, layer).digest == found.digest(backbone, layer, memo)
    assert found.held(backbone, memo)[-1] == "gap"


def test_file_digests_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memo = tmp_path / "w", Memo(tmp_path / "memo.sqlite")
    path.write_bytes(b"a")
    os.utime(path, (1, 1))
    first = file_digests(path, memo)
    assert first[1] == "0cc175b9c0f1b6a831c399e269772661"
    with monkeypatch.context() as patch:  # nothing but the stamp is looked at
        patch.setattr("probe.weights.digest.hash_file", lambda _: ("read", "it", "again"))
        assert file_digests(path, memo) == first
    path.write_bytes(b"b")
    os.utime(path, (2, 2))
    assert file_digests(path, memo) != first


def test_a_file_says_which_backbones_it_fits_not_and_why(tmp_path: Path) -> None:
    path = writers.write_torch_zip(tmp_path / "s.pth", draw(published.squeezenet("squeezenet1_1")))
    reasons = why_not(open_tensors(path))
    assert "squeezenet1_1" not in reasons
    assert next(iter(reasons)) == "squeezenet1_0"
    assert "features.0.weight is 64x3x3x3, expected 96x3x7x7" in reasons["squeezenet1_0"]
    assert all("\n" not in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("write", "hashed"), [(writers.write_safetensors, False), (writers.write_torch_zip, True)]
)
def test_a_file_of_a_format_that_nobody_publishes_is_not_hashed(
    write: Callable[..., Path], hashed: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "weights", ARRAYS)
    os.utime(path, (0, 0))  # what changed in the last seconds is not remembered
    assert resolve(tmp_path, "resnet18", str(path), TORCHVISION).name == "weights"
    known = Memo(tmp_path / "memo.sqlite").get_many("sha256+md5+sha1", {str(path): stamp_of(path)})
    assert bool(known) == hashed
