"""What reading a dataset needs beside its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.core.memo import Memo
from probe.core.reading import AS_IT_IS, ReadOptions


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What reading a dataset needs beside its place.

    Parameters
    ----------
    root : Path or None
        Folder that the paths in a list are relative to. Default: the list's own.
    cache_dir : Path
        The state folder.
    workers : int
        Threads that hash and check images.
    skip_bad : bool
        Leave out and list what cannot be read.
    """

    memo: Memo
    cache_dir: Path
    root: Path | None = None
    workers: int = 1
    skip_bad: bool = False
    options: ReadOptions = AS_IT_IS
