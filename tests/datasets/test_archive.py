from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from probe.datasets.fetch import unpack
from probe.errors import DataError, UnsafeFileError


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    return info


def test_files_and_folders_are_written(tmp_path: Path) -> None:
    tar = archive(
        tmp_path / "a.tgz", (member("d", tarfile.DIRTYPE), b""), (member("d/e/f"), b"hello")
    )
    unpack(tar, tmp_path / "out")
    assert (tmp_path / "out" / "d" / "e" / "f").read_bytes() == b"hello"
    assert (tmp_path / "out" / "d" / "e" / "f").stat().st_mode & 0o7111 == 0


HOSTILE = {
    "above": member("../evil"),
    "hidden above": member("d/../../evil"),
    "absolute": member("/tmp/datasets-evil"),
    "backslash": member("..\\evil"),
    "symbolic link": member("link", tarfile.SYMTYPE, "/etc"),
    "hard link": member("link", tarfile.LNKTYPE, "../evil"),
    "pipe": member("pipe", tarfile.FIFOTYPE),
    "device": member("zero", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_written_outside_or_at_all(tmp_path: Path, name: str) -> None:
    tar = archive(tmp_path / "a.tgz", (member("good"), b"x"), (HOSTILE[name], b""))
    into = tmp_path / "deep" / "out"
    into.mkdir(parents=True)
    with pytest.raises(UnsafeFileError, match=r"a\.tgz: the member .* nothing was written"):
        unpack(tar, into)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep", "out"]


@pytest.mark.parametrize("end", [0, 10, 100, -30])
def test_a_cut_archive(tmp_path: Path, end: int) -> None:
    tar = archive(tmp_path / "a.tgz", (member("f"), bytes(range(256)) * 50))
    tar.write_bytes(tar.read_bytes()[:end])
    with pytest.raises(DataError, match=r"a\.tgz: cannot be unpacked"):
        unpack(tar, tmp_path / "out")


def test_the_same_name_twice(tmp_path: Path) -> None:
    tar = archive(tmp_path / "a.tgz", (member("f"), b"1"), (member("f"), b"2"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tar, tmp_path / "out")
