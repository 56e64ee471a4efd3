"""Clusters of real processes on this machine's loopback, whose workers can be killed and hung.

Only processes that were started here, and their children, are ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psutil

STARTED = 90.0  # seconds in which a cluster has to be there


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + STARTED
    while not answers(port):
        if time.monotonic() > until:
            raise TimeoutError(f"nobody listens on {port}")
        time.sleep(0.2)


class Started:
    """Processes that were started here.

    Parameters
    ----------
    folder : Path
        Where they run and write.
    environment : mapping of str to str
        Variables that they have beside those of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **environment,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments: str) -> psutil.Popen:
        """Start a command in a session of its own, what it says into a file."""
        with (self.folder / "log.txt").open("ab") as log:
            return psutil.Popen(
                arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, cwd=self.folder, env=self._environment,
            )  # fmt: skip


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that come from it, the eldest first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def words(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return list(process.cmdline())
    return []


def end(processes: list[psutil.Process], sent: int = signal.SIGKILL) -> None:
    """Send a signal to processes that are still there."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(sent)


class Dask(Started):
    """A Dask scheduler and workers of one thread each."""

    def __init__(
        self, folder: Path, *, workers: int, nanny: bool,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        super().__init__(folder, environment)
        self.port, self._nanny, self._count = free_port(), nanny, workers
        self.name = f"dask://127.0.0.1:{self.port}"
        self._workers: list[psutil.Popen] = []
        self.start()

    def start(self) -> None:
        """Start the scheduler and its workers."""
        self._scheduler = self.run(
            sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
            "--port", str(self.port), "--no-dashboard",
        )  # fmt: skip
        wait_for(self.port)
        for _ in range(self._count):
            self.one_more()

    def one_more(self) -> None:
        """Start a worker."""
        how = "--nanny" if self._nanny else "--no-nanny"
        started = self.run(
            sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{self.port}",
            "--nthreads", "1", how, "--no-dashboard", "--host", "127.0.0.1", "--memory-limit", "0",
            "--local-directory", str(self.folder),
        )  # fmt: skip
        self._workers.append(started)

    def computing(self) -> list[psutil.Process]:
        """Return the processes that compute."""
        found = []
        for one in self._workers:
            there = [each for each in family(one) if words(each)]
            if self._nanny:
                there = [each for each in there[1:] if "spawn_main" in " ".join(words(each))]
            found += there[:1]
        return found

    def replace(self, what: str) -> None:
        """Start a worker in the place of one that was killed, a moment late, or was hung."""
        if what == "hung" or not self._nanny:
            self.one_more()

    def end_all(self) -> None:
        """Kill the scheduler and all workers."""
        gone = [each for one in [*self._workers, self._scheduler] for each in family(one)]
        end(gone)
        psutil.wait_procs(gone, timeout=20)
        self._workers = []

    def close(self) -> None:
        """End everything."""
        self.end_all()


class Ray(Started):
    """A Ray head with so many CPUs, and a client server.

    Parameters
    ----------
    started : bool, default=True
        False: its name is known, and `start` comes later.
    """

    def __init__(
        self, folder: Path, *, workers: int, started: bool = True,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        # Ray's sockets have long names of their own, and a path of a socket is 107 bytes at most
        self._short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
        super().__init__(folder, environment)
        self.port, self._head_port, self._count = free_port(), free_port(), workers
        self.name = f"ray://127.0.0.1:{self.port}"
        self._head: psutil.Popen | None = None
        if started:
            self.start()

    def start(self) -> None:
        """Start the head."""
        self._environment |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }  # fmt: skip
        self._head = self.run(
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            "--node-ip-address", "127.0.0.1",
            "--port", str(self._head_port), "--ray-client-server-port", str(self.port),
            "--num-cpus", str(self._count), "--num-gpus", "0", "--object-store-memory", "300000000",
            "--include-dashboard", "false", "--temp-dir", str(self._short), "--disable-usage-stats",
        )  # fmt: skip
        wait_for(self.port)

    def replace(self, what: str) -> None:
        """Ray starts a worker in the place of one that was killed by itself."""

    def computing(self) -> list[psutil.Process]:
        """Return the processes that do a block."""
        there = [] if self._head is None else family(self._head)
        return [one for one in there if "ray::_with" in " ".join(words(one))]

    def end_all(self) -> None:
        """Kill the head and all that came from it."""
        gone = [] if self._head is None else family(self._head)
        end(gone)
        psutil.wait_procs(gone, timeout=20)

    def close(self) -> None:
        """End everything."""
        self.end_all()
        shutil.rmtree(self._short, ignore_errors=True)
