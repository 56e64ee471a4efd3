"""Finding, using and pruning entries; writing rows in any order."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.cache.checksum import SplitTable, encode_strings
from probe.cache.features import FeatureSet
from probe.cache.joining import join
from probe.cache.key import FeatureKey, digest_rows
from probe.cache.pending import Draft, PendingEntry
from probe.cache.prune import SECONDS_A_DAY, plan_prune, prune
from probe.cache.store import Store
from probe.core.memo import stamp_of
from probe.errors import CacheError, CacheMismatchError, UnknownNameError
from tests.cache.toy import extract, relabel
from tests.fakes import make_dataset

DAY = SECONDS_A_DAY
NOW = 2e9


def aged(store: Store, train: int, *, made: float, used: float | None = None) -> Path:
    """Make an entry that is so many days old, and was used so many days ago."""
    entry, _ = extract(make_dataset(train=train, test=10), store)
    os.utime(entry.path, (0, NOW - made * DAY))
    mark = store.folder / ".used" / entry.path.stem
    mark.unlink(missing_ok=True)
    if used is not None:
        store.note_use(entry.path)
        os.utime(mark, (0, NOW - used * DAY))
    return entry.path


def test_use_is_remembered_beside_the_entry_and_never_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = aged(store, 40, made=9)
    before, stamp = path.read_bytes(), stamp_of(path)
    (entry,) = store.entries()
    assert entry.used == entry.modified
    extract(make_dataset(train=40, test=10), store)  # a hit
    (entry,) = store.entries()
    assert entry.used > NOW - DAY or entry.used > entry.modified - 1
    os.utime(store.folder / ".used" / path.stem, (0, NOW))
    join(store, store.choose(None))
    assert store.entries()[0].used != NOW
    assert path.read_bytes() == before
    assert stamp_of(path) == stamp


CALLED = {
    "фото": "фото",
    "e\u0301t\u00e9 2026": "\u00e9t\u00e9_2026",
    "a b;$(c)/d.2": "a_b_c_d.2",
    "फ़ोटो": unicodedata.normalize("NFC", "फ़ोटो"),
    "x\u202ey\x1b": "x_y_",
    "n" * 50: "n" * 40,
    "写" * 40: "写" * 16,
}


@pytest.mark.parametrize("name", CALLED)
def test_an_entry_is_called_by_its_dataset_in_any_script(name: str, tmp_path: Path) -> None:
    entry, _ = extract(replace(make_dataset(train=20), name=name), Store(tmp_path))
    assert entry.path.name.startswith(f"{CALLED[name]}-")
    assert len(entry.path.name.encode()) < 200
    if "/" not in name:
        assert Store(tmp_path).choose(name).path == entry.path


def test_an_entry_that_lacks_letters_as_before_is_found(tmp_path: Path) -> None:
    store, dataset = Store(tmp_path), replace(make_dataset(train=20), name="фото")
    entry, _ = extract(dataset, store)
    before = entry.path.rename(entry.path.with_name(entry.path.name.replace("фото", "_")))
    assert extract(dataset, store)[0].path == before
    assert store.files() == [before]


def test_a_split_on_other_classes_stays_apart_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, whole = Store(tmp_path), make_dataset(train=40, test=10)
    extract(replace(whole, splits={"train": whole.splits["train"]}), store)
    (train,) = store.entries()
    test = replace(whole, splits={"test": whole.splits["test"]})
    extract(replace(test, classes=("ant", "cat", "bee")), store)
    assert list(join(store, train).splits) == ["train"]
    assert "has test of toy, too, but other classes or in another order" in caplog.text
    caplog.clear()
    extract(test, store)
    assert list(join(store, train).splits) == ["train", "test"]
    assert not caplog.text


def test_prune_by_age_by_use_and_by_size(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = aged(store, 30, made=50, used=1)
    idle = aged(store, 31, made=20)
    young = aged(store, 32, made=2, used=0)
    size = young.stat().st_size

    def going(**limits: float) -> list[Path]:
        return [one.path for one in plan_prune(store, now=NOW, **limits)]  # type: ignore[arg-type]

    assert going(older_than=60) == []
    assert going(older_than=30) == [old]
    assert going(unused=10) == [idle]
    assert set(going(older_than=10)) == {old, idle}
    assert going(max_size=10 * size) == []
    assert going(max_size=int(2.5 * size)) == [idle]  # the longest unused
    assert going(max_size=int(1.5 * size)) == [idle, old]
    assert going(older_than=30, max_size=int(1.5 * size)) == [old, idle]
    assert len(store.entries()) == 3  # planning removes nothing
    prune(store, plan_prune(store, unused=10, now=NOW))
    assert {entry.path for entry in store.entries()} == {old, young}
    assert not (store.folder / ".used" / idle.stem).exists()


def test_an_entry_is_chosen_by_name_by_its_start_or_by_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = aged(store, 40, made=5)
    other = aged(store, 41, made=1)
    assert store.choose(None).path == other
    assert store.choose(one.stem).path == one
    assert store.choose(str(one)).path == one
    assert store.choose(FeatureSet.open(one).key.digest[:8]).path == one
    with pytest.raises(UnknownNameError, match="more than one"):
        store.choose("toy")
    with pytest.raises(UnknownNameError, match="no entry"):
        store.choose("x")


@pytest.mark.parametrize("seed", range(6))
def test_rows_may_come_in_any_order_and_twice(tmp_path: Path, seed: int) -> None:
    dice, count = np.random.default_rng(seed), 700
    features = dice.standard_normal((count, 300), np.float32)
    content = dice.integers(0, 256, (count, 16), dtype=np.uint8)
    table = SplitTable(
        labels=np.zeros(count, np.int32),
        ids=encode_strings(str(row) for row in range(count)),
        content=content,
    )
    key = FeatureKey(
        backbone="b", layer="l", pool="none", parameters="p", preprocess="{}",
        rows=(("train", digest_rows(content)),),
    )  # fmt: skip
    draft = Draft(
        key=key, dataset="d", tables={"train": table}, row_shape=(300,), classes=("c",),
        provenance={},
    )  # fmt: skip
    store = Store(tmp_path)
    with store.lock(key):
        pending = PendingEntry(store, draft)
        size = pending.writer.header.block_rows
        assert -(-count // size) > 1
        pieces = np.array_split(np.arange(count), np.sort(dice.choice(count, 9, replace=False)))
        order = dice.permutation(len(pieces)) if seed else range(len(pieces))
        for number in order:
            pending.writer.write("train", pieces[number], -features[pieces[number]])
            pending.writer.write("train", pieces[number], features[pieces[number]])
        scattered = np.sort(dice.choice(count, 50, replace=False))
        pending.writer.write("train", scattered, features[scattered])
        for block in range(pending.writer.header.block_count("train")):
            pending.writer.finish_block("train", block)
        entry = pending.publish(seconds=1.5, forwarded=7)
    np.testing.assert_array_equal(entry["train"].features, features)
    assert entry.seal == (1.5, 7)


def test_the_same_images_under_two_names_are_two_entries(tmp_path: Path) -> None:
    """As CIFAR-100 with its fine and with its coarse labels."""
    store = Store(tmp_path)
    fine, coarse = make_dataset("fine", train=40), relabel(make_dataset("coarse", train=40))
    first, _ = extract(fine, store)
    second, observer = extract(coarse, store)
    assert observer.forwarded == 0
    assert first.path != second.path
    for dataset, entry in ((fine, first), (coarse, second)):
        again, observer = extract(dataset, store)
        assert (again.path, observer.taken) == (entry.path, 0)
        np.testing.assert_array_equal(again["train"].labels, dataset.splits["train"].labels)
    store.discard(second.path)
    renamed, observer = extract(make_dataset("another", train=40), store)
    assert (renamed.path, observer.taken) == (first.path, 0)  # nothing differs but the name


def test_what_cannot_be_removed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    path = aged(store, 40, made=1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CacheError, match=r"\.h5: cannot be removed \(Permission denied\)"):
        store.discard(path)


def test_a_datasets_own_name_is_not_another_that_begins_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, rows in (("two", 40), ("two2", 41)):
        extract(replace(make_dataset(train=rows, test=10), name=name), store)
    assert store.choose("two").dataset == "two"
    assert store.choose("two2").dataset == "two2"
    with pytest.raises(UnknownNameError, match="more than one"):
        store.choose("tw")


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_entries_that_were_swapped_are_refused_wherever_they_are_opened(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (first, _), (second, _) = (extract(make_dataset(train=rows), store) for rows in (40, 50))
    swap(first.path, second.path)
    for entry, other in ((first, second), (second, first)):
        with pytest.raises(CacheMismatchError) as caught:
            FeatureSet.open(entry.path)
        assert f"{entry.name}.h5: holds the entry {other.name}, so files were" in str(caught.value)
        assert f"call it {other.name}.h5 again" in str(caught.value)
        with pytest.raises(CacheMismatchError):
            join(store, store.choose(entry.name))
        with pytest.raises(CacheMismatchError):
            store.find(entry.key, "toy")
    with pytest.raises(CacheMismatchError):
        extract(make_dataset(train=40), store)
    assert store.donors(first.key) == []
    swap(first.path, second.path)
    assert FeatureSet.open(first.path).key == first.key


@pytest.mark.parametrize("what", ["swapped", "copied over the other"])
def test_entries_of_equal_images_and_other_labels_are_told_apart_by_their_names(
    tmp_path: Path, what: str
) -> None:
    """As CIFAR-100 with its fine and with its coarse labels: the digests in the names are equal."""
    store = Store(tmp_path)
    fine, coarse = make_dataset("fine", train=40), relabel(make_dataset("coarse", train=40))
    (first, _), (second, _) = extract(fine, store), extract(coarse, store)
    if what == "swapped":
        swap(first.path, second.path)
        with pytest.raises(CacheMismatchError):
            FeatureSet.open(second.path)
    else:
        first.path.write_bytes(second.path.read_bytes())
        assert FeatureSet.open(second.path).dataset == "coarse"
    with pytest.raises(CacheMismatchError, match=f"holds the entry {second.name}, so"):
        FeatureSet.open(first.path)


def test_a_name_without_a_digest_and_one_of_a_renamed_folder_are_no_mistake(tmp_path: Path) -> None:
    entry, _ = extract(make_dataset(), Store(tmp_path))
    for name in ("mine.h5", entry.path.name.replace("toy", "folder_as_it_was")):
        copy = entry.path.with_name(name)
        entry.path.rename(copy)
        assert FeatureSet.open(copy).key == entry.key
        copy.rename(entry.path)
