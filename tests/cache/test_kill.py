"""Kills, power cuts, full disks, files cut short: the next run goes on and ends the same."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from probe.cache.features import FeatureSet
from probe.cache.file import read_header
from probe.cache.pack import pack
from probe.cache.pending import unfinished_files
from probe.cache.store import Store
from probe.errors import CacheError
from tests.cache import killing
from tests.cache.toy import (
    bytes_without_seal,
    everything,
    extract,
    flip,
    interrupted,
    small_entry,
)  # fmt: skip
from tests.fakes import make_dataset

ROOT = Path(__file__).parents[2]


def test_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cache.killing", str(tmp_path), "7", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for kind in killing.KINDS:
        assert sum(one["kills"] for one in results if one["kind"] == kind) >= 10
    for one in results:
        assert (one["code"], one["wrongly_listed"], one["same"], one["left_over"]) == (
            0, 0, True, 0,
        ), one  # fmt: skip
        assert one["lost_rows_a_kill"] <= killing.BLOCK + killing.BATCH


def three_blocks(store: Store) -> Path:
    """Stop an extraction of 2,000 images after three blocks of 512; return the unfinished file."""
    return interrupted(make_dataset(train=2000), store, batches=53)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    entry, _ = extract(make_dataset(train=2000), Store(tmp_path_factory.mktemp("whole")))
    return bytes_without_seal(entry.path)


@pytest.mark.parametrize("damage", ["zeros", "old bytes", "one bit"])
def test_after_a_power_cut_a_journal_ahead_of_the_data_is_not_believed(
    tmp_path: Path, whole: bytes, damage: str
) -> None:
    store = Store(tmp_path)
    partial = three_blocks(store)
    region = read_header(partial).features["train"]
    with partial.open("r+b") as file:  # the second of three finished blocks never reached the disk
        file.seek(region.start + 600 * region.row_bytes)
        old = file.read(region.row_bytes)
        new = {"zeros": bytes(len(old)), "old bytes": b"\xa5" * len(old)}.get(damage)
        file.seek(-len(old), 1)
        file.write(new or bytes([old[0] ^ 1]) + old[1:])
    entry, observer = extract(make_dataset(train=2000), store)
    assert observer.taken == 1024
    assert bytes_without_seal(entry.path) == whole


@pytest.mark.parametrize("keep", [0, 7, 20, 33, 40, 59])
def test_a_journal_cut_short_costs_only_the_blocks_it_no_longer_names(
    tmp_path: Path, whole: bytes, keep: int
) -> None:
    store = Store(tmp_path)
    partial = three_blocks(store)
    journal = partial.with_suffix(".journal")
    journal.write_bytes(journal.read_bytes()[:keep])
    entry, observer = extract(make_dataset(train=2000), store)
    assert observer.taken == keep // 20 * 512
    assert bytes_without_seal(entry.path) == whole


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.9, 0.9999])
def test_a_file_cut_short_is_started_anew(tmp_path: Path, whole: bytes, part: float) -> None:
    store = Store(tmp_path)
    partial = three_blocks(store)
    size = partial.stat().st_size
    with partial.open("r+b") as file:
        file.truncate(int(size * part))
    assert store.entries() == []
    entry, observer = extract(make_dataset(train=2000), store)
    assert observer.taken == 0
    assert bytes_without_seal(entry.path) == whole


def test_a_finished_entry_cut_short_is_refused_and_not_served(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry, _ = extract(make_dataset(), store)
    size = entry.path.stat().st_size
    with entry.path.open("r+b") as file:
        file.truncate(size - 1)
    assert store.entries() == []
    with pytest.raises(CacheError, match="extract again"):
        extract(make_dataset(), store)


@pytest.mark.parametrize("packed", [False, True])
def test_an_entry_cut_short_anywhere_is_no_entry(tmp_path: Path, packed: bool) -> None:
    entry = small_entry(tmp_path / "a")
    if packed:
        pytest.importorskip("hdf5plugin")
        entry = pack(entry, Store(tmp_path / "a")).entry
    data, dice = entry.path.read_bytes(), random.Random(3)
    store = Store(tmp_path / "b")
    store.folder.mkdir(parents=True)
    lengths = [0, 1, 7, 8, 100, 4095, 4096, len(data) - 1, *dice.sample(range(len(data)), 40)]
    for number, length in enumerate(lengths):
        path = store.folder / f"cut-{number}.h5"  # a new name: HDF5 knows files that are open
        path.write_bytes(data[:length])
        with pytest.raises(CacheError):
            FeatureSet.open(path).verify()
    assert store.entries() == []


def test_a_damaged_table_of_an_unfinished_file_is_not_sealed(tmp_path: Path, whole: bytes) -> None:
    store = Store(tmp_path)
    partial = three_blocks(store)
    header = read_header(partial)
    tables = (header.content["train"], header.labels["train"], header.ids["train"])
    flip(partial, *(region.start + 40 for region in tables), bit=2)
    entry, _ = extract(make_dataset(train=2000), store)
    assert bytes_without_seal(entry.path) == whole


def mount(place: Path, size: int) -> None:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip(f"this process may not mount a tmpfs: {done.stderr.strip()}")


def remount(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


@pytest.mark.parametrize("room", [8 << 10, 200 << 10, 1 << 20, -(64 << 10), -4096, 0, 4096, 12288])
def test_a_full_disk_is_one_clear_error_and_room_is_all_it_takes(
    tmp_path: Path, whole: bytes, room: int
) -> None:
    place = tmp_path / "small disk"
    pages = -(-len(whole) // 4096) * 4096
    mount(place, room if room > 4096 * 4 else pages + room)
    try:
        store, dataset = Store(place), make_dataset(train=2000)
        for _ in range(2):
            try:
                extract(dataset, store)
                break  # the largest of these disks has room for all of it
            except CacheError as error:
                assert "cannot be written (No space left on device)" in str(error)  # noqa: PT017
                assert store.entries() == []
        remount(place, 4 * pages)
        entry, _ = extract(dataset, store)
        assert bytes_without_seal(entry.path) == whole
        assert store.partials() == []
        del entry
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_kill_between_seal_and_rename_and_after_it(tmp_path: Path, whole: bytes) -> None:
    store = Store(tmp_path)
    entry, _ = extract(make_dataset(train=2000), store)
    partial, journal = unfinished_files(entry.path)
    journal.write_bytes(b"left behind")  # killed after the rename
    again, observer = extract(make_dataset(train=2000), store)
    assert observer.forwarded == 0
    entry.path.rename(partial)  # killed before it
    assert store.entries() == []
    last, _ = extract(make_dataset(train=2000), store)
    assert bytes_without_seal(last.path) == whole
    assert everything(last) == everything(again)
    assert not journal.exists()
