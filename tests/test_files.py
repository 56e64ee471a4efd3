"""Files that are whole or not there, and what a full disk says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from probe.errors import CacheError
from probe.files import replacing, write_text


def test_a_file_is_replaced_by_rename_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.txt"
    write_text(path, "one")
    before = path.stat().st_ino
    write_text(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o444 == 0o444
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors says it
    ],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, error: Exception
) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(CacheError, match=r"No space left on device.*make room"), replacing(path):
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_refusal_of_the_disk_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(CacheError, match="cannot be written"):
        write_text(tmp_path / "a" / "b", "x")
