"""The contract of every reader: the same arrays from every format, whatever the file is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import UnsafeFileError, WeightsError, WeightsNotFoundError
from probe.weights import open_tensors
from probe.weights.tensors import BLOCK_BYTES, LazyTensor, raw_tensor
from tests.weights import writers
from tests.weights.helpers import draw, lite0_file, shared

SHAPES = {
    "a/kernel": (3, 3, 2, 4), "a/bias": (4,), "n/gamma": (4,), "n/beta": (4,),
    "n/moving_mean": (4,), "n/moving_variance": (4,),
}  # fmt: skip
WRITERS: dict[str, tuple[str, Callable[..., object]]] = {
    "torch zip": ("torch", writers.write_torch_zip),
    "torch stream": ("torch", writers.write_torch_stream),
    "gluon": ("gluon", writers.write_gluon),
    "keras old": ("keras", writers.write_keras),
    "keras 3": ("keras", writers.write_keras3),
    "keras zip": ("keras", writers.write_keras_zip),
    "safetensors": ("safetensors", writers.write_safetensors),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_arrays_come_back_bit_for_bit_whatever_the_file_is_called(
    kind: str, tmp_path: Path
) -> None:
    arrays = draw(SHAPES)
    format_, write = WRITERS[kind]
    path = tmp_path / "weights.txt"
    write(path, arrays)
    file = open_tensors(path)
    assert file.format == format_
    assert set(file.tensors) == set(arrays)
    for name, array in arrays.items():
        tensor = file.tensors[name]
        assert (tensor.shape, tensor.dtype, tensor.nbytes) == (array.shape, "float32", array.nbytes)
        read = tensor.read()
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, array)
        np.testing.assert_array_equal(tensor.rows(1, 2), array[1:2])


@pytest.mark.parametrize("kind", ["torch zip", "torch stream", "safetensors", "gluon"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_precisions_become_float32(kind: str, dtype: str, tmp_path: Path) -> None:
    whole = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    stored = writers.as_bfloat16(whole) if dtype == "bfloat16" else whole.astype(dtype)
    if dtype == "bfloat16" and kind == "gluon":
        pytest.skip("MXNet 1.9.1 cannot write it")
    path = tmp_path / "w"
    WRITERS[kind][1](path, {"w": stored})
    tensor = open_tensors(path).tensors["w"]
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.read(), whole)


@pytest.mark.parametrize("write", [writers.write_torch_zip, writers.write_torch_stream])
def test_torch_strides_are_followed(write: Callable[..., Path], tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    tensor = open_tensors(write(tmp_path / "w.pth", {"w": array})).tensors["w"]
    np.testing.assert_array_equal(tensor.read(), array)
    np.testing.assert_array_equal(tensor.rows(1, 2), array[1:2])


@pytest.mark.parametrize("wrapped", ["module.", "model.", "_orig_mod.", "_orig_mod.module.", ""])
@pytest.mark.parametrize("under", ["state_dict", "model", "model_state_dict"])
def test_torch_checkpoints_are_unwrapped(under: str, wrapped: str, tmp_path: Path) -> None:
    arrays = {
        f"{wrapped}{name}": array
        for name, array in draw({"a.weight": (2, 3), "a.bias": (2,)}).items()
    }
    path = writers.write_torch_zip(tmp_path / "c.pt", arrays, under=under, parameters=True)
    assert set(open_tensors(path).tensors) == {"a.weight", "a.bias"}


def test_torch_tensors_may_share_a_storage(tmp_path: Path) -> None:
    storage = np.arange(6, dtype=np.float32)
    body = writers.mapping({
        "whole": writers.tensor("FloatStorage", "0", 6, (2, 3)),
        "tied": writers.tensor("FloatStorage", "0", 6, (2, 3)),
        "part": writers.tensor("FloatStorage", "0", 6, (2,), strides=(3,), offset=1),
        "expanded": writers.tensor("FloatStorage", "0", 6, (2, 3), strides=(0, 1), offset=2),
    })  # fmt: skip
    path = writers.write_zip(tmp_path / "t.pth", b"\x80\x02" + body + b".", [storage.tobytes()])
    tensors = open_tensors(path).tensors
    np.testing.assert_array_equal(tensors["whole"].read(), tensors["tied"].read())
    np.testing.assert_array_equal(tensors["part"].read(), [1, 4])
    np.testing.assert_array_equal(tensors["expanded"].read(), [[2, 3, 4], [2, 3, 4]])


@pytest.mark.parametrize("magic", [0xF993FAC8, 0xF993FAC9, 0xF993FACA, None])
def test_gluon_reads_every_generation(magic: int | None, tmp_path: Path) -> None:
    arrays = draw({"arg:a_weight": (3, 2), "aux:n_running_mean": (4,)})
    file = open_tensors(writers.write_gluon(tmp_path / "n.params", arrays, magic))
    assert set(file.tensors) == {"a_weight", "n_running_mean"}
    np.testing.assert_array_equal(file.tensors["a_weight"].read(), arrays["arg:a_weight"])


def test_gluon_reads_what_mxnet_writes(tmp_path: Path, mx: Any) -> None:
    arrays = draw({"a": (3, 2), "b": (5,), "c": (1, 2, 3, 4)})
    mx.nd.save(str(tmp_path / "x.params"), {k: mx.nd.array(v) for k, v in arrays.items()})
    tensors = open_tensors(tmp_path / "x.params").tensors
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name].read(), array)


def test_keras_1_names_and_whole_models_are_understood(tmp_path: Path) -> None:
    path = writers.write_keras(
        tmp_path / "m.h5", {"c/c_W_1": np.ones((1, 1, 2, 3), np.float32)}, root="model_weights"
    )
    assert set(open_tensors(path).tensors) == {"c/kernel"}


def test_keras_norms_without_scale_have_no_gamma(tmp_path: Path) -> None:
    arrays = draw({"n/beta": (4,), "n/moving_mean": (4,), "n/moving_variance": (4,)})
    writers.write_keras3(tmp_path / "n.weights.h5", arrays)
    tensors = open_tensors(tmp_path / "n.weights.h5").tensors
    assert set(tensors) == set(arrays)
    np.testing.assert_array_equal(tensors["n/moving_mean"].read(), arrays["n/moving_mean"])


def test_metadata_is_kept(tmp_path: Path) -> None:
    arrays = {"a": np.ones(2, np.float32)}
    safe = writers.write_safetensors(tmp_path / "a.safetensors", arrays, {"probe.preprocess": "{}"})
    assert open_tensors(safe).metadata == {"probe.preprocess": "{}"}


def test_large_tensors_are_read_in_blocks(tmp_path: Path) -> None:
    stored = np.arange(BLOCK_BYTES // 2 + 1000, dtype=np.float16).reshape(-1, 8)
    stored.tofile(tmp_path / "raw")
    tensor = raw_tensor(
        tmp_path / "raw", "w", "float16", stored.shape, offset=0, available=stored.nbytes
    )
    np.testing.assert_array_equal(tensor.read(), stored.astype(np.float32))


def test_whole_numbers_are_no_weights() -> None:
    tensor = LazyTensor((2,), "int64", lambda a, b: np.zeros(b - a, np.int64))
    with pytest.raises(WeightsError, match="int64"):
        tensor.read()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64, b"<html>404</html>" * 9])
def test_unknown_files_are_refused_with_the_known_formats(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="known are torch"):
        open_tensors(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deploy.prototxt", b'name: "CaffeNet"\n', "name the .caffemodel instead"),
        ("net-symbol.json", b'{"nodes": []}', "name the .params, .h5 or .safetensors beside it"),
        (
            "mean.binaryproto",
            b"\x08\x01\x10\x03",
            "a mean image; name the weights here and give it with --mean",
        ),
    ],
)
def test_files_that_lie_beside_weights_are_told(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_tensors(tmp_path / name)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="no such file"):
        open_tensors(tmp_path / "nowhere.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        open_tensors(tmp_path)


def test_a_file_that_shrinks_after_opening_is_noticed(tmp_path: Path) -> None:
    path = writers.write_gluon(tmp_path / "n.params", {"a": np.ones(64, np.float32)})
    tensor = open_tensors(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="changed while it was read"):
        tensor.read()


def test_the_real_files_open() -> None:
    vgg = open_tensors(shared("weights", "vgg16_imagenet_notop.h5"))
    assert (vgg.format, len(vgg.tensors)) == ("keras", 26)
    lite = open_tensors(lite0_file())
    assert (lite.format, lite.tensors["_conv_stem.weight"].shape) == ("torch", (32, 3, 3, 3))


def test_unsafe_is_a_kind_of_its_own() -> None:
    assert not issubclass(UnsafeFileError, WeightsError)
