"""Write MXNet's file format for named arrays, which `probe.weights.gluon_file` reads."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA


def write_list(file: BinaryIO, parameters: Mapping[str, NDArray[np.float32]]) -> None:
    """Write float32 arrays as MXNet 1.9.1 does, in the order of their names."""
    names = sorted(parameters)
    file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(names)))
    for name in names:
        array = parameters[name]
        sides = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
        file.write(struct.pack("<Ii", V2, 0) + sides + struct.pack("<iii", 1, 0, 0))
        file.write(np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data)
    file.write(struct.pack("<Q", len(names)))
    for name in names:
        file.write(struct.pack("<Q", len(name.encode())) + name.encode())
