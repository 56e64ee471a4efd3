"""What the shell around a command may do to it: one line each, and never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from probe.cache.store import Store
from probe.cli.app import main
from tests.cli.command import probe
from tests.needs import needs_mxnet

PROBE = [sys.executable, "-m", "probe"]
BASE = ["extract", "--backbone", "squeezenet1_1", "--weights", "random:0", "--size", "32"]


def run(
    *arguments: str, cwd: Path, stdout: object = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROBE, *arguments],
        cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [("--version",), ("cache", "list", "--json")])
def test_output_that_cannot_be_written(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run(*arguments, cwd=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "probe: the output cannot be written (No space left on device)\n"


def test_a_server_that_fails_while_a_dataset_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    stat = os.stat

    def failing(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("photos"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    done = probe(" ".join(BASE), "--dataset", "photos", cwd=tmp_path, code=2)
    assert done.stderr == (
        "probe: photos: Stale file handle; its disk or server fails, now or for good: run the same "
        "command again\n"
    )


@pytest.mark.parametrize(
    "arguments", [("--help",), ("backbones", "list"), ("backbones", "list", "--json")]
)
def test_it_dies_quietly_where_nobody_reads_on(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        done = run(*arguments, cwd=tmp_path, stdout=closed)
    assert done.returncode == -signal.SIGPIPE  # as `cat` and `git log` do
    assert done.stderr == ""


def test_verbose_tells_of_this_package_alone(tmp_path: Path) -> None:
    code = (
        "import logging, sys; sys.argv = ['probe', '-v', 'cache', 'list']\n"
        "from probe.cli.app import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "[logging.getLogger(name).debug('from %s', name) for name in ('probe.x', 'matplotlib')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == "DEBUG probe.x: from probe.x\n"


def test_ctrl_c_is_one_line_and_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "entries", interrupted)
    monkeypatch.setattr(sys, "argv", ["probe", "cache", "list", "--cache-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr() == ("", "probe: interrupted\n")


def test_a_closed_stdout_is_no_error(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", '"$0" -m probe cache list >&-', sys.executable]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stderr == ""


def test_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", f'rmdir "{gone}"; exec "$0" -m probe cache list', sys.executable],
        cwd=gone, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 2
    assert "probe: the working directory was removed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_whose_path_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"r\xff")
    for label in "ab":
        (tmp_path / name / label).mkdir(parents=True)
        (tmp_path / name / label / "1.png").write_bytes(b"")
    done = run(*BASE, "--dataset", f"./{name}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "probe: r\\xff: the path is not UTF-8; rename the folder\n"


def test_state_may_lie_in_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    """An entry records the command line, whose text HDF5 and JSON take in UTF-8 alone."""
    place, digits = os.fsdecode(b"caf\xe9"), ["--dataset", "digits", "--limit", "60"]
    network = ["--backbone", "efficientnet_lite0", "--size", "32"]
    probe("extract", *network, *digits, "--cache-dir", place, cwd=tmp_path)
    probe("head --head ridge", "--cache-dir", place, cwd=tmp_path)
    (entry,) = Store(tmp_path / place).entries()
    assert entry.provenance["command"].endswith(r"--cache-dir 'caf\udce9'")
    (run,) = (tmp_path / place / "runs").iterdir()
    probe("runs tag", run.name, place, "--cache-dir", place, cwd=tmp_path)
    done = probe("runs show", run.name, "--cache-dir", place, cwd=tmp_path)
    assert r"caf\udce9" in done.stdout


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("probe.cache.store.Store.entries", fail)
    done = probe("cache list", cwd=tmp_path, code=2)
    assert done.stderr.startswith("probe: there is not enough memory")
    assert done.stderr.count("\n") == 1


@needs_mxnet
def test_threads_for_each_level_of_nesting_are_understood() -> None:
    code = "from probe.engines.mxnet.mx import mx; import os; print(os.environ['OMP_NUM_THREADS'])"
    for given, told in (("2,1", "2\n"), ("1", "1\n")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "OMP_NUM_THREADS": given},
        )  # fmt: skip
        assert done.stdout == told


def test_a_count_of_threads_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run(*BASE, "--dataset", "digits", "--limit", "9", cwd=tmp_path, OMP_NUM_THREADS="many")
    assert done.returncode == 2
    assert "OMP_NUM_THREADS is 'many'; set it to a number" in done.stderr
    assert "Traceback" not in done.stderr
