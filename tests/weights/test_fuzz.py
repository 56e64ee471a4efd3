"""Damaged files: a reader either gives tensors that can be read, or raises a ProbeError."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.errors import UnsafeFileError, WeightsError
from probe.weights import open_tensors
from probe.weights.caffe_file import read_mean
from tests.weights import writers, writers_proto

ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.ones(2, np.float16),
    "n.num_batches_tracked": np.array([3], np.int64),
}
CAFFE = {"conv1/0": np.ones((2, 3, 1, 1), np.float32), "conv1/1": np.ones(2, np.float32)}
MEAN = np.ones((3, 2, 2), np.float32)
NODE = writers_proto.onnx_node("Conv", "/a/Conv", ["x", "a.weight", "a.bias"])
WRITERS = {
    "torch zip": writers.write_torch_zip, "torch stream": writers.write_torch_stream,
    "gluon": writers.write_gluon, "safetensors": writers.write_safetensors,
    "caffe": lambda path, arrays: writers_proto.write_caffe(path, CAFFE),
    "caffe, old": lambda path, arrays: writers_proto.write_caffe(path, CAFFE, old=True),
    "caffe's mean": lambda path, arrays: writers_proto.write_mean(path, MEAN),
    "onnx": lambda path, arrays: writers_proto.write_onnx(path, arrays, nodes=[NODE]),
}  # fmt: skip
QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def damage(data: bytes, edits: list[tuple[float, bytes]], keep: float) -> bytes:
    out = bytearray(data)
    for place, value in edits:
        at = int(place * (len(out) - 1))
        out[at : at + len(value)] = value
    return bytes(out[: max(1, int(keep * len(out)))])


def survive(path: Path, kind: str = "") -> None:
    try:
        if kind == "caffe's mean":
            assert read_mean(path).ndim == 3
            return
        for tensor in open_tensors(path).tensors.values():
            if tensor.dtype.startswith(("float", "bfloat")):
                assert tensor.read().shape == tensor.shape
    except (UnsafeFileError, WeightsError) as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right


PLACES = st.floats(0, 1, exclude_max=True)
INTERESTING = st.one_of(
    st.binary(min_size=1, max_size=9),
    st.sampled_from(
        [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\x80", b"\x01\0\0\0\0\0\0\x80"]
    ),
)


@pytest.mark.parametrize("kind", WRITERS)
@QUICK
@given(
    edits=st.lists(st.tuples(PLACES, INTERESTING), max_size=3),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_raise_or_read(
    kind: str, edits: list[tuple[float, bytes]], keep: float, tmp_path: Path
) -> None:
    path = tmp_path / "w"
    WRITERS[kind](path, ARRAYS)
    path.write_bytes(damage(path.read_bytes(), edits, keep))
    survive(path, kind)


@QUICK
@given(body=st.binary(max_size=200))
def test_random_bytes_are_no_mean(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.binaryproto"
    path.write_bytes(body)
    survive(path, "caffe's mean")


@pytest.mark.parametrize(
    "start",
    [b"PK\x03\x04", b"\x12\x01" + b"\0" * 14, b"\x20" + b"\0" * 7 + b"{", b"\x08\x08:", b"\n\x01n"],
)
@QUICK
@given(rest=st.binary(max_size=200))
def test_random_bytes_behind_a_known_start(start: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(start + rest)
    survive(path)


@QUICK
@given(body=st.binary(max_size=120))
def test_random_pickles_run_nothing(body: bytes, tmp_path: Path) -> None:
    survive(writers.write_zip(tmp_path / "w", b"\x80\x02" + body + b".", [b"\0" * 16]))


HDF5 = {"c/kernel": np.ones((3, 3, 2, 4), np.float32), "c/bias": np.ones(4, np.float32)}
HDF5_WRITERS = {
    "keras": writers.write_keras,
    "keras 3": writers.write_keras3,
    "keras 3, counted": lambda path, arrays: writers.write_keras3(path, arrays, listed=["c"]),
    "keras zip": writers.write_keras_zip,
}
HDF5_SCRIPT = """
import sys
from pathlib import Path
from tests.weights.test_fuzz import HDF5, HDF5_WRITERS, fuzz_hdf5
folder = Path(sys.argv[1])
for kind, write in HDF5_WRITERS.items():
    write(folder / "whole", HDF5)
    fuzz_hdf5((folder / "whole").read_bytes(), folder / "damaged")
"""


def fuzz_hdf5(whole: bytes, target: Path) -> None:
    @settings(QUICK, max_examples=100)
    @given(
        edits=st.lists(st.tuples(PLACES, INTERESTING), max_size=3),
        keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    )
    def damaged(edits: list[tuple[float, bytes]], keep: float) -> None:
        target.write_bytes(damage(whole, edits, keep))
        survive(target)

    damaged()


def test_damaged_hdf5_files_raise_or_read(tmp_path: Path) -> None:
    """In a process of its own, since the HDF5 library is C and not ours."""
    done = subprocess.run(
        [sys.executable, "-c", HDF5_SCRIPT, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
