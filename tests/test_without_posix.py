"""Nothing but what Windows has, too, is needed; tried on Linux, with what it lacks taken away.

This is no run on Windows. What it shows is that the usual commands ask for no function that is
missing there, open no folder and rename no file that is open.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

LIKE_WINDOWS = """
import os, select, signal, sys

for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios"):
    sys.modules[name] = None  # importing it raises ImportError
LACKING = {
    os: "getuid geteuid killpg posix_fadvise posix_fallocate pread preadv pwrite pwritev "
        "sched_getaffinity O_NONBLOCK",
    select: "poll epoll",
    signal: "SIGALRM SIGHUP SIGKILL SIGPIPE",
}
for module, names in LACKING.items():
    for name in names.split():
        delattr(module, name)
os.process_cpu_count = os.cpu_count  # as Python itself has it there, from 3.13 on

def in_use():
    with open("/proc/self/maps") as maps:
        found = {line.split(maxsplit=5)[-1].strip() for line in maps}
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return found

def refusing(function):
    def called(source, target, **others):
        for path in map(os.path.realpath, (source, target)):
            if any(f"{one}/".startswith(f"{path}/") for one in in_use()):
                raise PermissionError(13, "is used by a process", path)
        return function(source, target, **others)
    return called

def opened(path, *args, _open=os.open, **others):
    if "/probe/" in sys._getframe(1).f_code.co_filename and os.path.isdir(path):
        raise PermissionError(13, "is a folder", path)
    return _open(path, *args, **others)

os.rename, os.replace, os.open = refusing(os.rename), refusing(os.replace), opened
"""

EVERY_MODULE = """
import importlib, pkgutil, probe
sys.modules["mxnet"] = None  # it has no wheel for Windows
from probe.errors import EngineError
for module in pkgutil.walk_packages(probe.__path__, "probe.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except EngineError:
        assert module.name.startswith(("probe.engines.mxnet.", "probe.finetune.")) or \
            module.name == "probe.screen.training", module.name
"""

COMMANDS = """
import json, sys
import probe.core.files
from probe.cli.app import main
probe.core.files.WINDOWS = True
for command in json.loads(sys.argv[1]):
    sys.argv = ["probe", *command]
    print("#", *command, file=sys.stderr, flush=True)
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


def run(code: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIKE_WINDOWS + code, *arguments],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_imported(tmp_path: Path) -> None:
    run(EVERY_MODULE, cwd=tmp_path)


def test_from_images_to_answers(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "grey.png")
    extract = ["extract", "--backbone", "resnet18", "--layer", "stage1", "--weights", "random:0",
               "--size", "32", "--dataset", "digits", "--limit"]  # fmt: skip
    said = run(
        COMMANDS,
        json.dumps([
            [*extract, "40"],
            [*extract, "60"],
            ["cache", "verify"],
            ["head", "--head", "ridge"],
            ["head", "--epochs", "2"],
            ["runs", "list"],
            ["bundle", "--out", "folder"],
            ["bundle", "--out", "file.probe"],
            ["predict", "file.probe", "grey.png"],
            ["evaluate", "folder", "--dataset", "digits"],
            ["report", "--out", "page.html"],
            ["cache", "prune", "--unused", "0"],
            ["cache", "rm", "digits-resnet18", "--yes", "--force"],
        ]),
        cwd=tmp_path,
    )  # fmt: skip
    assert "grey.png" in said
    assert (tmp_path / "page.html").stat().st_size > 100_000
