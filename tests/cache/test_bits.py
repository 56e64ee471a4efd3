"""Every flipped bit of an entry is found, or changes nothing that is read.

A sample of the bits, which is larger in `make test-thorough`.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.file import Header, Region
from probe.cache.key import canonical_json
from probe.cache.store import Store
from probe.errors import CacheError, CorruptEntryError
from tests.cache.toy import everything, extract, flip, with_columns
from tests.fakes import make_dataset
from tests.thorough import THOROUGH

FLIPS_A_REGION = 120 if THOROUGH else 16
FLIPS_ANYWHERE, FLIPS_OF_STRUCTURE = (600, 900) if THOROUGH else (80, 120)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("bits")
    return extract(with_columns(make_dataset(train=40, test=10)), Store(folder))[0]


def size_of(region: Region) -> int:
    return int(np.prod(region.shape)) * region.dtype.itemsize


def meaningful(header: Header) -> dict[str, range]:
    """Return where everything lies that an entry says."""
    data = header.path.read_bytes()
    found = {}
    for split in header.features:
        for name in (
            "features", "labels", "ids", "content", "blocks", "folds", "columns", "column_values",
        ):  # fmt: skip
            region = getattr(header, name)[split]
            found[f"{split}/{name}"] = range(region.start, region.start + size_of(region))
    found["checksum"] = range(header.checksum.start, header.checksum.start + 16)
    assert header.fold_checksum is not None
    found["fold_checksum"] = range(header.fold_checksum.start, header.fold_checksum.start + 16)
    assert header.seal_checksum is not None
    for name in ("seal", "seal_checksum", "column_checksum"):
        start = getattr(header, name).start
        found[name] = range(start, start + 16)
    texts = {
        "key": canonical_json(header.key.to_json()),
        "provenance": canonical_json(dict(header.provenance)),
        "digest": header.digest,
        "format": "probe-features",
        "classes": "antbeecat",
    }
    for name, text in texts.items():
        at = data.index(text.encode())
        found[name] = range(at, at + len(text.encode()))
    return found


def flipped(path: Path, places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    with path.open("r+b", buffering=0) as file:
        for at, bit in places:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit]))
            yield at, bit
            file.seek(at)
            file.write(bytes([byte]))


def is_found(path: Path) -> bool:
    try:
        FeatureSet.open(path).verify()
    except CacheError:
        return True
    return False


def test_every_flipped_bit_of_what_an_entry_says_is_found(entry: FeatureSet) -> None:
    dice = random.Random(0)
    for name, where in meaningful(entry.header).items():
        bits = [8 * at + bit for at in where for bit in range(8)]
        chosen = dice.sample(bits, min(len(bits), FLIPS_A_REGION))
        for at, bit in flipped(entry.path, [divmod(one, 8) for one in chosen]):
            assert is_found(entry.path), f"bit {bit} of byte {at}, in {name}"
    assert not is_found(entry.path)


def test_a_flipped_bit_anywhere_else_is_found_or_changes_nothing(entry: FeatureSet) -> None:
    """HDF5's own structure, and what lies between aligned arrays."""
    dice, before = random.Random(1), everything(entry)
    spoken_for = {at for where in meaningful(entry.header).values() for at in where}
    data = entry.path.read_bytes()
    silent = [at for at in range(len(data)) if at not in spoken_for]
    structure = [at for at in silent if any(data[max(at - 8, 0) : at + 9])]  # not the long gaps
    chosen = dice.choices(silent, k=FLIPS_ANYWHERE) + dice.choices(structure, k=FLIPS_OF_STRUCTURE)
    places = [(at, dice.randrange(8)) for at in chosen]
    unnoticed = 0
    for at, bit in flipped(entry.path, places):
        if not is_found(entry.path):
            unnoticed += 1
            assert everything(FeatureSet.open(entry.path)) == before, f"bit {bit} of byte {at}"
    assert 0 < unnoticed < len(places)


def test_a_damaged_heap_of_an_older_file_is_refused_and_not_walked_for_ever(tmp_path: Path) -> None:
    """The object sizes of the heap that held the attributes' strings; HDF5 believes them."""
    data = (Path(__file__).with_name("golden_without_folds.h5")).read_bytes()
    heap = data.index(b"GCOL")
    sizes = [heap + 16 + 8]
    sizes.append(sizes[0] + 16 + 16)  # behind `format`, whose 14 bytes take 16
    for at in [heap + 8, *sizes]:
        for bit in range(24):
            damaged = bytearray(data)
            damaged[at + bit // 8] ^= 1 << bit % 8
            path = tmp_path / "old.h5"
            path.write_bytes(damaged)
            with pytest.raises(CacheError):
                FeatureSet.open(path).verify()


WORDS = {"labels": "the label", "ids": "the id", "content": "the content hash"}


def said_of(path: Path) -> str:
    with pytest.raises(CorruptEntryError) as caught:
        FeatureSet.open(path).verify()
    return caught.value.what


@pytest.mark.parametrize("name", ["features", "labels", "ids", "content"])
def test_the_bad_row_is_named_whatever_of_it_changed(entry: FeatureSet, name: str) -> None:
    region, dice = getattr(entry.header, name)["train"], random.Random(name)
    for row in range(40):
        at = region.start + row * region.row_bytes + dice.randrange(region.row_bytes)
        if name == "ids":  # another name, not one that is no text
            at = region.start + row * region.dtype.itemsize + 8
        for _ in flipped(entry.path, [(at, dice.randrange(4))]):
            said = said_of(entry.path)
            assert f"train row {row} " in said
            if name != "ids":
                assert f"(train/{row:05d})" in said
            if name != "features":
                assert said.startswith(f"{WORDS[name]} of train row")


def test_several_bad_rows_are_counted_and_every_one_is_found(entry: FeatureSet) -> None:
    region = entry.header.features["train"]
    copy = Path(shutil.copy(entry.path, entry.path.with_name("copy.h5")))
    flip(copy, *(region.start + row * region.row_bytes + row for row in (7, 11, 30)))
    assert said_of(copy).startswith("train row 7 (train/00007), the first of 3 between 0 and 39")
    (bad,) = FeatureSet.open(copy).damage()
    assert (bad.rows, bad.start, bad.stop) == ((7, 11, 30), 0, 40)


def test_damage_that_cancels_out_in_a_fold_is_found_and_placed_by_its_block(
    entry: FeatureSet,
) -> None:
    at = entry.header.features["train"].start + 5 * entry.header.features["train"].row_bytes
    copy = Path(shutil.copy(entry.path, entry.path.with_name("copy.h5")))
    flip(copy, at, at + 4)
    assert said_of(copy) == "something in train rows 0 to 39 (the first is train/00000)"


def test_damaged_folds_are_found_and_cost_only_the_place_of_other_damage(
    entry: FeatureSet,
) -> None:
    folds, features = entry.header.folds["train"].start, entry.header.features["train"].start
    for _ in flipped(entry.path, [(folds + 21, 2)]):
        assert "the folds" in said_of(entry.path)
        assert everything(FeatureSet.open(entry.path)) == everything(entry)
        for _ in flipped(entry.path, [(features + 9000, 2)]):
            assert "something in train rows 0 to 39" in said_of(entry.path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 100.0])
def test_seconds_and_counts_are_under_a_checksum(entry: FeatureSet, value: float) -> None:
    """Seconds a hundred times as long change the images a second that `bench` shows."""
    data = bytearray(entry.path.read_bytes())
    at = entry.header.seal.start
    data[at : at + 8] = np.float64(value).tobytes()
    copy = entry.path.with_name("copy.h5")
    copy.write_bytes(data)
    with pytest.raises(CorruptEntryError, match="how long the pass took"):
        FeatureSet.open(copy)


def older_with(seal: list[float], path: Path) -> Path:
    """Write what a probe wrote whose entries had no checksum of the seal."""
    shutil.copy(Path(__file__).with_name("golden_without_seal_checksum.h5"), path)
    with h5py.File(path, "r+") as file:
        file["seal"][...] = seal
    return path


def test_an_older_entry_s_seal_is_read_and_must_be_possible(tmp_path: Path) -> None:
    assert FeatureSet.open(older_with([3.5, 12], tmp_path / "a.h5")).seal == (3.5, 12)
    for number, seal in enumerate(([np.nan, 1], [1, np.nan], [-2, 1], [1, np.inf])):
        with pytest.raises(CorruptEntryError, match="how long the pass took"):
            FeatureSet.open(older_with(seal, tmp_path / f"{number}.h5"))


ODD: dict[str, Callable[[Any], None]] = {
    "provenance is a list": lambda file: set_text(file, "provenance", "[1]"),
    "key is a number": lambda file: set_text(file, "key", "1e999"),
    "key has no rows": lambda file: set_text(
        file, "key", re.sub(r'"rows":{[^}]*}', '"rows":{}', file.attrs["key"].decode())
    ),
    "endless brackets": lambda file: set_text(file, "provenance", "[" * 60_000),
    "no blocks": lambda file: file.attrs.modify("block_rows", 0),
    "blocks of nothing": lambda file: file.attrs.modify("block_rows", -3),
    "another version": lambda file: file.attrs.modify("version", 7),
    "digest": lambda file: set_text(file, "digest", "0" * 32),
    "half as many rows in a block": lambda file: file.attrs.modify("block_rows", 16),
    "seal of three": lambda file: replace_array(file, "seal", np.zeros(3)),
    "seal of words": lambda file: replace_array(file, "seal", np.zeros(2, "u8")),
    "checksum of one": lambda file: replace_array(file, "checksum", np.zeros(1, "u8")),
    "classes are numbers": lambda file: replace_array(file, "classes", np.arange(2)),
    "a class less": lambda file: replace_array(file, "classes", np.array([b"cat"])),
    "labels are missing": lambda file: file.__delitem__("train/labels"),
    "labels of another type": lambda file: replace_array(file, "train/labels", np.zeros(35)),
    "features are text": lambda file: replace_array(file, "train/features", np.array([b"x"] * 35)),
    "a group for an array": lambda file: (file.__delitem__("seal"), file.create_group("seal")),
    "another image's hash": lambda file: file["train/content"].write_direct(
        np.zeros((35, 16), np.uint8)
    ),
}


ODD |= {
    f"{name} in chunks": lambda file, name=name: in_chunks(file, name)  # type: ignore[misc]
    for name in ("train/labels", "train/ids", "train/content", "train/blocks", "checksum", "seal")
}


def in_chunks(file: Any, name: str) -> None:
    """Store an array as h5py does where compression is asked for, its values as they are."""
    value, kind = file[name][()], file[name].dtype
    del file[name]
    file.create_dataset(name, data=value, dtype=kind, chunks=True)


def set_text(file: Any, name: str, text: str) -> None:
    del file.attrs[name]
    file.attrs.create(name, np.bytes_(text.encode()))


def replace_array(file: Any, name: str, value: np.ndarray) -> None:
    del file[name]
    file[name] = value


ODD_COLUMNS: dict[str, Callable[[Any], None]] = {
    "columns of another type": lambda file: replace_array(
        file, "train/columns", np.zeros((2, 40), "i4")
    ),
    "of other rows": lambda file: replace_array(file, "train/columns", np.zeros((2, 39), "u4")),
    "one of them": lambda file: replace_array(file, "train/columns", np.zeros(40, "u4")),
    "text": lambda file: replace_array(file, "train/column_values", np.array([b"x"])),
    "values are missing": lambda file: file.__delitem__("train/column_values"),
    "their checksum is missing": lambda file: file.__delitem__("column_checksum"),
    "a split's are missing": lambda file: file.__delitem__("test/columns"),
    "a checksum of one": lambda file: replace_array(file, "column_checksum", np.zeros(1, "u8")),
}


@pytest.mark.parametrize("what", ODD_COLUMNS)
def test_odd_columns_are_one_line(entry: FeatureSet, tmp_path: Path, what: str) -> None:
    path = Path(shutil.copy(entry.path, tmp_path / "odd.h5"))
    with h5py.File(path, "r+") as file:
        ODD_COLUMNS[what](file)
    with pytest.raises(CacheError) as caught:
        FeatureSet.open(path).verify()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("golden", ["golden.h5", "golden_without_seal_checksum.h5"])
def test_odd_attributes_and_tables_are_one_line(tmp_path: Path, what: str, golden: str) -> None:
    path = tmp_path / "odd.h5"
    shutil.copy(Path(__file__).with_name(golden), path)
    with h5py.File(path, "r+") as file:
        ODD[what](file)
    with pytest.raises(CacheError) as caught:
        FeatureSet.open(path).verify()
    assert "\n" not in str(caught.value)
    Store(tmp_path).entries()
