"""Open a weight file of any known format, which is recognised by the file's first bytes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from probe.core.ndarray_list import LIST_MAGIC
from probe.core.regular import open_regular
from probe.errors import WeightsError, WeightsNotFoundError
from probe.weights import (
    caffe_file,
    gluon_file,
    keras_file,
    onnx_file,
    safetensors_file,
    torch_file,
)
from probe.weights.tensors import TensorFile
from probe.weights.torch_file import LOAD, TRUST, other_file
from probe.weights.zip_members import stored_members

HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH_STREAM = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1, 10 bytes, the number
CAFFE = (b"\x0a", b"\x12", b"\xa2")  # the network's name, an old layer or a new one
ONNX = b"\x08"  # the tag of the format's version, the first field

WRAPPED = ("torch", "safetensors", "onnx")
WRAPPERS = (  # DataParallel, torch.compile, Lightning, and usual names of a network's attribute
    "module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "encoder_q.",
    "student.", "teacher.", "base_encoder.", "momentum_encoder.", "resnet.", "features.", "0.",
)  # fmt: skip
SIBLINGS = (  # two networks in one state dict: the one that is used, the one that is left out
    ("encoder_q.", "encoder_k."), ("base_encoder.", "momentum_encoder."), ("teacher.", "student."),
    ("online_encoder.", "target_encoder."), ("online_network.", "target_network."),
    ("model.", "model_ema."), ("model.", "ema_model."), ("model.", "ema."), ("net.", "net_ema."),
    ("module.", "module_ema."), ("backbone.", "backbone_ema."), ("backbone.", "backbone_momentum."),
    ("student.", "student_ema."), ("generator.", "discriminator."),
)  # fmt: skip
AVERAGED = "n_averaged"  # a count that PyTorch's AveragedModel keeps beside `module.`
LOSSES = ("criterion.", "loss.", "loss_fn.", "loss_function.")  # attributes of Lightning's modules
RESNET = "features."  # the name of a wrapper around a ResNet, and of a module of other networks
SURE = ("module.", "_orig_mod.", "model.", "net.", "backbone.")  # a classifier may be outside
# modules that networks here begin with; under any other name they are inside a wrapper
FIRST_MODULES = frozenset({
    "features", "conv1", "layer1", "Conv2d_1a_3x3", "conv_stem", "_conv_stem", "embedder", "resnet",
})  # fmt: skip
MAX_WRAPPERS = 3  # one inside the other, with names that are not in WRAPPERS

KNOWN = (
    "torch (.pth), Keras (.h5, .keras), Gluon (.params), safetensors, Caffe (.caffemodel) and ONNX"
)


BESIDE = {  # files that are often beside weights -> what to name instead
    ".prototxt": "a Caffe network without its weights; name the .caffemodel instead",
    ".json": "a graph without its weights; name the .params, .h5 or .safetensors beside it",
    ".binaryproto": "a mean image; name the weights here and give it with --mean",
}


def open_tensors(path: Path) -> TensorFile:
    """Return the tensors of a weight file without reading their data.

    Parameters
    ----------
    path : Path
        A file of any known format, under any name.

    Raises
    ------
    UnsafeFileError
        The file asks for code to be run, or describes more data than it holds. Nothing was run.
    WeightsError
        The format is unknown, or the file is damaged.
    WeightsNotFoundError
        There is no such file.
    """
    try:
        return _open(path)
    except FileNotFoundError:
        raise WeightsNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def _open(path: Path) -> TensorFile:
    with open_regular(path) as file:
        start = file.read(16)
    reader = _reader(path, start)
    if reader in (None, onnx_file.read_onnx) and path.suffix in BESIDE:
        raise WeightsError(f"{path}: {BESIDE[path.suffix]}")
    if reader is None:
        raise WeightsError(f"{path}: not a weight file of a known format; known are {KNOWN}")
    found = reader(path)
    return unwrapped(found) if found.format in WRAPPED else found


def unwrapped(file: TensorFile) -> TensorFile:
    """Return a file without the prefix that its names have because the network was in a wrapper.

    Of two networks in one file one is used; what is left out is noted in the file's `notes`.
    """
    names = {name: name for name in file.tensors if name != AVERAGED}
    notes = file.notes
    if len(names) < len(file.tensors):
        notes = (*notes, f"{AVERAGED!r} (the count of PyTorch's AveragedModel) left out")
    of_loss = [name for name in names if name.startswith(LOSSES)]
    if 0 < len(of_loss) < len(names):
        notes = (*notes, f"{', '.join(map(repr, of_loss[:3]))} (of the loss) left out")
        names = {name: name for name in names if name not in of_loss}
    while True:
        if file.graph is None and (pair := _siblings(list(names.values()))):
            notes = (*notes, _left(file, names, *pair))
            names = {name: short for name, short in names.items() if short.startswith(pair[0])}
            wrapper: str | None = pair[0]
        else:
            shorts = list(names.values())
            wrapper = next((one for one in WRAPPERS if _wraps(one, shorts)), _unlisted(shorts))
        if wrapper is None:
            break
        names = {name: short.removeprefix(wrapper) for name, short in names.items()}
        if len(set(names.values())) != len(names):
            return file
    graph = file.graph and replace(
        file.graph,
        nodes=tuple(
            replace(node, tensors=tuple(names.get(one, one) for one in node.tensors))
            for node in file.graph.nodes
        ),
    )
    tensors = {short: file.tensors[name] for name, short in names.items()}
    return replace(file, tensors=tensors, graph=graph, notes=notes)


def _siblings(names: list[str]) -> tuple[str, str] | None:
    """Return the prefixes of two networks in one state dict that have the same parameter names."""
    for taken, left in SIBLINGS:
        first, second = (
            {name.removeprefix(one) for name in names if name.startswith(one)}
            for one in (taken, left)
        )
        if 2 * len(first & second) > max(len(first), len(second)):
            return taken, left
    return None


def _left(file: TensorFile, names: Mapping[str, str], taken: str, left: str) -> str:
    """Return the note on the network that was left out, with the Python line that saves it."""
    begin = next(name for name, short in names.items() if short.startswith(left))
    whole = begin.removesuffix(names[begin]) + left
    rest = [short for short in names.values() if not short.startswith((taken, left))]
    beside = f"; {len(rest)} more tensors are not used, {rest[0]!r} first" if rest else ""
    first, load, save = "import torch", file.metadata.get(LOAD, ""), "torch.save"
    if file.format == "safetensors":  # which NumPy has no bfloat16 for
        halves = any(one.dtype == "bfloat16" for one in file.tensors.values())
        first = f"from safetensors.{'torch' if halves else 'numpy'} import load_file, save_file"
        load, save = f"load_file({str(file.path)!r})", "save_file"
    trust = f" {TRUST}" if "weights_only=False" in load else ""
    return (
        f"{taken.rstrip('.')!r} is used and {left.rstrip('.')!r} beside it is not; in Python, "
        f"{first}; {save}({{k[{len(whole)}:]: v for k, v in {load}.items() "
        f"if k.startswith({whole!r})}}, "
        f"{other_file(file.path, left)!r}) saves that one{trust}{beside}"
    )


def _wraps(wrapper: str, names: list[str]) -> bool:
    """Return whether all names begin with a wrapper's prefix; for those in SURE, most names."""
    count = sum(name.startswith(wrapper) for name in names)
    if wrapper == RESNET:  # VGG and others have a module of that name, but no layer1 in it
        return 2 * count > len(names) and any(name.startswith("features.layer1.") for name in names)
    return count == len(names) > 0 or (wrapper in SURE and 2 * count > len(names))


def _unlisted(names: list[str]) -> str | None:
    """Return a prefix that most names have and behind which a network here begins, if there is one.

    It is no module of a network here, so `resnet18.layer1 ...` can only be a wrapper's attribute.
    """
    parts = [name.split(".") for name in names]
    for depth in range(1, MAX_WRAPPERS + 1):
        deep = [one for one in parts if len(one) > depth + 1 and one[0] not in FIRST_MODULES]
        starts = Counter(tuple(one[:depth]) for one in deep)
        prefix, count = starts.most_common(1)[0] if starts else ((), 0)
        inside = {one[depth] for one in deep if tuple(one[:depth]) == prefix}
        if 2 * count > len(names) and inside & FIRST_MODULES:
            return ".".join(prefix) + "."
    return None


def _reader(path: Path, start: bytes) -> Callable[[Path], TensorFile] | None:
    """Return the reader for a file that begins with those bytes."""
    if start.startswith(b"PK\x03\x04"):
        zipped = keras_file.INNER in stored_members(path)
        return keras_file.read_keras_zip if zipped else torch_file.read_torch_zip
    gluon = len(start) == 16 and struct.unpack("<Q", start[:8])[0] == LIST_MAGIC
    known = (
        (start.startswith(HDF5), keras_file.read_keras),
        (start[2:].startswith(TORCH_STREAM) and start[:1] == b"\x80", torch_file.read_torch_stream),
        (gluon, gluon_file.read_gluon),
        (start[8:9] == b"{", safetensors_file.read_safetensors),
        (start[:1] == ONNX, onnx_file.read_onnx),
        (start[:1] in CAFFE and caffe_file.looks_like_caffe(path), caffe_file.read_caffe),
    )
    return next((read for fits, read in known if fits), None)
