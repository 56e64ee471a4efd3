from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from probe.core.memo import Memo, stamp_of
from probe.errors import CacheError
from tests.thorough import THOROUGH


def aged(path: Path, text: str, *, seconds: int = 60) -> Path:
    path.write_text(text)
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))
    return path


def recall(memo: Memo, *paths: Path) -> dict[str, bytes]:
    return memo.get_many("hash", {str(path): stamp_of(path) for path in paths})


@pytest.mark.parametrize("count", [1, 700])
def test_what_was_put_comes_back_while_the_file_is_as_it_was(tmp_path: Path, count: int) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    files = [aged(tmp_path / f"f{i}", str(i)) for i in range(count)]
    memo.put_many("hash", [(str(f), stamp_of(f), f.name.encode()) for f in files])
    assert recall(memo, *files) == {str(f): f.name.encode() for f in files}
    aged(files[0], "other size")
    assert str(files[0]) not in recall(memo, *files)


def test_another_kind_is_another_value(tmp_path: Path) -> None:
    memo, file = Memo(tmp_path / "memo.sqlite"), aged(tmp_path / "f", "x")
    memo.put_many("hash", [(str(file), stamp_of(file), b"h")])
    assert memo.get_many("other", {str(file): stamp_of(file)}) == {}


@pytest.mark.parametrize("how", ["replaced", "overwritten in place"])
def test_a_change_of_the_same_size_and_time_is_seen_by_inode_or_ctime(
    tmp_path: Path, how: str
) -> None:
    memo, file = Memo(tmp_path / "memo.sqlite"), aged(tmp_path / "f", "old")
    memo.put_many("hash", [(str(file), stamp_of(file), b"h")])
    assert recall(memo, file)
    before = file.stat()
    if how == "replaced":
        (tmp_path / "g").write_text("new")
        (tmp_path / "g").replace(file)
    else:
        with file.open("r+") as opened:
            opened.write("new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_ino == before.st_ino) == (how != "replaced")
    assert recall(memo, file) == {}


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    memo, file = Memo(tmp_path / "memo.sqlite"), tmp_path / "f"
    file.write_text("x")
    memo.put_many("hash", [(str(file), stamp_of(file), b"h")])
    assert recall(memo, file) == {}


def test_rubbish_in_the_memo_s_place_costs_only_the_memory(tmp_path: Path) -> None:
    place, file = tmp_path / "memo.sqlite", aged(tmp_path / "f", "x")
    place.write_bytes(b"not a database, " * 100)
    memo = Memo(place)
    memo.put_many("hash", [(str(file), stamp_of(file), b"h")])
    assert recall(memo, file) == {}


def test_reading_makes_no_file(tmp_path: Path) -> None:
    assert recall(Memo(tmp_path / "memo.sqlite"), aged(tmp_path / "f", "x")) == {}
    assert not (tmp_path / "memo.sqlite").exists()


def test_many_processes_share_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from probe.core.memo import Memo\n"
        "memo, who = Memo(Path(sys.argv[1])), sys.argv[2]\n"
        "for i in range(40): memo.put_many('hash', [(f'{who}/{i}', (0, 0, 0, 0), b'v')])"
    )
    place = tmp_path / "memo.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", code, str(place), str(n)]) for n in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    with sqlite3.connect(place) as db:
        assert db.execute("SELECT count(*) FROM checked").fetchone() == (160,)
    db.close()


def test_what_is_forgotten_is_hashed_again_and_nothing_beside_it(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a%b").mkdir()
    files = [aged(tmp_path / name, "x") for name in ("a/1", "a/b/2", "a%b/3", "ab")]
    memo.put_many("hash", [(str(f), stamp_of(f), b"h") for f in files])
    memo.forget(tmp_path / "a")
    assert set(recall(memo, *files)) == {str(files[2]), str(files[3])}
    memo.forget(files[3])
    assert set(recall(memo, *files)) == {str(files[2])}
    Memo(tmp_path / "none.sqlite").forget(tmp_path)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_memo_that_cannot_forget_says_so(tmp_path: Path) -> None:
    (tmp_path / "memo.sqlite").mkdir()
    with pytest.raises(CacheError, match="remove it"):
        Memo(tmp_path / "memo.sqlite").forget(tmp_path)


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_memo_is_set_aside_and_made_anew(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path, file = tmp_path / "memo.sqlite", tmp_path / "x"
    path.write_bytes(damage)
    file.write_bytes(b"1")
    os.utime(file, (0, 0))
    stamp = stamp_of(file)
    memo = Memo(path)
    memo.put_many("k", [(str(file), stamp, b"v")])
    assert "set aside as memo.sqlite.broken" in caplog.text
    assert (tmp_path / "memo.sqlite.broken").read_bytes() == damage
    memo.put_many("k", [(str(file), stamp, b"v")])
    assert memo.get_many("k", {str(file): stamp}) == {str(file): b"v"}


def small(place: Path) -> None:
    """Make an empty database of small pages, so that every byte can be tried."""
    with sqlite3.connect(place) as db:
        db.execute("PRAGMA page_size = 512")
        db.execute("VACUUM")
    db.close()


def test_whichever_byte_of_the_memo_flips_nothing_wrong_is_believed(tmp_path: Path) -> None:
    place = tmp_path / "memo.sqlite"
    small(place)
    files = [aged(tmp_path / f"f{i}", str(i)) for i in range(3)]
    truth = {str(file): file.name.encode() * 4 for file in files}
    stamps = {str(file): stamp_of(file) for file in files}
    rows = [(path, stamps[path], value) for path, value in truth.items()]
    Memo(place).put_many("hash", rows)
    data, dice = place.read_bytes(), random.Random(0)
    assert Memo(place).get_many("hash", stamps) == truth
    lost, step = 0, 1 if THOROUGH else 5
    for at in range(0, len(data), step):
        for beside in tmp_path.glob("memo.sqlite*"):
            beside.unlink()
        place.write_bytes(data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :])
        memo = Memo(place)
        found = memo.get_many("hash", stamps)
        assert found.items() <= truth.items(), at
        lost += len(found) < 3
        if at % (8 * step) == 0:  # what is written next is correct, too, or ignored
            memo.put_many("hash", rows)
            assert Memo(place).get_many("hash", stamps).items() <= truth.items(), at
    assert lost > 200 // step


def test_a_memo_of_an_older_probe_is_not_believed_and_made_anew(tmp_path: Path) -> None:
    place, file = tmp_path / "memo.sqlite", aged(tmp_path / "f", "x")
    with sqlite3.connect(place) as db:
        db.execute(
            "CREATE TABLE stamps (kind TEXT, path TEXT, size INTEGER, mtime INTEGER, inode INTEGER,"
            " ctime INTEGER, value BLOB, PRIMARY KEY (kind, path)) WITHOUT ROWID"
        )
        row = ("hash", str(file), *stamp_of(file), b"h")
        db.execute("INSERT INTO stamps VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    db.close()
    memo = Memo(place)
    assert recall(memo, file) == {}
    memo.forget(file)  # nor is there anything to forget
    memo.put_many("hash", [(str(file), stamp_of(file), b"new")])
    assert recall(memo, file) == {str(file): b"new"}
    assert not list(tmp_path.glob("*.broken"))


@pytest.mark.parametrize("state", ["locked", "read-only", "cut short", "empty", "a folder"])
def test_a_memo_that_is_of_no_use_costs_only_the_memory(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda place, timeout: connect(place, timeout=0.01))
    place, file = tmp_path / "memo.sqlite", aged(tmp_path / "f", "x")
    row = (str(file), stamp_of(file), b"h")
    if state != "a folder":
        Memo(place).put_many("hash", [row])
    memo, holder = Memo(place), None
    if state == "locked":
        holder = connect(place, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    elif state == "read-only":
        connect(place).execute("PRAGMA journal_mode = DELETE").connection.close()
        data = bytearray(place.read_bytes())
        data[18] = 9  # a format that this SQLite may read and not write
        place.write_bytes(data)
    elif state == "cut short":
        os.truncate(place, place.stat().st_size - 700)
    elif state == "empty":
        place.write_bytes(b"")
    else:
        place.mkdir()
    assert recall(memo, file).get(str(file), b"h") == b"h"
    memo.put_many("hash", [row])
    assert recall(memo, file).get(str(file), b"h") == b"h"
    memo.forget_if_possible(file)
    if holder is not None:
        assert memo._busy  # one wait is enough
        holder.close()


def test_names_that_are_not_utf8_are_remembered_each_for_itself(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    names = [os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8"), "caf\\udce9"]
    stamps = dict.fromkeys(names, (1, 2, 3, 4))
    memo.put_many(
        "hash", [(name, stamps[name], name[-4:].encode("utf-8", "replace")) for name in names[:2]]
    )
    found = memo.get_many("hash", stamps)
    assert set(found) <= set(names[:2])  # never another's
    memo.put_many("hash", [(names[2], stamps[names[2]], b"escaped")])
    assert memo.get_many("hash", {names[2]: stamps[names[2]]}) == {names[2]: b"escaped"}
    assert names[0] not in memo.get_many("hash", {names[0]: stamps[names[0]]})  # its place is taken
