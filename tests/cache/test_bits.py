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
from probe.errors import CacheError
from tests.cache.toy import everything, small_entry

FLIPS_A_REGION = 120
FLIPS_ANYWHERE = 1500


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
        for name in ("features", "labels", "ids", "content", "blocks"):
            region = getattr(header, name)[split]
            found[f"{split}/{name}"] = range(region.start, region.start + size_of(region))
    found["checksum"] = range(header.checksum.start, header.checksum.start + 16)
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
    """The bytes without a meaning: the seal, and what HDF5 leaves between aligned arrays."""
    dice, before = random.Random(1), everything(entry)
    spoken_for = {at for where in meaningful(entry.header).values() for at in where}
    silent = [at for at in range(entry.path.stat().st_size) if at not in spoken_for]
    places = [(dice.choice(silent), dice.randrange(8)) for _ in range(FLIPS_ANYWHERE)]
    unnoticed = 0
    for at, bit in flipped(entry.path, places):
        if not is_found(entry.path):
            unnoticed += 1
            assert everything(FeatureSet.open(entry.path)) == before, f"bit {bit} of byte {at}"
    assert 0 < unnoticed < FLIPS_ANYWHERE


def test_the_first_bad_row_is_named(entry: FeatureSet) -> None:
    region = entry.header.features["train"]
    for _ in flipped(entry.path, [(region.start + 39 * region.row_bytes, 3)]):
        with pytest.raises(CacheError, match=r"train rows 0 to 39 \(the first is train/00000\)"):
            FeatureSet.open(entry.path).verify()


def test_a_seal_is_information_and_not_checked(entry: FeatureSet) -> None:
    for _ in flipped(entry.path, [(entry.header.seal.start + 6, 0)]):
        assert not is_found(entry.path)
