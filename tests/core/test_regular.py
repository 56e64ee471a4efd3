"""Only regular files are opened, read and appended to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from probe.core.regular import append_regular, open_regular, read_regular
from probe.errors import UsageError
from probe.runs.ledger import read_test_evaluations, record_test_evaluation

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")


@pytest.fixture(params=["a pipe", "a device", "a folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "x"
    if request.param == "a pipe":
        os.mkfifo(path)
    elif request.param == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def test_nothing_else_is_opened_read_or_appended_to(place: Path) -> None:
    for use in (open_regular, read_regular):
        with pytest.raises(OSError, match=r"is not a regular file but a (pipe|device|folder)"):
            use(place)
    with pytest.raises(OSError, match=r"not a regular file|No such device|Is a directory"):
        append_regular(place, b"x")


def test_a_size_is_compared_before_anything_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(50 << 30)  # sparse
    with pytest.raises(OSError, match=r"is too large \(53,687,091,200 bytes; at most 10 are read"):
        read_regular(tmp_path / "x", 10)
    assert read_regular("/proc/self/maps") == b""  # says that it has no bytes, and may not end
    append_regular(tmp_path / "y", b"ab")
    append_regular(tmp_path / "y", b"c", sync=True)
    assert read_regular(tmp_path / "y", 3) == b"abc"


def test_a_ledger_that_is_no_file_closes_the_test_split(place: Path, tmp_path: Path) -> None:
    content = np.zeros((3, 16), np.uint8)
    count = record_test_evaluation(tmp_path / "ledger", content, command="head", entry="e")
    assert count == 1
    (line,) = (tmp_path / "ledger").iterdir()
    line.unlink()
    place.rename(line)
    with pytest.raises(UsageError, match="the test split stays closed"):
        record_test_evaluation(tmp_path / "ledger", content, command="head", entry="e")
    with pytest.raises(UsageError, match="cannot be read"):
        read_test_evaluations(tmp_path / "ledger", content)
