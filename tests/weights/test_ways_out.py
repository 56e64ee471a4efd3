"""Where a file cannot be used, or is used in part, it is said what was taken and what to do."""

from __future__ import annotations

import json
import re
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from probe.backbones.catalog import BACKBONES
from probe.cli.app import app
from probe.errors import UnsafeFileError, WeightsError
from probe.weights import open_tensors
from probe.weights.fit import refuse, why_not
from probe.weights.tensors import LazyTensor, TensorFile
from tests.weights import writers
from tests.weights.writers_proto import block, number

KERNEL = {"conv1.weight": 1.0, "bn1.weight": 2.0, "bn1.bias": 3.0}


def under(prefix: str, more: float = 0) -> dict[str, np.ndarray]:
    return {prefix + name: np.full(2, one + more, "f4") for name, one in KERNEL.items()}


def typed(note: str, monkeypatch: pytest.MonkeyPatch, held: dict[str, Any]) -> dict[str, Any]:
    """Run the line of Python that a note gives, with as much of torch as it needs."""
    found = re.search(r"in Python, (.*?) saves that one", note)
    assert found is not None
    asked: dict[str, Any] = {}

    def load(path: str, **options: Any) -> dict[str, Any]:
        assert Path(path).is_file()
        asked.update(options)
        return held

    def save(arrays: dict[str, Any], path: str) -> None:
        writers.write_torch_zip(Path(path), arrays)

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load, save=save))
    exec(found[1], {})
    return asked


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("module.encoder_q.", "module.encoder_k."), ("teacher.backbone.", "student.backbone."),
        ("model.", "model_ema."), ("online_encoder.net.", "target_encoder.net."),
        ("base_encoder.", "momentum_encoder."), ("model.", "ema_model."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_of_two_networks_in_one_state_dict_one_is_taken_and_named(
    kind: str, taken: str, left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w"
    queue = {"module.queue": np.zeros(3, "f4")} if "module" in taken else {}
    arrays = under(left, 10) | queue | under(taken)
    if kind == "torch":
        writers.write_torch_zip(path, arrays, under="state_dict")
    else:
        writers.write_safetensors(path, arrays)
    file = open_tensors(path)
    assert {name: one.read()[0] for name, one in file.tensors.items()} == KERNEL
    (note,) = file.notes
    assert ("'queue' first" in note) == bool(queue)
    typed(note, monkeypatch, {"state_dict": arrays})
    (other,) = (one for one in tmp_path.iterdir() if one != path)
    assert other.name.startswith("w-")
    expected = {name: value + 10 for name, value in KERNEL.items()}
    assert {name: one.read()[0] for name, one in open_tensors(other).tensors.items()} == expected


@pytest.mark.parametrize("plain", [True, False])
def test_the_line_for_a_state_dict_inside_another_names_its_place(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = {"conv1.weight": np.ones(2, "f4")}
    inner = {"model": writers.state_dict(ones), "model_ema": writers.state_dict(ones)}
    args = {} if plain else {"args": writers.glob("argparse", "Namespace") + b")\x81"}
    body = writers.mapping({"state_dict": writers.mapping(inner), **args})
    path = writers.write_zip(tmp_path / "my w.pth", b"\x80\x02" + body + b".", [bytes(8)])
    (note,) = open_tensors(path).notes
    held = {"state_dict": {"model": ones, "model_ema": {"conv1.weight": np.full(2, 7, "f4")}}}
    asked = typed(note, monkeypatch, held)
    assert asked == {"map_location": "cpu"} | ({} if plain else {"weights_only": False})
    assert ("only if you trust the file" in note) != plain
    other = open_tensors(tmp_path / "my w-model_ema.pth")
    assert other.tensors["conv1.weight"].read().tolist() == [7, 7]
    shown = CliRunner().invoke(app, ["weights", "show", str(path)])
    assert "'model' is used and 'model_ema' beside it is not" in " ".join(shown.output.split())
    asked = CliRunner().invoke(app, ["weights", "show", str(path), "--json"])
    assert json.loads(asked.stdout)["notes"] == [note]


def test_two_networks_in_a_keras_file_are_told_with_their_places(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for network in ("student", "teacher"):
            file[f"{network}/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 64), "f4")
    said = r"at [a-z]+/block1_conv1/kernel:0 and [a-z]+/.*model\.get_layer\(NAME\)\.save"
    with pytest.raises(UnsafeFileError, match=said):
        open_tensors(tmp_path / "w.h5")


def test_features_is_a_wrapper_of_resnets_alone(tmp_path: Path) -> None:
    names = ["conv1.weight", "layer1.0.conv1.weight", "bn1.weight"]
    ones = np.ones(2, "f4")
    path = writers.write_torch_zip(tmp_path / "a", {f"features.{one}": ones for one in names})
    assert list(open_tensors(path).tensors) == names
    vgg = {f"features.{one}.weight": ones for one in range(3)}
    assert list(open_tensors(writers.write_torch_zip(tmp_path / "b", vgg)).tensors) == list(vgg)


FLOAT8 = {  # the four bytes 0x38, 0xb8, 0x7b and 0x01, by the Open Compute Project's tables
    "e4m3fn": (17, "F8_E4M3", [1, -1, 352, 2**-9]),
    "e5m2": (19, "F8_E5M2", [0.5, -0.5, 57344, 2**-16]),
}
BYTES8 = bytes([0x38, 0xB8, 0x7B, 0x01])


def write_float8(folder: Path, torch_name: str, onnx_kind: int, safe_name: str) -> list[Path]:
    untyped = writers.many(
        writers.text("storage"), writers.glob("torch.storage", "UntypedStorage"),
        writers.text("0"), writers.text("cpu"), writers.integer(4),
    )  # fmt: skip
    given = writers.many(
        untyped + b"Q", writers.integer(0), writers.many(writers.integer(4)),
        writers.many(writers.integer(1)), b"\x89", writers.glob("collections", "OrderedDict")
        + b")R", writers.glob("torch", torch_name),
    )  # fmt: skip
    built = writers.glob("torch._utils", "_rebuild_tensor_v3") + given + b"R"
    pickle = b"\x80\x02" + writers.mapping({"a.weight": built}) + b"."
    head = {"a.weight": {"dtype": safe_name, "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(head).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + BYTES8)
    tensor = number(1, 4) + number(2, onnx_kind) + block(8, b"a.weight") + block(9, BYTES8)
    layer = block(1, block(1, b"x") + block(1, b"a.weight") + block(2, b"y") + block(4, b"Conv"))
    (folder / "w.onnx").write_bytes(number(1, 8) + block(7, layer + block(5, tensor)))
    torch = writers.write_zip(folder / "w.pth", pickle, [BYTES8])
    return [torch, folder / "w.safetensors", folder / "w.onnx"]


@pytest.mark.parametrize("kind", FLOAT8)
def test_float8_is_read(kind: str, tmp_path: Path) -> None:
    onnx_kind, safe_name, expected = FLOAT8[kind]
    for path in write_float8(tmp_path, f"float8_{kind}", onnx_kind, safe_name):
        assert open_tensors(path).tensors["a.weight"].read().tolist() == expected, path


def test_other_float8_is_refused_with_a_way_out(tmp_path: Path) -> None:
    torch, safe, onnx = write_float8(tmp_path, "float8_e4m3fnuz", 18, "F8_E8M0")
    with pytest.raises(WeightsError, match=r"not supported; .*one\.float\(\) for name, one in"):
        open_tensors(torch)
    with pytest.raises(WeightsError):
        open_tensors(safe)
    with pytest.raises(WeightsError, match=r"'a.weight' is stored as a float8 that .* export"):
        open_tensors(onnx)


def test_biases_that_an_exporter_left_out_are_told() -> None:
    file = TensorFile(Path("w.onnx"), "onnx", {})
    said = str(refuse(file, BACKBONES["resnet18"], ["2 missing (bn1.bias, layer1.0.bn1.bias)"]))
    assert "leaves out biases that are all 0" in said
    assert "dynamo=False" in said
    said = str(refuse(file, BACKBONES["resnet18"], ["2 missing (conv1.weight, bn1.bias)"]))
    assert "dynamo" not in said


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("mobilenet_v1", {"conv1/kernel": (3, 3, 3, 32), "conv_pw_1/kernel": (1, 1, 32, 64),
                          "conv_dw_1/depthwise_kernel": (3, 3, 32, 1)}),
        ("mobilenet_v2", {"Conv1/kernel": (3, 3, 3, 32), "Conv_1/kernel": (1, 1, 320, 1280),
                          "block_1_project/kernel": (1, 1, 96, 24), "bn_Conv1/gamma": (32,),
                          "predictions/kernel": (1280, 1000)}),
    ],
)  # fmt: skip
def test_kerass_mobilenets_get_their_reason(
    backbone: str, names: dict[str, tuple[int, ...]]
) -> None:
    tensors = {
        name: LazyTensor(shape, "float32", lambda _, __: np.empty(0))
        for name, shape in names.items()
    }
    reasons = why_not(TensorFile(Path("w.h5"), "keras", tensors))
    assert "pads below and on the right alone where it strides" in reasons[backbone]


def test_an_averaged_network_is_read_without_its_counter(tmp_path: Path) -> None:
    held = under("module.") | {"n_averaged": np.full((), 5)}
    writers.write_torch_zip(tmp_path / "swa.pth", held)
    found = open_tensors(tmp_path / "swa.pth")
    assert set(found.tensors) == set(KERNEL)
    assert float(found.tensors["bn1.weight"].read()[0]) == 2
    assert any("'n_averaged' (the count" in note for note in found.notes)


def test_what_belongs_to_the_loss_is_left_out(tmp_path: Path) -> None:
    held = under("model.") | {"criterion.weight": np.ones(3, np.float32)}
    writers.write_torch_zip(tmp_path / "last.ckpt", held, under="state_dict")
    found = open_tensors(tmp_path / "last.ckpt")
    assert set(found.tensors) == set(KERNEL)
    assert any("'criterion.weight' (of the loss) left out" in note for note in found.notes)


def test_torchscript_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/code/__torch__/net.py", "pass", zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match=r"is TorchScript, .*jit\.load\(FILE\)\.state_dict"):
        open_tensors(path)
