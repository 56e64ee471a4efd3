"""Read Keras's weights: HDF5 files of all versions, `.weights.h5` and the `.keras` archive.

Tensors are named ``layer/role`` whichever version wrote them, with the roles kernel, bias, gamma,
beta, moving_mean, moving_variance, in Keras's layouts (HWIO kernels, (in, out) dense kernels). The
configuration of a whole model is read as the file's graph.

References
----------
keras-team/keras: keras/src/legacy/saving/legacy_h5_format.py; keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.hdf5 import ForeignFile, Part, check_heaps
from probe.core.records import in_one_line
from probe.core.regular import open_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.architecture import Graph
from probe.weights.keras_graph import keras_graph
from probe.weights.tensors import ITEM_BYTES, LazyTensor, TensorFile, check_shape, raw_tensor
from probe.weights.zip_members import stored_members

log = logging.getLogger(__name__)

INNER, CONFIG = "model.weights.h5", "config.json"
MAX_CONFIG = 16 << 20  # bytes; the largest of Keras's own networks has 0.5 MB

_OLD_ROLES = {  # Keras 1 wrote `block1_conv1_W_1:0`; its running_std held the variance
    "W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance",
}  # fmt: skip


_PARAMETER = re.compile(r"param_\d{1,2}")
_COUNTED = re.compile(r"layer_(\d{1,6})/param_(\d{1,2})")
CORRELATING = frozenset({"tensorflow", "cntk", "jax", "torch", "numpy"})  # backends
FLIPPING = frozenset({"theano"})  # backends whose convolution rotates the kernel by 180 degrees
_UNSURE = (
    "fc1/kernel follows a flattened map whose order a file written with Theano does not state; "
    "load the file in Keras with TensorFlow and save it again, or use a layer below"
)

_ROLES = ("kernel", "bias")
_NORM_ROLES = ("gamma", "beta", "moving_mean", "moving_variance")  # without a scale: the last three


def read_keras(path: Path) -> TensorFile:
    """Return the tensors of an HDF5 weight file.

    Raises
    ------
    UnsafeFileError
        It has links, external or virtual data, or tensors larger than their stored data.
    WeightsError
        It is damaged, or holds no weights.
    """
    return _read(path, 0, path.stat().st_size)


def read_keras_zip(path: Path) -> TensorFile:
    """Return the tensors and the network of a `.keras` archive, without running its code.

    Raises
    ------
    UnsafeFileError, WeightsError
        As `read_keras`; also where the archive is compressed or damaged.
    """
    members = stored_members(path)
    inner = members[INNER]
    config = members[CONFIG].read(path, MAX_CONFIG) if CONFIG in members else b""
    return _read(path, inner.offset, inner.length, config)


def _read(path: Path, base: int, length: int, config: bytes | str = "") -> TensorFile:
    try:
        with open_regular(path) as raw:
            found, backend, inside = _named_tensors(path, Part(raw, base, length), base)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, UnsafeFileError | WeightsError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path}: damaged HDF5 file ({reason}); download it again") from None
    if not found:
        raise WeightsError(f"{path}: an HDF5 file without weights")
    found = _renumbered(found)
    graph = _graph(path, config or inside, found)
    if backend not in FLIPPING:
        return TensorFile(path, "keras", found, graph=graph)
    kernels = [name for name, one in found.items() if _is_kernel(name) and len(one.shape) == 4]
    found |= {name: flipped(found[name], (0, 1)) for name in kernels}
    return TensorFile(
        path, "keras", found, unsure={"fc1/kernel": _UNSURE}, graph=graph,
        notes=(f"{len(kernels)} kernels rotated by 180 degrees, since they are {backend}'s",),
    )  # fmt: skip


def _is_kernel(name: str) -> bool:
    return name.endswith("/kernel")


def flipped(tensor: LazyTensor, axes: tuple[int, int]) -> LazyTensor:
    """Return a tensor with two axes reversed, which is read as a whole."""

    def fetch(start: int, stop: int) -> NDArray[Any]:
        return np.flip(tensor.fetch(0, tensor.shape[0]), axes)[start:stop]

    return LazyTensor(tensor.shape, tensor.dtype, fetch, in_blocks=False)


def _renumbered(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Renumber the layers of a Keras before 1.0 (``layer_9/param_0``), those with weights only."""
    parts = {name: _COUNTED.fullmatch(name) for name in tensors}
    if not all(parts.values()):
        return tensors
    numbers = sorted({int(part[1]) for part in parts.values() if part})
    return {
        f"layer_{numbers.index(int(part[1]))}/param_{part[2]}": tensors[name]
        for name, part in parts.items()
        if part
    }


def _backend(path: Path, file: Any) -> str:
    """Return Keras's backend, "" if unknown: Theano's convolution rotates a kernel by 180 degrees.

    Keras 2 stores the backend; of older files the publishers' file names tell it.
    """
    said = {
        _text(group.attrs["backend"]).lower()
        for group in (file, file.get("model_weights"))
        if group is not None and "backend" in group.attrs
    }
    if not said and "th_kernels" in path.name:
        return "theano"
    if len(said) > 1 or (said and not said <= CORRELATING | FLIPPING):
        raise WeightsError(
            f"{path}: was written with the backend {' and '.join(sorted(said))!r}, and the "
            f"orientation of kernels is known only of {', '.join(sorted(CORRELATING))} and theano; "
            "load the file in Keras with one of those and save it again"
        )
    return next(iter(said), "")


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _graph(path: Path, config: bytes | str, tensors: dict[str, LazyTensor]) -> Graph | None:
    """Return the network that a model's configuration describes; None without one."""
    if not config:
        return None
    try:
        return keras_graph(config, {name: one.shape for name, one in tensors.items()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        log.warning(
            "%s: its model's configuration cannot be read (%s: %s), so it is not compared with "
            "the backbone", path, type(error).__name__, in_one_line(error)[:80],
        )  # fmt: skip
        return None


def _config(path: Path, file: Any) -> str:
    """Return the JSON configuration in an `.h5` of a whole model; "" in one of weights alone."""
    if "model_config" not in file.attrs:
        return ""
    size = file.attrs.get_id("model_config").get_storage_size()
    if size > min(MAX_CONFIG, path.stat().st_size):
        raise UnsafeFileError(f"{path}: the model's configuration claims {size} bytes")
    return _text(file.attrs["model_config"])


def _named_tensors(path: Path, part: Part, base: int) -> tuple[dict[str, LazyTensor], str, str]:
    tensors: dict[tuple[str, ...], LazyTensor] = {}
    with ForeignFile(path, part) as file:
        for parts, dataset in file.datasets(("optimizer_weights", "optimizer")):
            tensors[tuple(parts)] = _tensor(path, "/".join(parts), dataset, base)
            part.hide(dataset.id.get_offset(), dataset.id.get_storage_size())
    # opened again: names are in heaps, which have to be checked before HDF5 reads them
    check_heaps(path, part)
    found: dict[str, LazyTensor] = {}
    positions: dict[str, str] = {}
    with ForeignFile(path, part) as opened:
        file = opened.file
        backend, config = _backend(path, file), _config(path, file)
        for path_in_file, tensor in tensors.items():
            name = _name(file, list(path_in_file))
            position = "/".join(path_in_file)
            if name in found:
                raise UnsafeFileError(
                    f"{path}: two tensors are called {name!r}, at {positions[name]} and "
                    f"{position}; of "
                    "a file with several networks load one in Keras and save it alone, "
                    "model.get_layer(NAME).save(FILE)"
                )
            found[name], positions[name] = tensor, position
    return found, backend, config


def _name(root: Any, parts: list[str]) -> str:
    """Return ``layer/role`` for a path such as block1_conv1/block1_conv1/kernel:0."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) >= 3 and parts[-2] == "vars":  # Keras 3: layers/conv2d_1/vars/0
        return _keras3_name(root["/".join(parts[:-1])], parts[-3], parts[-1])
    layer, last = parts[-2], parts[-1].partition(":")[0]
    if _PARAMETER.fullmatch(last):  # Keras before 1.0: layer_9/param_0
        return f"{layer}/{last}"
    stem = re.sub(r"_\d+$", "", last.removeprefix(layer + "_"))
    return f"{layer}/{_OLD_ROLES.get(stem, stem)}"


def _keras3_name(group: Any, counted: str, number: str) -> str:
    """Return ``layer/role`` in Keras 3, which numbers variables and has the name as attribute."""
    layer = group.attrs.get("name")
    roles = _NORM_ROLES[-len(group) :] if counted.startswith("batch_normalization") else _ROLES
    known = number.isascii() and number.isdigit() and int(number) < len(roles)
    # files of the first versions of Keras 3 number layers and do not name them
    named = layer if isinstance(layer, str) else f"layers/{counted}"
    return f"{named}/{roles[int(number)] if known else number}"


def _tensor(path: Path, name: str, dataset: Any, base: int) -> LazyTensor:
    kind = dataset.dtype
    dtype = kind.name if kind.fields is None and kind.byteorder in "<=|" else ""
    if dtype not in ITEM_BYTES:
        raise WeightsError(
            f"{path}: tensor {name!r} has type {dataset.dtype}, which is not supported"
        )
    shape = check_shape(path, name, dataset.shape)
    stored = dataset.id.get_storage_size()
    offset = dataset.id.get_offset()
    if offset is not None and dataset.id.get_create_plist().get_nfilters() == 0:
        left = path.stat().st_size - base - offset
        return raw_tensor(
            path, name, dtype, shape, offset=base + offset, available=min(stored, left)
        )
    # chunked: the size is compared with the stored bytes, so that nothing decompresses to more
    lazy = LazyTensor(shape, dtype, _chunked(path, base, dataset.name.strip("/")), in_blocks=False)
    if lazy.nbytes > stored:
        raise UnsafeFileError(
            f"{path}: tensor {name!r} claims {lazy.nbytes} bytes and {stored} are stored; "
            "it is compressed, which Keras does not do, or damaged"
        )
    return lazy


def _chunked(path: Path, base: int, where: str) -> Any:
    def fetch(start: int, stop: int) -> NDArray[Any]:
        length = path.stat().st_size - base
        with open_regular(path) as raw, ForeignFile(path, Part(raw, base, length)) as file:
            dataset = file.dataset(where)
            return np.asarray(dataset[start:stop] if dataset.shape else dataset[()])

    return fetch
