"""Files that lie or want to run something: one clear line each, and nothing else happens."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import ProbeError, UnsafeFileError, WeightsError
from probe.weights import open_tensors
from tests.weights import writers
from tests.weights.writers import glob, integer, many, mapping, tensor, text

HUGE = 2**40


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch owned",)


def torch_zip(body: bytes, storages: list[bytes] | None = None) -> Callable[[Path], object]:
    data = b"\x80\x02" + body + b"."
    return lambda path: writers.write_zip(
        path, data, [b"\0" * 16] if storages is None else storages
    )


def one_tensor(**changes: Any) -> Callable[[Path], object]:
    values = {"storage": "FloatStorage", "key": "0", "count": 4, "shape": (4,)} | changes
    return torch_zip(mapping({"w": tensor(**values)}))


def evil_zip(path: Path) -> None:
    writers.write_zip(path, pickle.dumps({"w": Evil()}, protocol=2), [])


def evil_stream(path: Path) -> None:
    path.write_bytes(
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + pickle.dumps(Evil(), 2)
    )


def long_name(path: Path) -> None:
    path.write_bytes(
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02X" + b"\xff" * 4 + b"a."
    )


def stream_storage(path: Path) -> None:
    writers.write_torch_stream(path, {"w": np.ones(4, np.float32)})
    data = path.read_bytes()
    path.write_bytes(data[:-24] + struct.pack("<q", HUGE) + data[-16:])


def compressed_zip(path: Path) -> None:
    body = b"\x80\x02" + mapping({"w": tensor("FloatStorage", "0", 1 << 20, (1 << 20,))}) + b"."
    writers.write_zip(path, body, [b"\0" * (1 << 22)], zipfile.ZIP_DEFLATED)


def truncated_zip(path: Path) -> None:
    writers.write_torch_zip(path, {"w": np.ones(64, np.float32)})
    path.write_bytes(path.read_bytes()[:-200])


def overlapping_zip(path: Path) -> None:
    writers.write_torch_zip(path, {"a": np.ones(64, np.float32), "b": np.ones(64, np.float32)})
    data = path.read_bytes()
    entries = zipfile.ZipFile(path).infolist()
    first, second = (struct.pack("<I", e.header_offset) for e in entries if "/data/" in e.filename)
    central = data.index(b"PK\x01\x02")
    path.write_bytes(data[:central] + data[central:].replace(second, first))


def traversal(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../owned", "x")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")


def gluon(*parts: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(struct.pack("<QQ", 0x112, 0) + b"".join(parts))


def gluon_header(*shape: int) -> bytes:
    sides = struct.pack(f"<{len(shape)}q", *shape)
    return struct.pack("<QIiI", 1, 0xF993FAC9, 0, len(shape)) + sides + struct.pack("<iii", 1, 0, 0)


def safe(
    header: object, data: bytes = b"\0" * 16, length: int | None = None
) -> Callable[[Path], object]:
    head = json.dumps(header).encode()
    size = len(head) if length is None else length
    return lambda path: path.write_bytes(struct.pack("<Q", size) + head + data)


def f32(shape: list[int], *offsets: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": list(offsets)}


def h5(fill: Callable[[Any, Any], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("a/a/kernel:0", data=np.ones((2, 2), np.float32))
            fill(h5py, file)

    return write


def external_data(h5py: Any, file: Any) -> None:
    file.create_dataset("b/kernel:0", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual_data(h5py: Any, file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("b/kernel:0", layout)


def bomb(h5py: Any, file: Any) -> None:
    file.create_dataset("b/kernel:0", data=np.zeros((1024, 1024), "f4"), compression="gzip")


def inside_keras(
    fill: Callable[[Any, Any], object], name: str = "model.weights.h5", method: int = 0
) -> Callable[[Path], object]:
    """A `.keras` archive around an HDF5 file."""

    def write(path: Path) -> None:
        h5(fill)(path)
        inner = path.read_bytes()
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("../../owned", "x")
            archive.writestr(name, inner)

    return write


def external_link(h5py: Any, file: Any) -> None:
    file["x"] = h5py.ExternalLink("/etc/hosts", "/")


def never_written(h5py: Any, file: Any) -> None:
    file.create_dataset("b/kernel:0", (HUGE,), "f4")


def sparse_chunks(h5py: Any, file: Any) -> None:
    file.create_dataset("b/kernel:0", (HUGE,), "f4", chunks=(9,))


def text_data(h5py: Any, file: Any) -> None:
    file.create_dataset("b/kernel:0", data="text")


def endless_heap(path: Path) -> None:
    """Found by fuzzing: HDF5 1.14 walks a heap with such a size for ever."""
    writers.write_keras3(path, {"c/kernel": np.ones((1, 1, 2, 2), np.float32)})
    data = bytearray(path.read_bytes())
    free = data.index(b"GCOL") + 16 + 24 + 8  # header, the name's object, index 0 and references
    data[free + 5 : free + 9] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)


def circle(h5py: Any, file: Any) -> None:
    file["a/again"] = file["a"]


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle that runs a command, zip": (evil_zip, "posix.system"),
    "pickle that runs a command, stream": (evil_stream, "posix.system"),
    "pickle that claims a long text": (long_name, "damaged"),
    "pickle that imports os": (
        torch_zip(glob("os", "system") + many(text("x")) + b"R"),
        "os.system",
    ),
    "pickle that calls a type": (
        torch_zip(glob("torch", "FloatStorage") + b")R"),
        "calls something",
    ),
    "pickle by stack global": (
        torch_zip(text("builtins") + text("eval") + b"\x93"),
        "builtins.eval",
    ),
    "pickle with inst": (torch_zip(b"(ios\nsystem\n"), "instruction INST"),
    "pickle with newobj": (torch_zip(b"])\x81"), "calls something that is no function"),
    "pickle with a state": (torch_zip(b"]}b"), "state of an object"),
    "pickle with a nested key": (torch_zip(b"}))\x86K\x01s"), "dict key"),
    "pickle that ends early": (lambda p: writers.write_zip(p, b"\x80\x02}", []), "damaged"),
    "pickle with a deep memo": (torch_zip(b"}r\xff\xff\xff\xff"), "no state dict"),
    "tensor beyond its storage": (one_tensor(shape=(5,)), "claims 20 bytes where there are 16"),
    "tensor with an offset beyond": (one_tensor(shape=(4,), offset=1), "claims 16 bytes"),
    "tensor with a huge stride": (one_tensor(shape=(2, 2), strides=(HUGE, 1)), "claims"),
    "tensor of stride 0": (one_tensor(shape=(HUGE,), strides=(0,)), "repeats"),
    "tensor with a negative side": (one_tensor(shape=(-1,)), "impossible shape"),
    "tensor with a negative stride": (one_tensor(shape=(4,), strides=(-1,)), "impossible shape"),
    "tensor with a negative offset": (one_tensor(offset=-1), "is not a storage"),
    "tensor of many dimensions": (one_tensor(shape=(1,) * 40), "impossible shape"),
    "storage that claims more than there is": (one_tensor(count=HUGE), "is incomplete"),
    "storage that is missing": (one_tensor(key="7"), "is incomplete"),
    "storage of another kind": (torch_zip(many(text("module")) + b"Q"), "unknown way"),
    "storage in the stream that lies": (stream_storage, "claims"),
    "torch zip, compressed": (compressed_zip, "compressed"),
    "torch zip, truncated": (truncated_zip, "is damaged"),
    "torch zip, overlapping": (overlapping_zip, "overlap|twice|not at|name|is damaged"),
    "torch zip, without weights": (traversal, "no state dict"),
    "gluon, huge count": (gluon(struct.pack("<Q", HUGE)), "claims"),
    "gluon, huge array": (gluon(gluon_header(HUGE)), "claims"),
    "gluon, negative side": (gluon(gluon_header(-4)), "shape"),
    "gluon, many dimensions": (gluon(struct.pack("<QIiI", 1, 0xF993FAC9, 0, 2**31 - 1)), "claims"),
    "gluon, sparse": (gluon(struct.pack("<QIi", 1, 0xF993FAC9, 1)), "sparse"),
    "gluon, truncated": (gluon(struct.pack("<QI", 1, 0xF993FAC9)), "header"),
    "gluon, huge name": (gluon(struct.pack("<QQQ", 0, 1, HUGE)), "name claims|arrays"),
    "safetensors, huge header": (
        safe({"w": f32([4], 0, 16)}, length=HUGE),
        "header does not match",
    ),
    "safetensors, beyond the end": (safe({"w": f32([8], 0, 32)}), "header does not match"),
    "safetensors, overlapping": (
        safe({"a": f32([4], 0, 16), "b": f32([4], 0, 16)}),
        "header does not match",
    ),
    "safetensors, a hole": (safe({"a": f32([2], 8, 16)}), "header does not match"),
    "safetensors, shape and size differ": (
        safe({"a": f32([HUGE], 0, 16)}),
        "header does not match",
    ),
    "h5, external link": (h5(external_link), "link"),
    "keras zip, external link": (inside_keras(external_link), "link"),
    "keras zip, never written": (inside_keras(never_written), "claims"),
    "keras zip, compressed": (inside_keras(circle, method=zipfile.ZIP_DEFLATED), "compressed"),
    "keras zip, path traversal": (inside_keras(circle, "../model.weights.h5"), "without a data"),
    "h5, external link where weights are": (
        h5(lambda h, f: f.__setitem__("model_weights", h.ExternalLink("/etc/hosts", "/"))),
        "link",
    ),
    "h5, soft link": (h5(lambda h, f: f.__setitem__("x", h.SoftLink("/nowhere"))), "link"),
    "h5, external data": (h5(external_data), "another file"),
    "h5, virtual data": (h5(virtual_data), "another file"),
    "h5, compressed": (h5(bomb), "claims 4194304 bytes"),
    "h5, never written": (h5(never_written), "claims"),
    "h5, sparse chunks": (h5(sparse_chunks), "claims"),
    "h5, endless heap": (endless_heap, "heap"),
    "h5, a circle": (h5(circle), "nested without end"),
    "h5, text": (h5(text_data), "not supported"),
}


@pytest.fixture
def nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Fail if a file appears or more than 32 MB are allocated; the claims are in terabytes."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield tmp_path / "hostile"
    assert list(folder.iterdir()) == []
    assert {one.name for one in tmp_path.iterdir()} == {"cwd", "hostile"}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_raise_one_line(case: str, nothing_happens: Path) -> None:
    write, message = HOSTILE[case]
    write(nothing_happens)
    tracemalloc.start()
    try:
        with pytest.raises((UnsafeFileError, WeightsError), match=message) as raised:
            open_tensors(nothing_happens)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(raised.value, ProbeError)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert str(nothing_happens) in str(raised.value)
    assert peak < 32 << 20


def test_integers_do_not_blow_up() -> None:
    assert integer(HUGE)[:2] == b"\x8a\x08"
