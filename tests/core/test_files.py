"""Files that are whole or not there, and what a full disk says."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probe.core.files import hold, replacing, working_folder, write_text
from probe.core.run_folders import new_run_folder
from probe.errors import CacheError


def processes(code: str, *arguments: Path) -> list[subprocess.Popen[str]]:
    """Start a process for each argument, which prints a line and waits for its input to end."""
    header = (
        "import sys; from pathlib import Path\n"
        "from probe.core.files import replacing, working_folder\n"
        "from probe.core.run_folders import new_run_folder\n"
    )
    return [
        subprocess.Popen(
            [sys.executable, "-c", header + code, str(one)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for one in arguments
    ]  # fmt: skip


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


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


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(CacheError, match=r"a: cannot be written \(Is a directory\)"):
        write_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    target, other = tmp_path / "report [1].html", tmp_path / "report [1].html.old"
    code = (
        "with replacing(Path(sys.argv[1])) as place:\n"
        "    place.write_text('half'); print('there', flush=True); sys.stdin.read()"
    )
    running = processes(code, target, target, other)
    assert [first_line(one) for one in running] == ["there"] * 3
    write_text(target, "whole")
    assert len(list(tmp_path.glob(".*.tmp"))) == 3  # all of living processes
    for one in (running[0], running[2]):
        one.kill()
        one.communicate()
    write_text(target, "whole")
    assert len(list(tmp_path.glob(".*.tmp"))) == 1  # of the living one
    running[1].communicate("")
    assert target.read_text() == "half"
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_working_folder_goes_with_its_process_or_the_next_one(tmp_path: Path) -> None:
    code = (
        "with working_folder(Path(sys.argv[1]), 'a[1]', '.unfinished') as place:\n"
        "    (place / 'half').write_text('x'); print(place, flush=True); sys.stdin.read()"
    )
    running = processes(code, tmp_path, tmp_path)
    places = [Path(first_line(one)) for one in running]
    running[0].kill()
    running[0].communicate()
    with working_folder(tmp_path, "a[1]", ".unfinished") as mine:
        assert set(tmp_path.iterdir()) == {places[1], mine}
    running[1].communicate("")
    assert list(tmp_path.iterdir()) == []


def test_empty_run_folders_of_killed_processes_go(tmp_path: Path) -> None:
    code = "print(new_run_folder(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    running = processes(code, tmp_path, tmp_path)
    places = [Path(first_line(one)) for one in running]
    running[0].kill()
    running[0].communicate()
    mine = tmp_path / "mine"
    mine.mkdir()
    new = new_run_folder(tmp_path)
    # a living process is about to write in its own, and one is nobody's but the user's; within
    # the same second the new one may have the name of the one that went
    assert set(tmp_path.iterdir()) == {places[1], new, mine}
    assert new_run_folder(tmp_path).parent == tmp_path
    assert new.is_dir()
    running[1].communicate("")


def test_a_folder_that_was_removed_and_made_again_before_it_was_held_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lock = tmp_path / "run", fcntl.flock
    folder.mkdir()

    def somebody_is_faster(descriptor: int, how: int) -> None:
        folder.rename(tmp_path / "removed")  # which keeps its inode from being used again
        folder.mkdir()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", somebody_is_faster)
    with pytest.raises(FileNotFoundError):
        hold(folder)
    monkeypatch.undo()
    os.close(hold(folder))
