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
from tests.weights import writers, writers_proto

ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.ones(2, np.float16),
    "n.num_batches_tracked": np.array([3], np.int64),
}
CAFFE = {"conv1/0": np.ones((2, 3, 1, 1), np.float32), "conv1/1": np.ones(2, np.float32)}
NODE = writers_proto.onnx_node("Conv", "/a/Conv", ["x", "a.weight", "a.bias"])
WRITERS = {
    "torch zip": writers.write_torch_zip, "torch stream": writers.write_torch_stream,
    "gluon": writers.write_gluon, "safetensors": writers.write_safetensors,
    "caffe": lambda path, arrays: writers_proto.write_caffe(path, CAFFE),
    "caffe, old": lambda path, arrays: writers_proto.write_caffe(path, CAFFE, old=True),
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


def survive(path: Path) -> None:
    try:
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
    survive(path)


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


HDF5_SCRIPT = """
import sys, random
from pathlib import Path
from tests.weights.test_fuzz import damage, survive
source, target = Path(sys.argv[1]), Path(sys.argv[2])
data, draw = source.read_bytes(), random.Random(0)
for _ in range(250):
    edits = [(draw.random(), draw.randbytes(draw.randint(1, 4))) for _ in range(draw.randint(0, 3))]
    target.write_bytes(damage(data, edits, draw.choice([1, 1, draw.random()])))
    survive(target)
"""


def test_damaged_hdf5_files_raise_or_read(tmp_path: Path) -> None:
    """In a process of its own, since the HDF5 library is C and not ours."""
    path = writers.write_keras(
        tmp_path / "w.h5",
        {"c/kernel": np.ones((3, 3, 2, 4), np.float32), "c/bias": np.ones(4, np.float32)},
    )
    done = subprocess.run(
        [sys.executable, "-c", HDF5_SCRIPT, str(path), str(tmp_path / "damaged.h5")],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
