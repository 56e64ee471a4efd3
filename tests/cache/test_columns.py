"""What a table says of images lies in their entry, and follows its rows wherever they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.filling import differing
from probe.cache.interchange import export_features, import_features
from probe.cache.joining import join
from probe.cache.pack import pack
from probe.cache.store import Store
from probe.datasets.spec import Dataset
from probe.errors import CorruptEntryError, DataError
from probe.extraction.upkeep import plan_mend, plan_sync, sync
from tests.cache.test_upkeep import World
from tests.cache.toy import everything, extract, flip, interrupted, with_columns
from tests.fakes import Silent, make_dataset, make_job


def columns(of: FeatureSet | Dataset) -> dict[str, dict[str, list[str]]]:
    return {
        split: {name: list(cells) for name, cells in one.columns.items()}
        for split, one in of.splits.items()
    }


def test_an_entry_has_the_columns_of_its_images(tmp_path: Path) -> None:
    dataset = with_columns(make_dataset())
    entry, _ = extract(dataset, Store(tmp_path))
    assert columns(entry) == columns(dataset)
    assert columns(FeatureSet.open(entry.path))["test"]["site"][:4] == [
        "zoë 0", "zoë 1", "zoë 2", "zoë 0",
    ]  # fmt: skip
    entry.verify()
    before = entry.path.stat()
    again, observer = extract(with_columns(make_dataset()), Store(tmp_path))
    assert observer.taken == observer.forwarded == 0
    assert again.path.stat() == before  # equal columns: nothing is written


@pytest.mark.parametrize(
    "mended",
    [
        with_columns(make_dataset(), site="zoë 1"),
        with_columns(make_dataset(), age="7"),
        make_dataset(),
    ],
    ids=["a cell", "a column", "no table"],
)
def test_other_columns_are_brought_in_step_without_a_forward_pass(
    tmp_path: Path, mended: Dataset
) -> None:
    store = Store(tmp_path)
    entry, _ = extract(with_columns(make_dataset()), store)
    reader = FeatureSet.open(entry.path)
    assert differing(entry, make_job(mended).tables, mended.classes) == ["columns"]
    made, observer = extract(mended, store)
    assert (observer.forwarded, observer.taken) == (0, 830)
    assert (made.path, made.key) == (entry.path, entry.key)
    fresh, _ = extract(mended, Store(tmp_path / "fresh"))
    assert everything(made) == everything(fresh)
    assert columns(reader) == columns(with_columns(make_dataset()))  # of whoever has it open


def test_an_entry_of_an_older_version_gets_the_columns(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, _ = extract(make_dataset(), store)  # as those were written
    assert old.header.column_checksum is None
    made, observer = extract(with_columns(make_dataset()), store)
    assert observer.forwarded == 0
    assert columns(made) == columns(with_columns(make_dataset()))


@pytest.mark.parametrize("changed", [False, True])
def test_an_interrupted_run_goes_on_with_the_columns_of_today(
    tmp_path: Path, changed: bool
) -> None:
    store, dataset = Store(tmp_path), with_columns(make_dataset(train=1500))
    interrupted(dataset, store, batches=40)
    if changed:
        dataset = with_columns(make_dataset(train=1500), site="elsewhere")
    made, observer = extract(dataset, store)
    assert observer.taken == 1024
    fresh, _ = extract(dataset, Store(tmp_path / "fresh"))
    assert everything(made) == everything(fresh)


def test_packing_and_unpacking_keep_them(tmp_path: Path) -> None:
    pytest.importorskip("hdf5plugin")
    store = Store(tmp_path)
    entry, _ = extract(with_columns(make_dataset()), store)
    before = everything(entry)
    packed = pack(entry, store).entry
    assert packed.packed
    assert everything(packed) == before
    packed.verify()
    assert everything(pack(packed, store, codec="none").entry) == before
    half = pack(entry, store, dtype="float16").entry
    assert columns(half) == columns(entry)


def test_splits_extracted_apart_are_joined_with_theirs(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), with_columns(make_dataset())
    for name, split in whole.splits.items():
        extract(replace(whole, splits={name: split}), store)
    joined = join(store, store.choose(None))
    assert {name: split.columns for name, split in joined.splits.items()} == columns(whole)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
def test_an_export_has_them_and_is_imported_with_them(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    dataset = with_columns(make_dataset(train=40, test=10))
    train = dataset.splits["train"]  # a name that is taken in Parquet, and a split without it
    train = replace(train, columns={**train.columns, "label": ["x"] * 40, "label_": ["y"] * 40})
    dataset = replace(dataset, splits={**dataset.splits, "train": train})
    entry, _ = extract(dataset, Store(tmp_path))
    path = tmp_path / f"out.{ending}"
    export_features(entry, path)
    again = import_features([path], Store(tmp_path / "other"))
    assert columns(again) == columns(dataset)
    assert caplog.messages == []


BROKEN = {
    "no JSON": b"[",
    "a list": b"[1]",
    "numbers": b'{"site": [1, 2]}',
    "too few": b'{"site": ["x"]}',
    "text": b'{"site": "xx"}',
    "half of a pair": b'{"site": ["\\ud800", "x"]}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_an_export_whose_columns_are_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    entry, _ = extract(with_columns(make_dataset(train=40, test=10)), Store(tmp_path))
    export_features(entry, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        arrays = {**file, "train_columns": np.frombuffer(data, np.uint8)}
    np.savez(tmp_path / "out.npz", **arrays)
    with pytest.raises(DataError, match="train_columns") as caught:
        import_features([tmp_path / "out.npz"], Store(tmp_path / "other"))
    assert "\n" not in str(caught.value)


def write_list(world: World, sites: Sequence[str]) -> None:
    """Name the images of a world in a list, with a column of sites."""
    lines = ["image,label,split,site"]
    paths = sorted(world.folder.rglob("*.png"))
    for number, path in enumerate(paths):
        name = path.relative_to(world.folder).as_posix()
        split, label, _ = name.split("/")
        lines.append(f"{name},{label},{split},{sites[number % len(sites)]}")
    (world.folder / "list.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def listed(tmp_path: Path) -> World:
    """A world whose dataset is a list of its images."""
    world = World(tmp_path)
    world.folder = world.images  # type: ignore[attr-defined]
    write_list(world, "xyz")
    world.images = world.images / "list.csv"
    return world


def test_sync_brings_a_mended_list_s_columns_in_step(listed: World) -> None:
    entry = listed.extract()
    assert list(entry["test"].columns["site"])[:3] == ["x", "y", "z"]
    write_list(listed, "xyw")
    prepared, observer = listed.prepared(), Silent()
    plan = plan_sync(entry, prepared)
    assert plan.changes == ("columns",)
    made = sync(entry, prepared, plan, listed.store, observer)
    assert observer.forwarded == 0
    assert everything(made) == everything(listed.fresh())
    assert plan_sync(made, listed.prepared()).changes == ()


@pytest.mark.parametrize("name", ["columns", "column_values"])
def test_a_damaged_column_is_found_and_mended_without_a_forward_pass(
    listed: World, name: str
) -> None:
    entry = listed.extract()
    flip(entry.path, getattr(entry.header, name)["train"].start + 5)
    with pytest.raises(CorruptEntryError, match="a column beside labels and ids") as caught:
        FeatureSet.open(entry.path)
    (shown,) = listed.store.entries()
    prepared, observer = listed.prepared(), Silent()
    made = sync(shown, prepared, plan_mend(shown, prepared, caught.value), listed.store, observer)
    assert observer.forwarded == 0
    assert everything(made) == everything(listed.fresh())
