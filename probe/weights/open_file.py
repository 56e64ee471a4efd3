"""One door for every format; which one it is, the file's bytes say, never its name."""

from __future__ import annotations

import struct
from pathlib import Path

from probe.errors import WeightsError, WeightsNotFoundError
from probe.weights import gluon_file, keras_file, safetensors_file, torch_file
from probe.weights.tensors import TensorFile
from probe.weights.zip_members import stored_members

HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH_STREAM = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1, 10 bytes, the number

KNOWN = "torch (.pth), Keras (.h5, .keras), Gluon (.params) and safetensors"


def open_tensors(path: Path) -> TensorFile:
    """Return the tensors of a weight file, none of them read yet.

    Parameters
    ----------
    path : Path
        A file of any of the known formats, whatever it is called.

    Raises
    ------
    UnsafeFileError
        The file wants to run code or claims more than it holds. Nothing was run.
    WeightsError
        It is of no known format, or damaged.
    WeightsNotFoundError
        It is not there.
    """
    try:
        return _open(path)
    except FileNotFoundError:
        raise WeightsNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def _open(path: Path) -> TensorFile:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(HDF5):
        return keras_file.read_keras(path)
    if start.startswith(b"PK\x03\x04"):
        if keras_file.INNER in stored_members(path):
            return keras_file.read_keras_zip(path)
        return torch_file.read_torch_zip(path)
    if start[2:].startswith(TORCH_STREAM) and start[:1] == b"\x80":
        return torch_file.read_torch_stream(path)
    if len(start) == 16 and struct.unpack("<Q", start[:8])[0] == gluon_file.LIST_MAGIC:
        return gluon_file.read_gluon(path)
    if start[8:9] == b"{":
        return safetensors_file.read_safetensors(path)
    raise WeightsError(f"{path}: not a weight file of a known format; known are {KNOWN}")
