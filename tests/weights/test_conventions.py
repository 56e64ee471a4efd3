"""What a file says of its own convention is honoured or refused; impossible weights, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import WeightsError
from probe.preprocess.spec import TORCHVISION
from probe.weights import (
    check_first_use,
    load_parameters,
    open_tensors,
    random_parameters,
    resolve_weights,
)
from probe.weights.fit import fit_file, holds_layers
from tests.weights import published, writers
from tests.weights.helpers import draw, pretend

VGG = BACKBONES["vgg11"]
POOL = VGG.layer("pool5")
Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def vgg() -> Arrays:
    drawn = draw(published.keras_vgg("vgg11"))
    return {name: one for name, one in drawn.items() if name.startswith("block")}


@pytest.fixture(scope="module")
def right(vgg: Arrays, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the same network's weights, as Keras with TensorFlow writes them."""
    path = writers.write_keras(tmp_path_factory.mktemp("tf") / "w.h5", vgg)
    return load_parameters(path, VGG, POOL).digest


def theanos(arrays: Arrays) -> Arrays:
    """What Keras 2 saves of the same network where Theano computes it: kernels turned around."""
    return {
        name: one[::-1, ::-1] if name.endswith("kernel") else one for name, one in arrays.items()
    }


def mark(path: Path, group: str = "/", **attrs: Any) -> Path:
    with h5py.File(path, "a") as file:
        for name, value in attrs.items():
            file[group].attrs[name] = value
    return path


@pytest.mark.parametrize(("root", "group"), [("", "/"), ("model_weights", "model_weights")])
def test_theanos_kernels_are_turned_where_the_file_names_the_backend(
    root: str, group: str, vgg: Arrays, right: str, tmp_path: Path
) -> None:
    path = writers.write_keras(tmp_path / "w.h5", theanos(vgg), root=root)
    assert load_parameters(path, VGG, POOL).digest != right
    loaded = load_parameters(mark(path, group, backend=np.bytes_("theano")), VGG, POOL)
    assert loaded.digest == right
    assert loaded.omitted[0] == "8 kernels rotated by 180 degrees, since they are theano's"


def test_other_backends_leave_kernels_alone_and_unknown_ones_are_refused(
    vgg: Arrays, right: str, tmp_path: Path
) -> None:
    path = writers.write_keras(tmp_path / "w.h5", vgg)
    for backend in ("tensorflow", np.bytes_("cntk"), "jax", "torch"):
        assert load_parameters(mark(path, backend=backend), VGG, POOL).digest == right
    with pytest.raises(WeightsError, match="backend 'mxnet', and the orientation of"):
        open_tensors(mark(path, backend="mxnet"))


def test_theanos_kernels_are_turned_where_only_the_publishers_name_says_so(
    vgg: Arrays, right: str, tmp_path: Path
) -> None:
    name = "vgg11_weights_tf_dim_ordering_th_kernels_notop.h5"
    path = writers.write_keras(tmp_path / name, theanos(vgg))
    assert load_parameters(path, VGG, POOL).digest == right
    mark(path, backend="tensorflow")  # the file itself knows better
    assert load_parameters(path, VGG, POOL).digest != right


def test_the_first_dense_layer_of_a_theano_file_is_refused(vgg: Arrays, tmp_path: Path) -> None:
    """Whether its rows are in (H, W, C) or (C, H, W) order depends on a setting nobody wrote."""
    path = writers.write_keras(tmp_path / "w.h5", {"fc1/kernel": np.ones((4, 2), np.float32)})
    assert open_tensors(path).unsure == {}
    unsure = open_tensors(mark(path, backend="theano")).unsure
    whole = pretend(dict(published.keras_vgg("vgg11")), "keras")
    assert holds_layers(whole, VGG)[-1] == "fc7"
    told = replace(whole, unsure=unsure)
    assert holds_layers(told, VGG)[-1] == "pool5"
    fit = fit_file(told, VGG)
    assert fit is not None
    assert "whose order a file written with Theano" in fit.problems(VGG, VGG.layer("fc6"))[0]


def test_keras_before_1_counts_layers_and_has_theanos_layouts(
    vgg: Arrays, right: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for number, layer in enumerate(dict.fromkeys(name.partition("/")[0] for name in vgg)):
            group = file.create_group(
                f"layer_{3 * number + 1}"
            )  # padding and pools have no weights
            kernel = vgg[f"{layer}/kernel"].transpose(3, 2, 0, 1)[:, :, ::-1, ::-1]
            group.create_dataset("param_0", data=kernel)
            group.create_dataset("param_1", data=vgg[f"{layer}/bias"])
    loaded = load_parameters(path, VGG, POOL)
    assert loaded.digest == right
    assert "Theano's before Keras 1.0" in loaded.omitted[0]


RESNET = BACKBONES["resnet18"]


def write(kind: str, path: Path, arrays: Arrays) -> Path:
    write_one: Any = {
        "torch": writers.write_torch_zip,
        "safetensors": writers.write_safetensors,
        "gluon": writers.write_gluon,
    }[kind]
    write_one(path, arrays)
    return path


@pytest.mark.parametrize("kind", ["torch", "safetensors", "gluon"])
def test_variances_below_zero_are_counted_and_named(kind: str, tmp_path: Path) -> None:
    loaded = random_parameters(0, RESNET, RESNET.logits)
    naming = next(
        one.naming.sources
        for one in [fit_file(pretended(kind, loaded.parameters), RESNET)]
        if one is not None
    )
    arrays = {naming[one].names[0]: array.copy() for one, array in loaded.parameters.items()}
    name = naming["features.4.0.body.1.running_var"].names[0]
    arrays[name][3] = -0.5
    path = write(kind, tmp_path / "w", arrays)
    with pytest.raises(WeightsError, match=rf"{name} holds 1 of 64 variances below 0") as raised:
        load_parameters(path, RESNET, RESNET.layer("gap"))
    assert "\n" not in str(raised.value)
    arrays[name][3:5] = (0, np.nan)
    write(kind, path, arrays)
    with pytest.raises(WeightsError, match=r"holds NaN or infinity in 1 of 64 numbers"):
        load_parameters(path, RESNET, RESNET.layer("gap"))


def pretended(kind: str, parameters: Any) -> Any:
    if kind == "gluon":
        return pretend({name: one.shape for name, one in parameters.items()}, kind)
    return pretend(dict(published.torchvision("resnet18")), kind)


def test_kerass_variances_are_judged_as_stored(tmp_path: Path) -> None:
    """The conversion adds a difference of epsilons, which must not lift one above 0."""
    from probe.weights.load import read_parameter
    from probe.weights.naming import shifted_variance

    path = writers.write_keras(
        tmp_path / "w.h5", {"bn/moving_variance": np.array([1, -1e-9, 0], np.float32)}
    )
    source = shifted_variance("bn/moving_variance", (3,), 1e-3, 1e-5)
    with pytest.raises(WeightsError, match="bn/moving_variance holds 1 of 3 variances below 0"):
        read_parameter(path, "features.1.running_var", source, open_tensors(path).tensors)


def test_numbers_that_overflow_before_a_relu_are_seen(tmp_path: Path) -> None:
    """Each parameter is finite; a convolution of them is not, and a ReLU of NaN is 0."""
    arrays = dict(random_parameters(0, RESNET, RESNET.logits).parameters)
    path = write("gluon", tmp_path / "w.params", arrays)
    memo = Memo(tmp_path / "memo.sqlite")

    def first_use() -> None:
        weights = resolve_weights(
            RESNET, str(path), cache_dir=tmp_path, memo=memo, preprocess=TORCHVISION
        )
        check_first_use(weights, RESNET, cache_dir=tmp_path, memo=memo)

    first_use()
    arrays["features.4.1.body.0.weight"] = np.full_like(arrays["features.4.1.body.0.weight"], 3e38)
    arrays["features.4.1.body.0.weight"][:, ::2] *= -1  # infinity less infinity
    write("gluon", path, arrays)
    with pytest.raises(WeightsError, match=r"features\.4\.1\.body\.0 gives NaN or infinity in"):
        first_use()


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "net.", "backbone.", "module.encoder_q.", "resnet18.", "model.my.cnn."],
)
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_wrappers_prefix_is_left_out_in_each_format(
    kind: str, prefix: str, tmp_path: Path
) -> None:
    arrays = {f"{prefix}conv1.weight": np.ones((2, 2), np.float32), f"{prefix}fc.bias": np.ones(2)}
    path = write(kind, tmp_path / "w", {n: a.astype(np.float32) for n, a in arrays.items()})
    assert list(open_tensors(path).tensors) == ["conv1.weight", "fc.bias"]


def test_what_is_inert_in_a_checkpoint_is_read_past(tmp_path: Path) -> None:
    """Schedulers' counters, settings and moments lie beside weights; nothing of them is run."""
    ones = {"conv1.weight": np.ones((2, 2), np.float32)}
    beside = {
        "args": b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sb",
        "milestones": b"ccollections\nCounter\n}K\x01K\x02s\x85R",
        "best": b"c__builtin__\nset\n](K\x01K\x02e\x85R",
        "device": b"ctorch\ndevice\nX\x03\x00\x00\x00cpu\x85R",
        "dtype": b"ctorch\nfloat32\n",
        "where": b"cpathlib\nPosixPath\nX\x01\x00\x00\x00a\x85R",
    }
    body = {"state_dict": writers.state_dict(ones)} | beside
    path = writers.write_zip(
        tmp_path / "w.pth",
        b"\x80\x02" + writers.mapping(body) + b".",
        [writers.storage_bytes(one) for one in ones.values()],
    )
    assert list(open_tensors(path).tensors) == ["conv1.weight"]


def test_of_two_state_dicts_one_is_named_as_taken(tmp_path: Path) -> None:
    ones = {"conv1.weight": np.ones((2, 2), np.float32)}
    body = {"model_ema": writers.state_dict(ones), "model": writers.state_dict(ones)}
    path = writers.write_zip(
        tmp_path / "w.pth",
        b"\x80\x02" + writers.mapping(body) + b".",
        [writers.storage_bytes(one) for one in ones.values()],
    )
    (note,) = open_tensors(path).notes
    told = "'model' is used and 'model_ema' beside it is not; in Python, import torch; torch.save("
    assert note.startswith(told)
