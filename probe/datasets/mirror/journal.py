"""Remember which version of a remote file lies on the disk: JSON lines that are only appended to.

A line that is damaged, or cut short, is passed over: its file is fetched again. A file counts only
while it has the size and the time that it was written with. Several processes may append at once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from probe.core.files import make_folder
from probe.core.regular import append_regular, open_regular


@dataclass(frozen=True)
class _Written:
    """A file as it was written: its version, what was asked for, its size, and its time in ns."""

    version: str
    asked: str
    size: int
    time: int


class Journal:
    """The versions of the files below a folder. Safe to call from several threads.

    Parameters
    ----------
    file : str
        Where the lines are; made with the first one.
    base : str
        The folder.
    """

    def __init__(self, file: str, base: str) -> None:
        self._file, self._base = file, base
        self._lock = threading.Lock()
        self._read = 0  # bytes
        self._found: dict[str, _Written] = {}

    def version(self, path: str, asked: str = "", *, anew: bool = False) -> str:
        """Return the version of a file at hand; ``""`` where it is not as it was written.

        Parameters
        ----------
        asked : str
            What it should have been asked for with, beside its path.
        anew : bool, default=False
            Read what other processes appended since.
        """
        with self._lock:
            if anew or not self._read:
                self._follow()
            known = self._found.get(self._name(path))
        if known is None or known.asked != asked:
            return ""
        try:
            status = os.stat(path)
        except OSError:
            return ""
        same = (status.st_size, status.st_mtime_ns) == (known.size, known.time)
        return known.version if same else ""

    def add(self, path: str, version: str, asked: str = "") -> None:
        """Append what a file is now; ``""`` where it is gone.

        Raises
        ------
        OSError
            It cannot be written.
        """
        size, time = 0, 0
        with suppress(FileNotFoundError):
            status = os.stat(path)
            size, time = status.st_size, status.st_mtime_ns
        name = self._name(path)
        line = json.dumps([name, version, asked, size, time])
        make_folder(Path(self._file).parent)
        with self._lock:
            # the first line break ends a line that was cut short
            append_regular(self._file, f"\n{line}\n".encode())
            self._keep(name, _Written(version, asked, size, time))

    def below(self, folder: str) -> Iterator[str]:
        """Yield the paths of the files below a folder, relative to it."""
        with self._lock:
            if not self._read:
                self._follow()
            names = list(self._found)
        start = self._name(folder) + "/" if folder != self._base else ""
        for name in names:
            if name.startswith(start):
                yield name[len(start) :]

    def _follow(self) -> None:
        """Read the lines that were appended since the last time."""
        try:
            with open_regular(self._file) as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        end = data.rfind(b"\n") + 1
        self._read += end
        for line in data[:end].splitlines():
            try:
                name, version, asked, size, time = json.loads(line)
                self._keep(str(name), _Written(str(version), str(asked), int(size), int(time)))
            except (ValueError, TypeError, OverflowError, RecursionError):
                continue

    def _keep(self, name: str, written: _Written) -> None:
        if written.version:
            self._found[name] = written
        else:
            self._found.pop(name, None)

    def _name(self, path: str) -> str:
        return path[len(self._base) + 1 :].replace(os.sep, "/")
