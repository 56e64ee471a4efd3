"""Make the folders of runs, named by the time, and record runs in folders elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from probe.core.files import hold, make_folder, share
from probe.core.regular import append_regular, open_regular
from probe.errors import UsageError

RESULT = "result.json"  # written last: a folder that has one is a finished run
FOLDS = "folds"  # of a fine-tuning: their number among its parameters, and the folder of theirs
MOST_HELD = 64
OUTSIDE = ".elsewhere"  # a file beside the runs that lists those in other folders
MOST_NOTED = 16 << 20  # bytes


NAMED = re.compile(r"[0-9-]+-\d{3}")  # as `new_run_folder` does


# this process's new folders and their locks, so that no other process removes them as leftovers
_held: deque[tuple[Path, int]] = deque()


def fold_folder(run: Path, number: int) -> Path:
    """Return the folder of a fold's fine-tuning in that of its run; folds count from 1."""
    return run / FOLDS / str(number)


def new_run_folder(runs: Path) -> Path:
    """Make and return an empty folder whose name sorts by the time it was made.

    Names are ``20260131-235959-001``: UTC, and a count within the second. Making a folder is
    atomic, so two runs that start at once get two names. Empty folders of killed processes are
    removed.

    Raises
    ------
    OSError
        No folder can be made there.
    """
    runs.mkdir(parents=True, exist_ok=True)
    _remove_empty(runs)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    count = 1
    while True:
        folder = runs / f"{stamp}-{count:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            count += 1
            continue
        try:
            descriptor = hold(folder)
        except BlockingIOError:
            count += 1
            continue
        except FileNotFoundError:  # another process took it for a leftover
            continue
        except OSError:  # a file system without locks
            return folder
        _held.append((folder, descriptor))
        while len(_held) > MOST_HELD:  # something lies in the older ones by now
            os.close(_held.popleft()[1])
        return folder


def release(folder: Path) -> None:
    """Let others hold a new folder of this process, which is done with it."""
    for one in list(_held):
        if one[0] == folder:
            with contextlib.suppress(ValueError):  # another thread let it go
                _held.remove(one)
                os.close(one[1])


@contextmanager
def held_alone(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder; does nothing where there are no locks, or no such folder.

    Raises
    ------
    UsageError
        Somebody holds it, with `refusal` as its text.
    """
    with ExitStack() as held:
        try:
            held.callback(os.close, hold(folder))
        except BlockingIOError:
            raise UsageError(refusal) from None
        except OSError:
            pass
        yield


def is_held(folder: Path) -> bool:
    """Whether somebody writes in a run's folder; False where there are no locks."""
    try:
        os.close(hold(folder))
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _remove_empty(runs: Path) -> None:
    """Remove the folders that killed processes made here and left empty."""
    for folder in runs.iterdir():
        if not NAMED.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):  # a living process holds it, or it is not empty
            if next(folder.iterdir(), None) is None:
                descriptor = hold(folder)
                try:
                    folder.rmdir()
                finally:
                    os.close(descriptor)


def note_outside_run(folder: Path, runs: Path) -> None:
    """Record a run in another folder, so that `probe cache` knows that its entry is needed.

    Nothing is recorded where the state folder cannot be written.
    """
    place = folder.resolve()
    if place.parent == runs.resolve() or place in outside_runs(runs):
        return
    with contextlib.suppress(OSError):
        make_folder(runs)
        # a line of its own, whatever a killed process left of the one before
        line = f"\n{json.dumps(str(place))}\n".encode()
        append_regular(runs / OUTSIDE, line)
        share(runs / OUTSIDE)


def outside_runs(runs: Path) -> list[Path]:
    """Return the recorded runs in other folders; they may have been moved or removed since."""
    try:
        with open_regular(runs / OUTSIDE) as file:
            lines = file.read(MOST_NOTED).splitlines()
    except OSError:
        return []
    found: dict[Path, None] = {}
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            place = json.loads(line)
            if isinstance(place, str) and "\0" not in place:
                found[Path(place)] = None
    return list(found)
