from __future__ import annotations

import contextlib
import copyreg
import pickle
import pickletools
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from probe.datasets.named.pickles import load_pickle, loads_pickle, text_keys
from probe.errors import DataError, UnsafeFileError

RECONSTRUCT = np.zeros(0).__reduce__()[0]
PLAIN_DTYPES = (
    npst.integer_dtypes()
    | npst.floating_dtypes()
    | npst.boolean_dtypes()
    | npst.complex_number_dtypes()
    | npst.byte_string_dtypes(max_len=5)
    | npst.unicode_string_dtypes(max_len=5)
)
ARRAYS = npst.arrays(PLAIN_DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
PLAIN = st.recursive(
    SCALARS | st.frozensets(st.binary()),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
@settings(deadline=None)
def test_plain_containers_survive(value: Any, protocol: int) -> None:
    found = loads_pickle(pickle.dumps(value, protocol), "x")
    assert found == value


@given(ARRAYS, st.integers(0, 5), st.booleans())
@settings(deadline=None)
def test_arrays_survive(array: np.ndarray, protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    found = loads_pickle(pickle.dumps({"a": [array, array]}, protocol), "x")["a"]
    assert found[0].dtype == array.dtype
    assert found[0].shape == array.shape
    assert found[1] is found[0]
    np.testing.assert_array_equal(found[0], array)


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_and_dtypes_survive(protocol: int) -> None:
    value = [np.float32(1.5), np.int64(-3), np.bool_(True), np.dtype(">i4"), np.str_("é")]
    found = loads_pickle(pickle.dumps(value, protocol), "x")
    assert found == value
    assert [type(item) for item in found[:3]] == [np.float32, np.int64, np.bool_]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_1_and_2_wrote_it(module: bytes, protocol: int) -> None:
    data = pickle.dumps(np.arange(3), min(protocol, 4))
    either = rb"numpy\._?core\.multiarray"
    if protocol >= 4:  # names carry their length, and a frame holds the sum
        data = re.sub(rb"\x8c." + either, b"\x8c" + bytes([len(module)]) + module, data)
        data = data[:2] + b"\x95" + struct.pack("<Q", len(data) - 11) + data[11:]
    else:
        data = re.sub(either, module, data)
    assert module in data
    np.testing.assert_array_equal(loads_pickle(data, "x"), np.arange(3))


def test_python_2_wrote_it() -> None:
    data = (
        b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87R"
        b"q\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\xff\x03\x04tbu."
    )
    assert text_keys(loads_pickle(data, "x"))["data"].tolist() == [[1, 255], [3, 4]]


class Calls:
    """Pickles to a call of `function` with `arguments`, or to a state set on it."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def hostile(marker: Path) -> dict[str, bytes]:
    import os

    touch = f"touch {marker}"
    evil = Calls(os.system, (touch,))
    opened = f"__import__('os').system({touch!r})"
    built_on = {
        "function": b"cnumpy.core.multiarray\n_reconstruct\n",
        "class": b"cnumpy\nndarray\n",
        "list": b"]",
        "dtype": b"cnumpy\ndtype\nU\x02u1\x85R",
    }
    objects = {
        "os.system": evil,
        "builtins.eval": Calls(eval, (opened,)),
        "nested in containers": {"a": [1, (2, [evil])]},
        "in an object array": np.array([evil, 1], dtype=object),
        "in an array's state": Calls(RECONSTRUCT, (np.ndarray, (0,), b"b"), evil),
        "in a dtype": Calls(np.dtype, (evil,)),
        "copyreg": Calls(copyreg.add_extension, ("os", "system", 1)),
        "copyreg reconstructor": Calls(copyreg._reconstructor, (Path, object, None)),
        "an instance": Path("x"),
        "another array class": np.ma.masked_array([1], [0]),
        "a record array": np.zeros(2, [("a", "u1")]),
        "a date": np.zeros(2, "M8[s]"),
        "numpy's loader": Calls(np.load, (str(marker), None, True)),
        "bytes of a size": Calls(bytes, (2**40,)),
    }
    return {
        **{f"{k} {p}": pickle.dumps(v, p) for k, v in objects.items() for p in (2, 4, 5)},
        **{
            f"state on a {k}": b"\x80\x02" + v + b"}U\x0c__setstate__cos\nsystem\nsb."
            for k, v in built_on.items()
        },
        **{
            f"plain state on a {k}": b"\x80\x02" + v + b"}U\x01xK\x01sb."
            for k, v in built_on.items()
        },
        "slots on a function": b"\x80\x02cnumpy\ndtype\nN}U\x08__call__K\x01s\x86b.",
        "posix.system": b"cposix\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.system_\x93.",
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.",
        "EXT1": b"\x80\x02\x82\x01.",
        "PERSID": b"Px\n.",
        "BINPERSID": b"K\x01Q.",
        "the class itself": b"cnumpy\nndarray\n.",
        "ndarray called": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
        "an unhashable key": b"}]K\x01s.",
    }


@pytest.mark.parametrize("name", sorted(hostile(Path("x"))))
def test_a_hostile_pickle_runs_nothing(name: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.p", tmp_path / "ran"
    path.write_bytes(hostile(marker)[name])
    with pytest.raises(UnsafeFileError, match=r"evil\.p.*do not trust it") as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


BOMBS = {
    "memo of 2**31 places": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "bytearray of 2**60": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"abc.",
    "bytes of 2**60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "frame of 2**60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"K\x01.",
    "int of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "tuples to hash": b"\x80\x02}K\x01" + b"\x85q\x00h\x00\x86" * 60 + b"K\x01s.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_claim_costs_nothing(name: str) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        loads_pickle(BOMBS[name], "bomb")
    except (UnsafeFileError, DataError):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000_000


def test_an_array_that_claims_more_than_it_has() -> None:
    data = pickle.dumps(np.zeros(3, np.uint8), 2).replace(b"K\x03\x85", b"M\xff\xff\x85")
    with pytest.raises(UnsafeFileError, match="claims another size than the 3 bytes"):
        loads_pickle(data, "x")


def test_truncated_anywhere_is_one_clear_line() -> None:
    whole = pickle.dumps({"data": np.arange(20), "labels": [1, 2, 3]}, 2)
    for end in range(len(whole)):
        with pytest.raises((DataError, UnsafeFileError)) as caught:
            loads_pickle(whole[:end], "batch")
        assert "batch" in str(caught.value)
        assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_refused_or_plain(data: bytes) -> None:
    with contextlib.suppress(DataError, UnsafeFileError):
        loads_pickle(data, "x")


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"a": np.arange(4), "b": [np.float32(1), "x"]}, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError, UnsafeFileError):
        loads_pickle(bytes(whole), "x")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_pickle(tmp_path / "none.p")


def test_every_instruction_that_is_not_listed_is_refused() -> None:
    """Also those of a later Python, and the ones that only torch's pickles may use."""
    from probe.datasets.named.pickles import ARRAYS

    objects = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
    shared = {"NEXT_BUFFER", "READONLY_BUFFER"}
    assert {op.name for op in pickletools.opcodes} - ARRAYS.instructions == objects | shared
    for op in pickletools.opcodes:
        if op.name not in ARRAYS.instructions:
            with pytest.raises(UnsafeFileError, match=f"instruction {op.name}, which arrays"):
                loads_pickle(op.code.encode("latin1") + b".", "x")
