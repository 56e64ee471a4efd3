"""Datasets that URLs name: what is fetched, how often, and what happens where stores fail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, given_dataset, load_dataset
from probe.datasets.images.files import FileImages
from probe.datasets.images.image_inputs import file_content
from probe.datasets.mirror import mirror, stores
from probe.datasets.mirror.journal import Journal
from probe.datasets.mirror.mirror import Mirror
from probe.errors import CacheError, DataError, ImageError, MissingFilesError, UsageError
from tests.datasets.web import Web, serving

MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mirror, "PAUSES", (0.01, 0.02, 0.02, 0.02))
    monkeypatch.setattr(stores, "TIMEOUT", (5.0, 20.0))


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as running:
        yield running


def pictures(jpegs: dict[str, bytes], *, copies: int = 1) -> dict[str, bytes]:
    """Return real JPEGs by ``CLASS/NUMBER.jpg``, each several times with another last byte."""
    return {
        name.replace(".jpg", f"_{copy}.jpg"): data + bytes([copy])
        for name, data in jpegs.items()
        for copy in range(copies)
    }


def rows(dataset: Dataset) -> dict[str, bytes]:
    """Return what identifies each image, by id, of all splits."""
    return {
        id_: one.tobytes()
        for split in dataset.splits.values()
        for id_, one in zip(split.ids, split.images.content(), strict=True)
    }


def folder_of(files: dict[str, bytes], root: Path) -> Path:
    for name, data in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_folder_of_a_server_is_the_same_dataset_as_one_on_disk(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    local = load_dataset(str(folder_of(cifar_jpegs, tmp_path / "photos")), cache_dir=tmp_path / "a")
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    found = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path / "b")
    assert (found.name, found.classes) == (local.name, local.classes)
    assert rows(found) == rows(local)
    assert found.url == f"{web.url}/photos"
    np.testing.assert_array_equal(
        found.splits["train"].images.image(7), local.splits["train"].images.image(7)
    )


def test_only_images_that_were_chosen_are_fetched(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    files = pictures(cifar_jpegs, copies=7)
    web.files |= {f"photos/{name}": data for name, data in files.items()}
    assert len(files) == 210
    found = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, limit=5)
    assert not [path for path, *_ in web.asked if path.endswith(".jpg")]
    assert len(rows(found)) == 5
    assert len([path for path, *_ in web.asked if path.endswith(".jpg")]) == 5
    web.forget()
    reading = ReadOptions(include=("cat/*_0.jpg", "dog/*_0.jpg"))
    assert len(rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, reading=reading))) == 6
    assert len([path for path, *_ in web.asked if path.endswith(".jpg")]) == 6


def test_what_is_unchanged_is_not_fetched_again(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    first = rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path))
    web.forget()
    assert rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)) == first
    images = [(path, status) for path, status, _ in web.asked if path.endswith(".jpg")]
    assert len(images) == 30
    assert {status for _, status in images} == {304}

    changed, gone = "photos/cat/0000.jpg", "photos/dog/0001.jpg"
    web.files[changed] += b"another end"
    del web.files[gone]
    web.forget()
    second = rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path))
    assert [path for path, status, _ in web.asked if status == 200 and path.endswith("jpg")] == [
        changed
    ]
    assert first.keys() - second.keys() == {"dog/0001.jpg"}
    assert {one for one in second if second[one] != first[one]} == {"cat/0000.jpg"}
    assert second["cat/0000.jpg"] == file_content(web.files[changed])


def test_a_process_that_has_no_copies_fetches_what_it_reads(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    images = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path).splits["train"].images
    images.content()
    expected = images.image(7)
    elsewhere = pickle.loads(pickle.dumps(images.take(np.array([7, 8]))))
    web.forget()
    np.testing.assert_array_equal(elsewhere.image(0), expected)
    assert not web.asked
    shutil.rmtree(tmp_path / "remote")
    np.testing.assert_array_equal(elsewhere.image(0), expected)
    assert len(web.asked) == 1


def test_copies_that_others_remove_while_they_are_read_are_fetched_again(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    images = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path).splits["train"].images
    hashed, lost = FileImages.content, list[bool]()

    def hashed_late(self: FileImages) -> np.ndarray:
        if not lost:  # between the fetch and the hashes
            lost.append(True)
            (tmp_path / "remote" / "http").rename(tmp_path / "elsewhere")
        return hashed(self)

    with monkeypatch.context() as patch:
        patch.setattr(FileImages, "content", hashed_late)
        there = images.content()
    assert lost
    np.testing.assert_array_equal(there[0], np.frombuffer(
        file_content(cifar_jpegs["airplane/0000.jpg"]), np.uint8))  # fmt: skip
    plain, removed = FileImages.image, list[int]()

    def after_a_removal(self: FileImages, row: int) -> np.ndarray:
        if removed.count(row) < 2:  # between the look whether it is there and the opening
            removed.append(row)
            shutil.rmtree(tmp_path / "remote" / "http")
        return plain(self, row)

    expected = images.image(7)
    monkeypatch.setattr(FileImages, "image", after_a_removal)
    np.testing.assert_array_equal(images.image(7), expected)
    assert removed == [7, 7]


def test_strict_fetches_again_what_the_store_calls_unchanged(web: Web, tmp_path: Path) -> None:
    web.etags, web.time = False, "Fri, 01 Nov 2024 10:00:00 GMT"  # also after the change
    web.files["list.csv"] = b"path,label\na.jpg,x\n"
    load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    web.files["list.csv"] = b"path,label\na.jpg,y\n"
    assert load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path).classes == ("x",)
    found = load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path, strict=True)
    assert found.classes == ("y",)


@pytest.mark.parametrize("heads", [True, False])
def test_without_an_etag_time_and_size_tell(web: Web, tmp_path: Path, heads: bool) -> None:
    web.etags, web.heads, web.time = False, heads, "Fri, 01 Nov 2024 10:00:00 GMT"
    found = []
    for text, when in (("a", "01"), ("a", "01"), ("b", "02"), ("c", "01"), ("cc", "01")):
        web.time = f"Fri, {when} Nov 2024 10:00:00 GMT"  # c is older than b
        web.files["list.csv"] = f"path,label\na.jpg,{text}\n".encode()
        found += load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path).classes
    assert found == ["a", "a", "b", "c", "cc"]
    web.forget()
    load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    assert web.methods == (["HEAD"] if heads else ["GET"])


def test_a_list_names_images_by_its_own_place_and_by_urls(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    cat, dog = cifar_jpegs["cat/0000.jpg"], cifar_jpegs["dog/0000.jpg"]
    web.files |= {"in/img/a b.jpg": cat, "else/ü#1.jpg": dog, "else/2.jpg": dog + b" "}
    web.files["in/list.csv"] = (
        "path,label,site\nimg/a b.jpg,cat,A\n../else/ü#1.jpg,dog,B\n"
        f"{web.url}/else/2.jpg?X-Amz-Signature=secret,dog,C\n"
    ).encode()
    found = load_dataset(f"{web.url}/in/list.csv", cache_dir=tmp_path)
    assert list(found.splits["train"].ids) == [
        "img/a b.jpg", "../else/ü#1.jpg", f"{web.url}/else/2.jpg",
    ]  # fmt: skip
    assert [*rows(found).values()] == [file_content(one) for one in (cat, dog, dog + b" ")]
    assert "X-Amz-Signature=secret" in web.queries
    assert b"secret" not in b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".sqlite")
    )
    web.forget()
    reading = ReadOptions(where="site == 'B'")
    assert len(rows(load_dataset(f"{web.url}/in/list.csv", cache_dir=tmp_path, reading=reading)))
    assert [path for path, *_ in web.asked] == ["in/list.csv", "else/ü#1.jpg"]


def test_urls_from_python(web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    web.files |= cifar_jpegs
    urls = [f"{web.url}/{name}" for name in cifar_jpegs]
    given = given_dataset((urls, [name[:3] for name in cifar_jpegs]), cache_dir=tmp_path)
    assert isinstance(given, str)
    found = rows(load_dataset(given, cache_dir=tmp_path))
    assert found == {f"{web.url}/{name}": file_content(data) for name, data in cifar_jpegs.items()}
    with pytest.raises(DataError, match="was given with a password or a query") as error:
        given_dataset(([f"{urls[0]}?sig=s3cret"], ["x"]), cache_dir=tmp_path)
    assert "s3cret" not in str(error.value)


def test_images_of_one_address_and_several_queries(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files["photo.php"] = cifar_jpegs["cat/0000.jpg"]
    web.of_query = {"id=1": b"1", "id=2&sig=s3cret": b"2"}  # each adds its byte
    urls = [f"{web.url}/photo.php?{one}" for one in web.of_query]
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{one},x\n" for one in urls))
    found = load_dataset(str(tmp_path / "list.csv"), cache_dir=tmp_path / "cache")
    assert [*rows(found).values()] == [
        file_content(cifar_jpegs["cat/0000.jpg"] + one) for one in (b"1", b"2")
    ]
    assert all(id_.startswith(f"{web.url}/photo.php?") for id_ in rows(found))
    assert "s3cret" not in "".join(found.splits["train"].ids)
    web.forget()
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "".join(f"{one},x\n" for one in urls).replace("s3cret", "anew")
    )
    web.of_query["id=2&sig=anew"] = b"2"
    again = load_dataset(str(tmp_path / "list.csv"), cache_dir=tmp_path / "cache")
    assert rows(again) == rows(found)
    assert web.statuses() == {304: 2}


def test_a_list_on_disk_may_name_images_elsewhere(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"img/{name}": data for name, data in cifar_jpegs.items()}
    (tmp_path / "own.jpg").write_bytes(cifar_jpegs["cat/0001.jpg"] + b" ")
    mixed = tmp_path / "mixed.csv"
    mixed.write_text(f"path,label\n{web.url}/img/cat/0000.jpg,cat\nown.jpg,cat\n")
    found = load_dataset(str(mixed), cache_dir=tmp_path / "cache")
    assert [*rows(found).values()] == [
        file_content(cifar_jpegs["cat/0000.jpg"]), file_content(cifar_jpegs["cat/0001.jpg"] + b" "),
    ]  # fmt: skip
    plain = tmp_path / "plain.csv"
    plain.write_text("path,label\n" + "".join(f"{one},{one[:3]}\n" for one in cifar_jpegs))
    found = load_dataset(str(plain), root=Path(f"{web.url}/img"), cache_dir=tmp_path / "cache")
    assert rows(found) == {name: file_content(data) for name, data in cifar_jpegs.items()}


def test_missing_images_of_a_list(web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    web.files["list.csv"] = b"path,label\na.jpg,cat\nb.jpg,cat\nc.jpg,dog\n"
    web.files |= {"a.jpg": cifar_jpegs["cat/0000.jpg"], "c.jpg": cifar_jpegs["dog/0000.jpg"]}
    found = load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    with pytest.raises(ImageError, match=rf"^{web.url}/b.jpg: there is no such file \(HTTP 404.*"):
        found.splits["train"].images.content()
    found = load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path, skip_bad=True)
    assert [one.id for one in found.skipped] == ["b.jpg"]
    web.forget()
    assert rows(found).keys() == {"a.jpg", "c.jpg"}
    assert not web.asked  # what was fetched to be checked is not asked for again


@pytest.mark.parametrize("path", ["../../../etc/hostname", "/../x.jpg", "a/../../..", "a\0b.jpg"])
def test_no_path_of_a_list_leads_out_of_its_host(web: Web, tmp_path: Path, path: str) -> None:
    web.files["in/list.csv"] = f"path,label\n{path},x\nb.jpg,x\n".encode()
    with pytest.raises(DataError):
        load_dataset(f"{web.url}/in/list.csv", cache_dir=tmp_path)


@pytest.mark.parametrize("charset", ["ascii", "no-such-encoding", "rot13"])
def test_a_listing_in_another_encoding_than_the_server_says_is_refused(
    web: Web, tmp_path: Path, charset: str
) -> None:
    web.files["photos/caf\xe9/a.jpg"] = b"x"
    web.charset = charset
    with pytest.raises(MissingFilesError, match="not in the encoding that the server says"):
        load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)


def test_names_that_lead_elsewhere_are_left_out_of_a_listing(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web.files["photos/cat/0000.jpg"] = cifar_jpegs["cat/0000.jpg"]
    page = "".join(
        f'<a href="{one}">x</a>'
        for one in ("cat/", "%2e%2e%2f%2e%2e%2fevil.jpg", "../evil.jpg", "/evil.jpg", "a%00.jpg")
    )
    web.files["photos/"] = b"<html>" + page.encode()
    with pytest.raises(MissingFilesError, match="the server lists no files"):
        load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)  # it is no page

    class Listed:
        def files(self, url: str) -> dict[str, stores.Stat]:
            return dict.fromkeys(
                ("cat/0000.jpg", "../../evil.jpg", "cat//1.jpg", "/2.jpg", "a\0.jpg"), stores.Stat()
            )

    own = Mirror(tmp_path / "remote")
    own._stores[own._host(own.place(web.url))] = Listed()  # type: ignore[assignment]
    assert own.files(own.place(f"{web.url}/photos")) == ["cat/0000.jpg"]
    assert "left out 4 files whose names" in caplog.text


def test_a_listing_without_an_end_is_refused(web: Web, tmp_path: Path) -> None:
    class Endless(dict[str, bytes]):
        def __iter__(self) -> Iterator[str]:
            yield from ("/".join(["photos"] + ["loop"] * n + ["x.jpg"]) for n in range(1, 100))

    web.files = Endless()
    with pytest.raises(MissingFilesError, match=r"photos: its folders have no end"):
        load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)
    assert len(web.asked) < 40


@pytest.mark.parametrize("kind", ["tar", "zip", "list", "npz"])
def test_a_file_of_any_form(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    if kind == "tar":
        data = tar_of(cifar_jpegs)
    elif kind == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, one in cifar_jpegs.items():
                archive.writestr(name, one)
        data = out.getvalue()
    elif kind == "npz":
        out = io.BytesIO()
        np.savez(out, x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=np.arange(4) % 2)
        data = out.getvalue()
    else:
        kind = "csv"
        web.files |= cifar_jpegs
        data = ("path,label\n" + "".join(f"{one},{one[:3]}\n" for one in cifar_jpegs)).encode()
    web.files[f"set.{kind}"] = data
    local = folder_of(cifar_jpegs, tmp_path / "local") / f"set.{kind}"
    local.write_bytes(data)
    expected = load_dataset(str(local), cache_dir=tmp_path / "a")
    found = load_dataset(f"{web.url}/set.{kind}", cache_dir=tmp_path / "b")
    assert (found.name, found.classes) == (expected.name, expected.classes)
    assert rows(found) == rows(expected)


def test_shards_by_a_pattern_and_by_their_folder(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    names = list(cifar_jpegs)
    for number in range(3):
        part = {}
        for name in names[number::3]:
            key = name.replace("/", "_").removesuffix(".jpg")
            part |= {f"{key}.jpg": cifar_jpegs[name], f"{key}.cls": b"%d" % (number % 2)}
        web.files[f"shards/data-{number:03d}.tar"] = tar_of(part)
    one = load_dataset(f"{web.url}/shards/data-{{000..002}}.tar", cache_dir=tmp_path / "a")
    other = load_dataset(f"{web.url}/shards/", cache_dir=tmp_path / "b")
    expected = {file_content(data) for data in cifar_jpegs.values()}
    assert {*rows(one).values()} == expected
    assert {*rows(other).values()} == expected
    with pytest.raises(MissingFilesError, match=r"data-003\.tar: there is no such file"):
        load_dataset(f"{web.url}/shards/data-{{000..003}}.tar", cache_dir=tmp_path / "a")
    del web.files["shards/data-001.tar"]  # and its copy is not seen any more
    again = load_dataset(f"{web.url}/shards/", cache_dir=tmp_path / "b")
    assert len(rows(again)) == 20


def test_metadata_of_a_folder_are_read(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"hf/train/{number}.jpg": cifar_jpegs[name]
                  for number, name in enumerate(("cat/0000.jpg", "dog/0000.jpg"))}  # fmt: skip
    web.files["hf/train/metadata.csv"] = b"file_name,label,age\n0.jpg,cat,3\n1.jpg,dog,4\n"
    found = load_dataset(f"{web.url}/hf/", cache_dir=tmp_path)
    assert rows(found).keys() == {"train/0.jpg", "train/1.jpg"}
    assert list(found.splits["train"].columns["age"]) == ["3", "4"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", ["half", "short", "stall", "500", "429"])
def test_a_bad_server_costs_attempts_and_no_byte(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path, fault: str, ranges: bool
) -> None:
    web.ranges = ranges
    data = tar_of({**cifar_jpegs, "cat/large.bmp": np.random.default_rng(0).bytes(MEBIBYTE)})
    web.files["set.tar"] = data
    web.faults["set.tar"] = [fault] * 2
    if fault == "stall":
        stores.TIMEOUT = (5.0, 0.3)  # `_quick` puts it back
    if fault == "short":  # with the length of what it sends, nobody can tell: the archive can
        with pytest.raises(DataError, match="get it again"):
            load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)
        return
    load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)
    (copy,) = (tmp_path / "remote").rglob("set.tar")
    assert copy.read_bytes() == data
    asked = [asked for *_, asked in web.asked]
    if fault in ("half", "stall") and ranges:
        assert asked[1] is not None  # it goes on
        assert web.sent["set.tar"] <= len(data) + 2 * stores.BLOCK


def test_a_server_that_stays_bad_is_one_clear_line(web: Web, tmp_path: Path) -> None:
    web.files["set.tar"] = b"x" * 1000
    web.faults["set.tar"] = ["503"] * 100
    address = rf"^{web.url}/set.tar: cannot be fetched: HTTP 503 Service Unavailable; check"
    with pytest.raises(MissingFilesError, match=address):
        load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)
    assert len(web.asked) == 5
    web.ranges = False  # and each answer ends half way
    web.faults["set.tar"] = ["half"] * 100
    with pytest.raises(MissingFilesError, match="cannot be fetched"):
        load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("status", "reason"), [("403", "HTTP 403"), ("404", "there is no such file"), ("410", "410")]
)
def test_what_is_refused_is_not_tried_again(
    web: Web, tmp_path: Path, status: str, reason: str
) -> None:
    web.files["set.tar"] = b"x"
    web.faults["set.tar"] = [status]
    with pytest.raises(MissingFilesError, match=reason):
        load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)
    assert len(web.asked) == 1


def test_a_copy_outlives_a_password_that_ran_out(web: Web, tmp_path: Path) -> None:
    web.files["list.csv"] = b"path,label\na.jpg,x\n"
    load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    web.faults["list.csv"] = ["403"]
    with pytest.raises(MissingFilesError, match="HTTP 403"):
        load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    assert [status for _, status, _ in web.asked] == [200, 403, 304]


def test_hosts_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Web()) as running:
        gone = running.url
    with pytest.raises(MissingFilesError, match="the connection was refused"):
        load_dataset(f"{gone}/set.tar", cache_dir=tmp_path)
    with pytest.raises(MissingFilesError, match=r"^http://no\.such\.invalid/photos: cannot be"):
        load_dataset("http://no.such.invalid/photos/", cache_dir=tmp_path)


def test_a_file_that_changes_while_it_is_read_is_read_again(web: Web, tmp_path: Path) -> None:
    old, new = (np.random.default_rng(seed).bytes(MEBIBYTE) for seed in (0, 1))
    web.files["a/x.bin"] = old
    web.faults["a/x.bin"] = ["half"]
    own = Mirror(tmp_path / "remote")
    place = own.place(f"{web.url}/a/x.bin")

    class Changing(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            return new if len(web.asked) else old

    web.files = Changing(web.files)
    assert own.fetch([place], "x") == {}
    assert Path(place).read_bytes() == new


def test_a_killed_fetch_goes_on(web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    data = tar_of({**cifar_jpegs, "cat/large.bmp": np.random.default_rng(0).bytes(8 * MEBIBYTE)})
    web.files["set.tar"] = data
    web.pause = 0.03
    program = (
        "import sys; from pathlib import Path; from probe.datasets import load_dataset\n"
        "load_dataset(sys.argv[1], cache_dir=Path(sys.argv[2]))"
    )
    running = subprocess.Popen([sys.executable, "-c", program, f"{web.url}/set.tar", tmp_path])
    while web.sent["set.tar"] < 2 * MEBIBYTE and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    (part,) = (tmp_path / "remote" / ".parts").iterdir()
    kept = part.stat().st_size
    assert kept >= MEBIBYTE
    assert part.read_bytes() == data[:kept]
    time.sleep(0.2)  # until the server noticed
    web.forget()
    web.pause = 0.0
    load_dataset(f"{web.url}/set.tar", cache_dir=tmp_path)
    (copy,) = (tmp_path / "remote").rglob("set.tar")
    assert copy.read_bytes() == data
    assert f"bytes={kept}-" in [asked for *_, asked in web.asked]
    assert not [*(tmp_path / "remote" / ".parts").iterdir()]


def test_two_processes_at_once(web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    files = pictures(cifar_jpegs, copies=4)
    web.files |= {f"photos/{name}": data for name, data in files.items()}
    web.pause = 0.01
    program = (
        "import sys; from pathlib import Path; from probe.datasets import load_dataset\n"
        "found = load_dataset(sys.argv[1], cache_dir=Path(sys.argv[2])).splits['train']\n"
        "print(found.images.content().tobytes().hex())"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, f"{web.url}/photos/", tmp_path],
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    out = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    ids = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path).splits["train"].ids
    assert out[0] == out[1]
    assert out[0].strip() == b"".join(file_content(files[one]) for one in ids).hex()
    assert not [*(tmp_path / "remote" / ".parts").iterdir()]


def test_a_damaged_journal_costs_fetching_again_and_nothing_else(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    first = rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path))
    (journal,) = (tmp_path / "remote" / ".journals").iterdir()
    whole = journal.read_bytes()
    endless = b"[" * 100_000 + b'\n["a","1","",1e999,0]\n'
    odd = b"\xff\x00[1,2]\n[[\n{}\nnull\n" + endless + whole[9:]
    for damaged in (whole[: len(whole) // 2], odd, b""):
        journal.write_bytes(damaged)
        assert rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)) == first
    web.forget()
    rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path))
    assert web.statuses()[304] == 30  # it is whole again


def test_a_copy_that_somebody_changed_is_fetched_again(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    found = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)
    first = rows(found)
    images = found.splits["train"].images
    assert isinstance(images, FileImages)
    Path(images.path(3)).write_bytes(b"rubbish")
    Path(images.path(4)).unlink()
    assert rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)) == first


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    (tmp_path / "remote").write_text("in the way")
    found = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)
    with pytest.raises(CacheError, match="cannot be written"):
        found.splits["train"].images.content()


def test_nothing_is_asked_where_the_network_is_not_to_be_touched(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    few = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, per_class=1)
    first = rows(few)
    web.forget()
    found = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, download=False)
    assert rows(found) == first
    assert not web.asked


def test_passwords_and_signatures_are_used_and_not_written(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.login = "ann:s3cret"
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    with pytest.raises(MissingFilesError, match="HTTP 401"):
        load_dataset(f"{web.url}/photos/", cache_dir=tmp_path)
    given = web.url.replace("://", "://ann:s3cret@") + "/photos/"
    found = load_dataset(given, cache_dir=tmp_path)
    assert found.url == f"{web.url}/photos"
    assert len(rows(found)) == 30
    del web.files["photos/cat/0000.jpg"]
    with pytest.raises(MissingFilesError) as error:
        load_dataset(f"{given}none.tar?token=s3cret", cache_dir=tmp_path)
    assert "s3cret" not in str(error.value)
    every = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in every if "s3cret" in str(path) or b"s3cret" in path.read_bytes()]


def test_a_new_signature_is_the_same_file_and_another_query_another(
    web: Web, tmp_path: Path
) -> None:
    web.files["list.csv"] = b"path,label\na.jpg,x\n"
    for query in ("X-Amz-Signature=1", "X-Amz-Signature=2", "version=1", "version=2"):
        load_dataset(f"{web.url}/list.csv?{query}", cache_dir=tmp_path)
    assert [status for _, status, _ in web.asked] == [200, 304, 200, 200]


def test_a_store_without_etags_and_times_is_spoken_of(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web.etags = False
    web.files["list.csv"] = b"path,label\na.jpg,x\n"
    load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    assert caplog.text.count("tells neither an ETag nor a time") == 1
    web.files["list.csv"] += b"b.jpg,y\n"
    assert len(load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path).classes) == 2


def test_a_bar_follows_the_bytes(web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    bars = []

    class Shown:
        total: float | None = None

        def __init__(self, label: str) -> None:
            self.label, self.count, self.closed = label, 0, False
            bars.append(self)

        def update(self, count: int) -> None:
            self.count += count

        def reset(self) -> None:
            self.count = 0

        def close(self) -> None:
            self.closed = True

    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, progress=Shown))
    (bar,) = bars
    assert bar.closed
    assert bar.label == "30 images"
    assert bar.count == bar.total == sum(map(len, cifar_jpegs.values()))
    rows(load_dataset(f"{web.url}/photos/", cache_dir=tmp_path, progress=Shown))
    assert len(bars) == 1  # nothing came


@pytest.fixture
def memory() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """Put files into fsspec's memory; return their URL."""
    store = pytest.importorskip("fsspec").filesystem("memory")

    def put(files: dict[str, bytes]) -> str:
        for name, data in files.items():
            store.pipe_file(f"/bucket/{name}", data)
        return "memory://bucket"

    yield put
    store.rm("/", recursive=True)


def test_stores_of_fsspec(
    memory: Callable[[dict[str, bytes]], str], cifar_jpegs: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import fsspec

    monkeypatch.setattr(stores, "RANGE", 1000)  # an image in several requests
    files = {f"photos/train/{name}": data for name, data in cifar_jpegs.items()}
    files |= {f"photos/val/{name}": data + b" " for name, data in cifar_jpegs.items()}
    url = memory({**files, "set.tar": tar_of(cifar_jpegs), "photos/notes #1?.txt": b"x"})
    found = load_dataset(f"{url}/photos", cache_dir=tmp_path)
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 30, "val": 30}
    assert found.url == "memory://bucket/photos"
    assert rows(found) == {
        name.removeprefix("photos/"): file_content(data) for name, data in files.items()
    }
    assert len(rows(load_dataset(f"{url}/set.tar", cache_dir=tmp_path))) == 30

    read: list[str] = []
    cat_file = type(fsspec.filesystem("memory")).cat_file

    def counted(self: object, path: str, **options: object) -> bytes:
        read.append(path)
        return cat_file(self, path, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", counted)
    first = rows(load_dataset(f"{url}/photos", cache_dir=tmp_path))
    assert not read
    memory({"photos/train/cat/0000.jpg": cifar_jpegs["dog/0001.jpg"]})
    second = rows(load_dataset(f"{url}/photos", cache_dir=tmp_path))
    assert {*read} == {"/bucket/photos/train/cat/0000.jpg"}
    assert {one for one in first if first[one] != second[one]} == {"train/cat/0000.jpg"}


def test_a_store_of_fsspec_that_breaks_now_and_then(
    memory: Callable[[dict[str, bytes]], str], cifar_jpegs: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import fsspec

    monkeypatch.setattr(stores, "RANGE", 1000)
    url, kind = memory({"set.tar": tar_of(cifar_jpegs)}), type(fsspec.filesystem("memory"))
    cat_file, starts = kind.cat_file, list[int]()

    def breaking(self: object, path: str, start: int = 0, **options: object) -> bytes:
        starts.append(start)
        if len(starts) % 3 == 0:
            raise ConnectionResetError("reset by peer")
        data: bytes = cat_file(self, path, start=start, **options)
        return data[: len(data) - len(starts) % 2]  # some are short

    monkeypatch.setattr(kind, "cat_file", breaking)
    assert len(rows(load_dataset(f"{url}/set.tar", cache_dir=tmp_path))) == 30
    assert starts == sorted(starts)  # it never went back


def test_stores_that_cannot_be_read(
    memory: Callable[[dict[str, bytes]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory({"there.txt": b"x"})
    for url, said in (
        ("memory://bucket/none/", "there is no such file or folder"),
        ("memory://bucket/none.tar", "there is no such file"),
    ):
        with pytest.raises(MissingFilesError, match=said):
            load_dataset(url, cache_dir=tmp_path)
    with pytest.raises(UsageError, match=r"^nosuch://x/y: no store is called nosuch://$"):
        load_dataset("nosuch://x/y", cache_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingFilesError, match=r"^s3://bucket/x: needs s3fs: pip install s3fs$"):
        load_dataset("s3://bucket/x", cache_dir=tmp_path)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingFilesError, match=r"pip install 'frozen-probe\[remote\]' gcsfs$"):
        load_dataset("gs://bucket/x", cache_dir=tmp_path)


def test_file_urls_are_paths(cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    place = folder_of(cifar_jpegs, tmp_path / "my photos")
    found = load_dataset(place.as_uri(), cache_dir=tmp_path / "cache")
    assert (found.root, found.url) == (place, None)
    assert len(rows(found)) == 30
    assert not (tmp_path / "cache" / "remote").exists()
    with pytest.raises(UsageError, match=r"names the machine 'host'"):
        load_dataset("file://host/photos", cache_dir=tmp_path / "cache")


def test_a_file_and_a_folder_of_one_name(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    jpeg = cifar_jpegs["cat/0000.jpg"]
    web.files |= {"list.csv": b"path,label\na,x\na/b.jpg,x\n", "a": jpeg, "a/b.jpg": jpeg + b" "}
    found = load_dataset(f"{web.url}/list.csv", cache_dir=tmp_path)
    with pytest.raises(DataError, match="a file and a folder of one name"):
        found.splits["train"].images.content()


def test_a_mirror_goes_to_other_processes_without_its_connections(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    import pickle

    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    images = load_dataset(f"{web.url}/photos/", cache_dir=tmp_path).splits["train"].images
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.content(), images.content())


def test_several_threads_may_fetch_the_same(
    web: Web, cifar_jpegs: dict[str, bytes], tmp_path: Path
) -> None:
    web.files |= cifar_jpegs
    own = Mirror(tmp_path / "remote")
    places = [own.place(f"{web.url}/{name}") for name in cifar_jpegs]
    threads = [threading.Thread(target=own.fetch, args=(places, "x")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Path(one).read_bytes() for one in places] == [*cifar_jpegs.values()]
    lines = [json.loads(one) for one in next((tmp_path / "remote" / ".journals").iterdir())
             .read_text().split("\n") if one]  # fmt: skip
    assert {line[0] for line in lines} == {*cifar_jpegs}
    assert os.listdir(tmp_path / "remote" / ".parts") == []


@given(
    st.sampled_from(["http", "https", "s3", "memory", "a+b"]),
    st.text(alphabet=st.sampled_from("ab.%2e/\\:?#@ \0é~{}" + "-"), max_size=12),
    st.text(alphabet=st.sampled_from("ab.%2e/\\:?#@ \0é\ud800"), max_size=20),
)
def test_no_url_leads_out_of_the_mirror(scheme: str, host: str, path: str) -> None:
    own = Mirror(Path("/nowhere/remote"))
    try:
        place = own.place(f"{scheme}://{host}/{path}")
    except DataError:
        return
    assert os.path.normpath(place) == place
    assert place.startswith(f"/nowhere/remote/{scheme}/")
    assert own.place(own.public_url(place)) == place
    with contextlib.suppress(DataError):
        below = own.below(place, path)
        assert os.path.normpath(below) == below
        assert below.split("/")[:5] == place.split("/")[:5]
        assert own.place(own.public_url(below)) == below


@given(st.binary(max_size=200))
def test_a_journal_of_rubbish(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, base = os.path.join(folder, "journal"), os.path.join(folder, "files")
        Path(file).write_bytes(data)
        own = Journal(file, base)
        assert own.version(os.path.join(base, "a")) == ""
        Path(base).mkdir()
        Path(base, "a").write_bytes(b"x")
        own.add(os.path.join(base, "a"), "etag 1")
        assert Journal(file, base).version(os.path.join(base, "a")) == "etag 1"
