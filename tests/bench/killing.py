"""A small bench in real processes that are killed, and what it says in the end.

``python -m tests.bench.killing FOLDER PART...`` runs it undisturbed in FOLDER/whole, then in
FOLDER/killed, where it is killed after each of the given parts of that time, and once more to its
end. Processes are forked, so that what is imported here is imported once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import probe.bench.work
import probe.cli.bench
import probe.heads
import probe.runs.fit  # noqa: F401 - imported once, before the forks; MXNet is not
from probe.cli.app import app

ARGUMENTS = (
    "bench", "--dataset", "digits", "--per-class", "25", "--heads", "ridge,prototype", "--json",
    "--backbones", "squeezenet1_1/fire2+fire3@32=random:0,squeezenet1_1/fire2@16=random:1",
)  # fmt: skip


def start(folder: Path) -> int:
    """Run the bench in a forked process, in a session of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    status = 1
    try:
        app([*ARGUMENTS, "--cache-dir", str(folder)], standalone_mode=False)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Print how many processes were killed before they came to their end."""
    base, parts = Path(sys.argv[1]), [float(one) for one in sys.argv[2:]]
    began = time.perf_counter()
    _, status = os.waitpid(start(base / "whole"), 0)
    assert status == 0
    seconds, kills = time.perf_counter() - began, 0
    for part in parts:
        child = start(base / "killed")
        time.sleep(part * seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
    _, status = os.waitpid(start(base / "killed"), 0)
    assert status == 0
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main()
