"""ONNX files that are no backbone are refused in words, before a dataset is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.core.memo import Memo
from probe.errors import UnsafeFileError, WeightsError, WeightsNotFoundError
from probe.weights import backbone_called
from tests.backbones.foreign_graphs import SIZE, convolutions, saved, transformer
from tests.backbones.test_onnx_files import external


def opened(place: Path, tmp_path: Path) -> Any:
    return backbone_called(str(place), Memo(tmp_path / "memo.sqlite"))


def before_classifier(model: Any, *nodes: tuple[str, list[str], str, dict[str, Any]]) -> Any:
    """Put nodes in front of the classifier, which takes what the last one gives."""
    from onnx import helper

    top = len(model.graph.node) - 1
    for place, (kind, inputs, output, attributes) in enumerate(nodes):
        made = helper.make_node(kind, inputs, [output], name=output, **attributes)
        model.graph.node.insert(top + place, made)
    model.graph.node[-1].input[0] = nodes[-1][2]
    return model


def random(model: Any) -> Any:
    noise = ("RandomNormalLike", ["features"], "noise", {"scale": 0.1})
    return before_classifier(model, noise, ("Add", ["features", "noise"], "noisy", {}))


def dropout(model: Any) -> Any:
    from onnx import numpy_helper

    ratio, on = np.array(0.5, np.float32), np.array(True)
    model.graph.initializer.append(numpy_helper.from_array(ratio, "ratio"))
    model.graph.initializer.append(numpy_helper.from_array(on, "on"))
    return before_classifier(model, ("Dropout", ["features", "ratio", "on"], "dropped", {}))


def centred(model: Any) -> Any:
    mean = ("ReduceMean", ["features"], "mean_of_batch", {"axes": [0]})
    return before_classifier(model, mean, ("Sub", ["features", "mean_of_batch"], "centred", {}))


def unknown(model: Any) -> Any:
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("com.nobody", 1))
    return before_classifier(model, ("Mystery", ["features"], "odd", {"domain": "com.nobody"}))


def nothing(model: Any) -> Any:
    """All weights are 0, so every image has the same row."""
    for tensor in model.graph.initializer:
        if tensor.name in ("kernel", "scale"):
            tensor.raw_data = bytes(len(tensor.raw_data))
    return model


def not_finite(model: Any) -> Any:
    data = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).copy()
    data[0] = np.nan
    model.graph.initializer[0].raw_data = data.tobytes()
    return model


def shaped(*sides: Any) -> Callable[[Any], Any]:
    """Return a function that gives the input another shape."""

    def change(model: Any) -> Any:
        axes = model.graph.input[0].type.tensor_type.shape.dim
        del axes[:]
        for side in sides:
            axes.add(**{"dim_value" if isinstance(side, int) else "dim_param": side})
        return model

    return change


def of_type(kind: int) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        model.graph.input[0].type.tensor_type.elem_type = kind
        return model

    return change


def twice(model: Any) -> Any:
    """Two nodes give values of one name."""
    model.graph.node.append(model.graph.node[0])
    return model


def newer(model: Any) -> Any:
    model.opset_import[0].version = 99
    return model


def huge(model: Any) -> Any:
    """An array says that it has a million million rows."""
    tensor = model.graph.initializer[0]
    tensor.dims[0] = 1 << 40
    return model


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dropout that is on": (dropout, "another one each time"),
    "random numbers": (random, "another one each time"),
    "mean of the batch taken off": (centred, "depends on the other images"),
    "same row for every image": (nothing, "the same for two different photographs"),
    "NaN among the weights": (not_finite, "array kernel holds NaN"),
    "operator of nobody": (unknown, "cannot be run: .*Mystery"),
    "values of one name": (twice, "two of its values are called conv"),
    "operators of the future": (newer, "cannot be run: .*[Oo]pset 99"),
    "huge array": (huge, "array kernel is damaged"),
    "one channel": (shaped("n", 1, SIZE, SIZE), "no input for .*colour images.*input float"),
    "four channels": (shaped("n", 4, SIZE, SIZE), "no input for .*colour images"),
    "not square": (shaped("n", 3, SIZE, SIZE + 8), "no input for .*colour images"),
    "no batch": (shaped(3, SIZE, SIZE), "no input for .*colour images"),
    "a million pixels wide": (shaped("n", 3, 1 << 20, 1 << 20), "no input for .*at most"),
    "whole numbers": (of_type(2), "no input for .*colour images.*uint8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_network_is_refused(what: str, tmp_path: Path) -> None:
    change, message = REFUSED[what]
    place = saved(change(convolutions()[0]), tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match=f"net.onnx: .*{message}"):
        opened(place, tmp_path)


def test_norm_in_training_is_refused(tmp_path: Path) -> None:
    place = saved(convolutions(training=True)[0], tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match=r"computes as in training.*evaluation mode"):
        opened(place, tmp_path)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"This is not a network.\n" * 40,
    "zeros": lambda data: bytes(len(data)),
    "page": lambda _: b"<!DOCTYPE html><html><body>404</body></html>",
    "pointer of Git LFS": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
    "cut off": lambda data: data[: len(data) // 2],
    "cut off by a byte": lambda data: data[:-1],
    "name that is no text": lambda data: data.replace(b"tokens_1", b"tokens_\xff"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_no_onnx_file_is_refused(what: str, tmp_path: Path) -> None:
    place = tmp_path / "net.onnx"
    place.write_bytes(DAMAGED[what](transformer()[0].SerializeToString()))
    with pytest.raises(WeightsError, match="not an ONNX file, or not all of one"):
        opened(place, tmp_path)


@pytest.mark.parametrize("location", ["../kernel", "/etc/passwd", "a/../../kernel"])
def test_arrays_outside_the_folder_are_not_read(location: str, tmp_path: Path) -> None:
    model = convolutions()[0]
    external(model, tmp_path / "kept" / "net.onnx", "kernel")
    (tmp_path / "kernel").write_bytes((tmp_path / "kept" / "kernel").read_bytes())
    model.graph.initializer[0].external_data[0].value = location
    place = saved(model, tmp_path / "kept" / "net.onnx")
    with pytest.raises(UnsafeFileError, match="outside its folder"):
        opened(place, tmp_path)


@pytest.mark.parametrize("entry", ["length", "offset"])
def test_arrays_beside_the_file_are_all_there(entry: str, tmp_path: Path) -> None:
    model = convolutions()[0]
    place = external(model, tmp_path / "net.onnx", "kernel")
    for one in model.graph.initializer[0].external_data:
        if one.key == entry:
            one.value = str(1 << 50)
    saved(model, place)
    with pytest.raises(WeightsError, match="array kernel is damaged"):
        opened(place, tmp_path)
    (tmp_path / "kernel").unlink()
    with pytest.raises(WeightsError, match="kernel with its arrays is missing"):
        opened(place, tmp_path)


def test_folder_names_its_networks(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"no model\.onnx in the folder"):
        opened(tmp_path, tmp_path)
    for name in ("small.onnx", "large.onnx"):
        saved(convolutions()[0], tmp_path / name)
    with pytest.raises(WeightsNotFoundError, match=r"large\.onnx, small\.onnx; name the file"):
        opened(tmp_path, tmp_path)
    saved(convolutions()[0], tmp_path / "onnx" / "model.onnx")
    assert opened(tmp_path, tmp_path).path == tmp_path / "onnx" / "model.onnx"
