"""Every flipped bit of an entry is found, or changes nothing that is read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.file import Header, Region
from probe.cache.key import canonical_json
from probe.errors import CacheError, CorruptEntryError
from tests.cache.toy import everything, small_entry

FLIPS_A_REGION = 120
FLIPS_ANYWHERE, FLIPS_OF_STRUCTURE = 600, 900


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_entry(tmp_path_factory.mktemp("bits"))


def size_of(region: Region) -> int:
    return int(np.prod(region.shape)) * region.dtype.itemsize


def meaningful(header: Header) -> dict[str, range]:
    """Return where everything lies that an entry says, but the seal."""
    data = header.path.read_bytes()
    found = {}
    for split in header.features:
        for name in ("features", "labels", "ids", "content", "blocks", "folds"):
            region = getattr(header, name)[split]
            found[f"{split}/{name}"] = range(region.start, region.start + size_of(region))
    found["checksum"] = range(header.checksum.start, header.checksum.start + 16)
    assert header.fold_checksum is not None
    found["fold_checksum"] = range(header.fold_checksum.start, header.fold_checksum.start + 16)
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
    """HDF5's own structure, the seal, and what lies between aligned arrays."""
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
    data = bytearray(entry.path.read_bytes())
    for row in (7, 11, 30):
        data[region.start + row * region.row_bytes + row] ^= 1
    copy = entry.path.with_name("copy.h5")
    copy.write_bytes(data)
    assert said_of(copy).startswith("train row 7 (train/00007), the first of 3 between 0 and 39")
    (bad,) = FeatureSet.open(copy).damage()
    assert (bad.rows, bad.start, bad.stop) == ((7, 11, 30), 0, 40)


def test_damage_that_cancels_out_in_a_fold_is_found_and_placed_by_its_block(
    entry: FeatureSet,
) -> None:
    at = entry.header.features["train"].start + 5 * entry.header.features["train"].row_bytes
    data = bytearray(entry.path.read_bytes())
    data[at] ^= 1
    data[at + 4] ^= 1
    copy = entry.path.with_name("copy.h5")
    copy.write_bytes(data)
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


def test_a_seal_is_information_and_not_checked(entry: FeatureSet) -> None:
    for _ in flipped(entry.path, [(entry.header.seal.start + 6, 0)]):
        assert not is_found(entry.path)
