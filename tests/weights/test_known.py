"""Known answers: right weights pass, each wrong preprocessing is caught, users add their own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.engines import forward
from probe.errors import WeightsError
from probe.preprocess.spec import TORCHVISION, PreprocessSpec
from probe.weights import (
    WEIGHTS,
    ResolvedWeights,
    check_first_use,
    check_weights,
    class_names,
    convert_weights,
    record_answer,
    require_agreement,
    resolve_weights,
    verified_by,
)
from probe.weights import check as check_module
from probe.weights.check import TOLERANCE, find_answer, project
from probe.weights.known import recorded_answers, shipped_answers
from tests.weights import writers
from tests.weights.helpers import lite0_file, shared


def at_hand(
    which: str, tmp_path: Path, preprocess: PreprocessSpec | None = None
) -> ResolvedWeights:
    path = lite0_file() if which != "vgg16" else shared("weights", "vgg16_imagenet_notop.h5")
    return resolve_weights(
        BACKBONES[which], str(path), cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"),
        preprocess=preprocess,
    )  # fmt: skip


REAL = ["vgg16", "efficientnet_lite0"]


@pytest.mark.parametrize("which", REAL)
def test_the_weights_at_hand_give_their_known_answer(which: str, tmp_path: Path) -> None:
    weights, memo = at_hand(which, tmp_path), Memo(tmp_path / "memo.sqlite")
    verdict = check_weights(weights, BACKBONES[which], cache_dir=tmp_path, memo=memo)
    assert verdict.agrees
    assert verdict.deviation is not None
    assert verdict.deviation < TOLERANCE
    assert len(verdict.now.projection[0]) * 2 == 32
    require_agreement(verdict, weights)


def swapped(spec: PreprocessSpec) -> PreprocessSpec:
    return replace(spec, channels="RGB" if spec.channels == "BGR" else "BGR")


WRONG = {
    "channels swapped": swapped,
    "channels and means swapped": lambda spec: replace(swapped(spec), mean=spec.mean[::-1]),
    "[0, 1] fed for 0-255": lambda spec: replace(spec, scale=spec.scale / 255),
    "mean left out": lambda spec: replace(spec, mean=(0.0, 0.0, 0.0)),
    "mean of another set": lambda spec: replace(spec, mean=(123.68, 103.939, 116.779)),
    "torchvision's": lambda _: TORCHVISION,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("which", REAL)
def test_each_wrong_preprocessing_is_caught(
    which: str, wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # that it contradicts the catalog is told beside
    spec = WRONG[wrong](at_hand(which, tmp_path).preprocess)
    weights = at_hand(which, tmp_path, spec)
    with pytest.raises(WeightsError, match=r"are off by \d+ % .* take --preprocess") as raised:
        check_first_use(
            weights, BACKBONES[which], cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite")
        )
    assert "\n" not in str(raised.value)
    differing = [f for f in ("channels", "scale", "mean", "std") if f"{f} is" in str(raised.value)]
    native = at_hand(which, tmp_path).preprocess
    assert differing == [
        f for f in ("channels", "scale", "mean", "std") if getattr(spec, f) != getattr(native, f)
    ]


@pytest.mark.parametrize("which", REAL)
def test_other_pixels_of_another_decoder_pass_and_wrong_channels_still_do_not(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    real = check_module.photographs

    def noisy(spec: PreprocessSpec) -> np.ndarray:
        noise = generator.integers(-1, 2, (2, spec.size, spec.size, 3))
        return np.clip(real(spec) + noise, 0, 255).astype(np.uint8)

    monkeypatch.setattr(check_module, "photographs", noisy)
    memo = Memo(tmp_path / "memo.sqlite")
    weights = at_hand(which, tmp_path)
    verdict = check_weights(weights, BACKBONES[which], cache_dir=tmp_path, memo=memo)
    assert verdict.deviation is not None
    assert TOLERANCE < verdict.deviation < verdict.tolerance
    assert verdict.agrees
    wrong = replace(weights, preprocess=swapped(weights.preprocess))
    assert not check_weights(wrong, BACKBONES[which], cache_dir=tmp_path, memo=memo).agrees


def test_resizing_is_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the arithmetic is the weights' own; people feed other sizes and crops on purpose."""
    other = replace(at_hand("vgg16", tmp_path).preprocess, resize="crop", size=96, antialias=True)
    check_first_use(
        at_hand("vgg16", tmp_path, other), BACKBONES["vgg16"],
        cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"),
    )  # fmt: skip


def test_a_copy_in_another_format_is_recognised_and_a_wrong_conversion_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, memo = at_hand("vgg16", tmp_path), Memo(tmp_path / "memo.sqlite")
    backbone = BACKBONES["vgg16"]
    copy = convert_weights(weights, backbone, tmp_path / "copy.safetensors").path
    copied = resolve_weights(backbone, str(copy), cache_dir=tmp_path, memo=memo, preprocess=None)
    assert copied.preprocess == weights.preprocess
    assert find_answer(copied, backbone, cache_dir=tmp_path, memo=memo) is shipped_answers()[1]

    def flipped(self: ResolvedWeights, *args: object) -> object:
        loaded = load(self, *args)  # type: ignore[arg-type]
        kernel = loaded.parameters["features.0.weight"]
        return replace(
            loaded, parameters={**loaded.parameters, "features.0.weight": kernel[:, :, ::-1]}
        )

    load = ResolvedWeights.load
    monkeypatch.setattr(ResolvedWeights, "load", flipped)
    verdict = check_weights(weights, backbone, cache_dir=tmp_path, memo=memo)
    with pytest.raises(WeightsError, match="the conversion or the network is at fault"):
        require_agreement(verdict, weights)


def squeezenet(tmp_path: Path) -> ResolvedWeights:
    """Weights that nobody published, so that nobody can have verified them."""
    path = tmp_path / "mine.params"
    if not path.exists():
        from probe.weights import random_parameters

        spec = BACKBONES["squeezenet1_1"]
        writers.write_gluon(path, random_parameters(1, spec, spec.logits).parameters)
        os.utime(path, (1, 1))
    return resolve_weights(
        BACKBONES["squeezenet1_1"], str(path), cache_dir=tmp_path,
        memo=Memo(tmp_path / "memo.sqlite"), preprocess=TORCHVISION,
    )  # fmt: skip


def test_a_users_own_answer_is_recorded_and_used(tmp_path: Path) -> None:
    weights, memo = squeezenet(tmp_path), Memo(tmp_path / "memo.sqlite")
    backbone = BACKBONES["squeezenet1_1"]
    first = check_weights(weights, backbone, cache_dir=tmp_path, memo=memo)
    assert first.answer is None
    assert len(first.now.top5[0]) == 5
    check_first_use(weights, backbone, cache_dir=tmp_path, memo=memo)  # nothing to hold it against
    path = record_answer(first.now, tmp_path)
    assert path == tmp_path / "weights" / "known.json"
    assert recorded_answers(tmp_path) == (first.now,)
    record_answer(first.now, tmp_path)
    assert len(recorded_answers(tmp_path)) == 1
    assert check_weights(weights, backbone, cache_dir=tmp_path, memo=memo).agrees
    wrong = replace(weights, preprocess=swapped(weights.preprocess))
    with pytest.raises(WeightsError, match="channels is BGR, not RGB"):  # not remembered as right
        check_first_use(wrong, backbone, cache_dir=tmp_path, memo=memo)


def test_an_answer_of_which_a_digit_flipped_is_damaged_and_refuses_no_weights(
    tmp_path: Path,
) -> None:
    """It would be said of weights that are right that their features differ."""
    answer = shipped_answers()[0]
    path = record_answer(answer, tmp_path)
    text, value = path.read_text(), repr(answer.projection[0][0])
    assert recorded_answers(tmp_path) == (answer,)
    path.write_text(text.replace(value, value[:-1] + str(9 - int(value[-1]))))
    with pytest.raises(WeightsError, match=r"changed since it was written; remove it and record"):
        recorded_answers(tmp_path)
    older = re.sub(r',\s*"blake2b": "\w+"', "", text)
    assert older != text
    path.write_text(older)
    assert recorded_answers(tmp_path) == (answer,)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"schema": 1, "answers": [{}]}'])
def test_damaged_answers_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "known.json").write_text(text)
    with pytest.raises(WeightsError, match=r"known\.json: not known answers: "):
        recorded_answers(tmp_path)


def test_entries_nobody_could_run_are_unverified(tmp_path: Path) -> None:
    shipped = {name for name in WEIGHTS if verified_by(WEIGHTS[name], tmp_path) == "known answer"}
    assert shipped == {"efficientnet_lite0.pytorch", "vgg16.keras1_notop"}
    answer = replace(shipped_answers()[0], name="vgg19.keras")
    record_answer(answer, tmp_path)
    assert verified_by(WEIGHTS["vgg19.keras"], tmp_path) == "your answer"
    assert verified_by(WEIGHTS["vgg19.torchvision_v1"], tmp_path) == "unverified"


def test_a_checked_file_is_not_run_again_and_needs_no_mxnet(tmp_path: Path) -> None:
    weights, memo = squeezenet(tmp_path), Memo(tmp_path / "memo.sqlite")
    backbone = BACKBONES["squeezenet1_1"]
    now = check_weights(weights, backbone, cache_dir=tmp_path, memo=memo).now
    record_answer(now, tmp_path)
    check_first_use(weights, backbone, cache_dir=tmp_path, memo=memo)
    code = (
        "import sys; from pathlib import Path; from probe.core.memo import Memo\n"
        "from probe.backbones.catalog import BACKBONES\n"
        "from probe.preprocess.spec import TORCHVISION\n"
        "from probe.weights import check_first_use, resolve_weights\n"
        "folder, spec = Path(sys.argv[1]), BACKBONES['squeezenet1_1']\n"
        "memo = Memo(folder / 'memo.sqlite')\n"
        "weights = resolve_weights(spec, str(folder / 'mine.params'), cache_dir=folder, memo=memo,"
        " preprocess=TORCHVISION)\n"
        "check_first_use(weights, spec, cache_dir=folder, memo=memo)\n"
        "assert not {'mxnet', 'sklearn', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_projections_keep_distances_and_never_change() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 2048)).astype(np.float32)
    projected = project(rows)
    assert projected.shape == (50, 16)
    ratio = np.linalg.norm(projected, axis=1) * np.sqrt(2048 / 16) / np.linalg.norm(rows, axis=1)
    assert 0.8 < ratio.mean() < 1.2
    assert project(np.ones((1, 4), np.float32))[0, :6].tolist() == [-1, 0, 0, 1, 0, 0]


def test_class_names_are_imagenets() -> None:
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[207], names[698], names[985], names[999]) == (
        "tench", "golden retriever", "palace", "daisy", "toilet tissue",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18_v2", "resnet18"])
def test_logits_are_what_the_whole_network_gives(name: str, mx: Any) -> None:
    """The classifier can be run although no features are cut there."""
    from probe.weights import random_parameters
    from tests.zoo import zoo_network

    spec = BACKBONES[name]
    assert "logits" not in [layer.name for layer in spec.layers]
    parameters = random_parameters(0, spec, spec.logits).parameters
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    raw = replace(TORCHVISION, scale=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    (logits,) = forward(spec, parameters, [(spec.logits, "none")], raw, image)
    net = zoo_network(mx, name)
    net.initialize()
    for one, parameter in net._collect_params_with_prefix().items():
        parameter.shape = parameters[one].shape
        parameter.set_data(mx.nd.array(parameters[one]))
    x = mx.nd.array(image.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_allclose(logits, net(x).asnumpy(), rtol=1e-4, atol=1e-4)


def test_the_command_line_checks_records_and_lists(tmp_path: Path) -> None:
    squeezenet(tmp_path)

    def probe(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "probe", *arguments, "--cache-dir", str(tmp_path)],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    mine = ("weights", "check", str(tmp_path / "mine.params"))
    mine += ("--backbone", "squeezenet1_1", "--preprocess")
    recorded = json.loads(probe(*mine, "torchvision", "--record", "--json").stdout)
    assert recorded["status"] == "recorded"
    assert [len(row) for row in recorded["top5"]] == [5, 5]
    wrong = probe(*mine, "caffe_bgr", code=2)
    assert wrong.stderr.count("\n") == 1
    assert "channels is BGR, not RGB" in wrong.stderr
    listed = json.loads(probe("weights", "list", "--json").stdout)["weights"]
    assert {one["proof"] for one in listed} == {"known answer", "unverified"}
    assert all(one["md5"] or one["sha256"] or one["sha1"] for one in listed)


def test_the_list_says_everything_in_80_columns(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "probe", "weights", "list", "--cache-dir", str(tmp_path)],
        stdout=theirs, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    text = ""
    with contextlib.suppress(OSError):  # what Linux raises at a terminal's end
        while block := os.read(ours, 1 << 16):
            text += block.decode()
    os.close(ours)
    lines = text.splitlines()
    assert running.wait() == 0
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2 * len(WEIGHTS) + 1
    at = next(i for i, line in enumerate(lines) if line.startswith("resnet50.torchvision_v1 "))
    assert lines[at].split()[1:] == ["103", "MB", "76.13", "%", "-"]
    assert lines[at + 1].strip() == "torchvision, BSD-3-Clause, unverified"
