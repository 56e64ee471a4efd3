"""FORMAT.md is true: a golden file, read with h5py and plain struct, without our own reader."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

from probe.cache.checksum import SplitTable, encode_strings
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey, digest_rows
from probe.cache.pending import Draft, PendingEntry
from probe.cache.store import Store
from probe.core.columns import encode_columns
from probe.errors import CorruptEntryError
from tests.cache.toy import extract, flip
from tests.fakes import make_dataset

GOLDEN = Path(__file__).with_name("golden.h5")
WITH_COLUMNS = Path(__file__).with_name("golden_with_columns.h5")
OLD = Path(__file__).with_name("golden_without_seal_checksum.h5")
OLDER = Path(__file__).with_name("golden_without_folds.h5")
COUNTS = {"train": 35, "test": 4}
NOT_ASCII = "zoë"


def features(split: str) -> np.ndarray:
    """Return numbers that any language can make again."""
    count = COUNTS[split]
    start = 0 if split == "train" else 1000
    return (start + np.arange(count * 6, dtype=np.float32)).reshape(count, 3, 2) / 8


COLUMNS = {
    "train": {"site": ["x", NOT_ASCII, 'a "b"\n\0'] * 11 + ["x", ""], "age": ["7"] * 35},
    "test": {"age": ["8", "7", "8", "9"]},
}


def draft(*, table: bool = False) -> Draft:
    tables = {}
    for split, count in COUNTS.items():
        names = [f"{split}/{NOT_ASCII if i == 2 else i}.png" for i in range(count)]
        digests = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names]
        tables[split] = SplitTable(
            labels=(np.arange(count) % 2).astype(np.int32),
            ids=encode_strings(names),
            content=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
        )
        if table:
            columns, values = encode_columns(COLUMNS[split], count)
            tables[split] = replace(tables[split], columns=columns, column_values=values)
    key = FeatureKey(
        backbone="toy", layer="stage4", pool="none", parameters="0" * 32,
        preprocess='{"size":8}',
        rows=tuple((name, digest_rows(table.content)) for name, table in tables.items()),
    )  # fmt: skip
    return Draft(
        key=key, dataset="golden", tables=tables, row_shape=(3, 2), classes=("cat", NOT_ASCII),
        provenance={"dataset": "golden", "note": 'a "quoted" word'},
    )  # fmt: skip


def make(folder: Path, *, table: bool = False) -> Path:
    """Write a golden file; `cp` it over the one in the repository only if the format changes."""
    store, content = Store(folder), draft(table=table)
    with store.lock(content.key):
        pending = PendingEntry(store, content)
        for split, count in COUNTS.items():
            pending.writer.write(split, np.arange(count), features(split))
            for block in range(pending.writer.header.block_count(split)):
                pending.writer.finish_block(split, block)
        return pending.publish(seconds=2.5, forwarded=39).path


def test_our_own_code_still_writes_the_golden_file_byte_for_byte(tmp_path: Path) -> None:
    if h5py.version.hdf5_version_tuple[:2] != (2, 0):
        pytest.skip("written with HDF5 2.0; others may lay out the same structure in other bytes")
    assert make(tmp_path).read_bytes() == GOLDEN.read_bytes()
    assert make(tmp_path / "other", table=True).read_bytes() == WITH_COLUMNS.read_bytes()


@pytest.mark.parametrize(
    "path", [GOLDEN, WITH_COLUMNS, OLD, OLDER],
    ids=["golden", "with columns", "of an older probe", "of a still older one"],
)  # fmt: skip
def test_our_own_code_reads_it(path: Path) -> None:
    entry = FeatureSet.open(path)
    entry.verify()
    assert entry.key == draft().key
    assert entry.seal == (2.5, 39)
    for split in COUNTS:
        np.testing.assert_array_equal(entry[split].features, features(split))
        assert entry[split].columns == (COLUMNS[split] if path == WITH_COLUMNS else {})


def test_damage_in_a_file_without_folds_is_placed_by_its_block(tmp_path: Path) -> None:
    header = FeatureSet.open(OLDER).header
    for name, said in (
        ("features", "something in train rows 0 to 34 (the first is train/0.png)"),
        ("labels", "key, provenance, class names, labels, ids, content or a block's checksum"),
    ):
        copy = Path(shutil.copy(OLDER, tmp_path / f"{name}.h5"))
        flip(copy, getattr(header, name)["train"].start + 100)
        with pytest.raises(CorruptEntryError) as caught:
            FeatureSet.open(copy).verify()
        assert caught.value.what == said


@pytest.fixture
def golden() -> Any:
    with h5py.File(GOLDEN, "r") as file:
        yield file


def test_h5py_alone_reads_every_array(golden: Any) -> None:
    attributes = dict(golden.attrs)
    assert attributes["format"] == b"probe-features"
    assert attributes["version"] == 1
    key = json.loads(attributes["key"])
    assert attributes["digest"] == hashlib.blake2b(
        json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(),
        digest_size=16,
    ).hexdigest().encode()  # fmt: skip
    assert [name.decode() for name in golden["classes"]] == ["cat", NOT_ASCII]
    for split, count in COUNTS.items():
        group = golden[split]
        np.testing.assert_array_equal(group["features"][()], features(split))
        assert group["labels"][()].tolist() == [row % 2 for row in range(count)]
        assert group["ids"].asstr()[2] == f"{split}/{NOT_ASCII}.png"
        content = group["content"][()]
        assert content.shape == (count, 16)
        assert key["rows"][split] == hashlib.blake2b(content.tobytes(), digest_size=16).hexdigest()
    assert list(golden["seal"]) == [2.5, 39]


def test_struct_alone_reads_the_rows_at_their_offset(golden: Any) -> None:
    data = GOLDEN.read_bytes()
    assert data[:9] == b"\x89HDF\r\n\x1a\n\x02"  # superblock version 2
    for split, count in COUNTS.items():
        at = golden[split]["features"].id.get_offset()
        found = struct.unpack_from(f"<{count * 6}f", data, at)
        assert list(found) == features(split).reshape(-1).tolist()


def test_the_checksums_are_what_the_page_says(golden: Any, tmp_path: Path) -> None:
    check_checksums(golden)
    many_blocks, _ = extract(make_dataset(train=1200), Store(tmp_path))
    with h5py.File(many_blocks.path, "r") as file:
        check_checksums(file)


def check_checksums(golden: Any) -> None:
    block_rows = int(golden.attrs["block_rows"])
    whole = xxhash.xxh3_128()
    names = json.dumps(
        [name.decode() for name in golden["classes"]], separators=(",", ":"), ensure_ascii=False
    )
    for text in (golden.attrs["key"], names, golden.attrs["provenance"]):
        whole.update(text.encode() if isinstance(text, str) else text)
    for split in ("train", "test"):
        group = golden[split]
        rows = group["features"][()]
        for number, expected in enumerate(group["blocks"][()]):
            block = rows[number * block_rows : (number + 1) * block_rows]
            assert xxhash.xxh3_64_intdigest(block.tobytes()) == expected
        whole.update(split.encode())
        for name in ("labels", "ids", "content", "blocks"):
            array = group[name][()]
            shape = "(" + ", ".join(map(str, array.shape)) + (",)" if array.ndim == 1 else ")")
            whole.update(shape.encode())
            whole.update(array.tobytes())
    low, high = (int(word) for word in golden["checksum"][()])
    assert whole.intdigest() == low | high << 64
    check_seal(golden)
    check_folds(golden)


def test_columns_are_what_the_page_says() -> None:
    with h5py.File(WITH_COLUMNS, "r") as file:
        check_checksums(file)
        whole = xxhash.xxh3_128()
        for split, count in COUNTS.items():
            numbers, text = file[split]["columns"][()], file[split]["column_values"][()]
            pairs = json.loads(text.tobytes())
            assert numbers.shape == (len(COLUMNS[split]), count)
            assert {
                name: [values[number] for number in row.tolist()]
                for row, (name, values) in zip(numbers, pairs, strict=True)
            } == COLUMNS[split]
            assert pairs == [[name, list(dict.fromkeys(x))] for name, x in COLUMNS[split].items()]
            whole.update(f"{split}({len(pairs)}, {count})".encode() + numbers.tobytes())
            whole.update(f"({len(text)},)".encode() + text.tobytes())
        low, high = (int(word) for word in file["column_checksum"][()])
        assert whole.intdigest() == low | high << 64


def check_seal(golden: Any) -> None:
    digest, rows = golden.attrs["digest"].decode(), golden.attrs["block_rows"]
    text = f"probe-features 1 {digest} {rows} ".encode()
    low, high = (int(word) for word in golden["seal_checksum"][()])
    assert xxhash.xxh3_128_intdigest(text + golden["seal"][()].tobytes()) == low | high << 64


def check_folds(golden: Any) -> None:
    whole = xxhash.xxh3_128()
    for split in ("train", "test"):
        folds = golden[split]["folds"][()]
        whole.update(folds.tobytes())
        for column, name in enumerate(("features", "labels", "ids", "content")):
            array = golden[split][name][()]
            for row, fold in zip(array, folds[:, column].tolist(), strict=True):
                # h5py strips a string's zeros, which fold to nothing
                data = row if isinstance(row, bytes) else row.tobytes()
                data += bytes(-len(data) % 4)
                assert fold == functools.reduce(
                    operator.xor, struct.unpack(f"<{len(data) // 4}I", data)
                )
    low, high = (int(word) for word in golden["fold_checksum"][()])
    assert whole.intdigest() == low | high << 64
