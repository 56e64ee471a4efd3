"""What reading a dataset needs beside its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.core.memo import Memo
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.urls import is_url, public
from probe.datasets.images.files import FileImages
from probe.datasets.mirror.fetched import FetchedImages
from probe.datasets.mirror.mirror import REMOTE, Mirror, what_is_asked


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
    mirror : Mirror or None
        Where files of other machines come to. Default: that of the state folder.
    """

    memo: Memo
    cache_dir: Path
    root: Path | None = None
    workers: int = 1
    skip_bad: bool = False
    options: ReadOptions = AS_IT_IS
    mirror: Mirror | None = None

    @property
    def remote(self) -> Mirror:
        """Where files of other machines come to."""
        return self.mirror or Mirror(self.cache_dir / REMOTE)

    def files(self, root: str, paths: Sequence[str]) -> Sequence[str]:
        """Return where the paths of a list lie: a URL, or a path of a remote list, in the mirror.

        Parameters
        ----------
        root : str
            The folder that they are relative to, absolute.

        Raises
        ------
        DataError
            The path of a remote list leads out of its host.
        """
        mirror = self.remote
        if mirror.has(root):
            return [
                mirror.place_of_image(one) if is_url(one) else mirror.below(root, one)
                for one in paths
            ]
        if any(map(is_url, paths)):
            return [mirror.place_of_image(one) if is_url(one) else one for one in paths]
        return paths

    def images(self, root: str, files: Sequence[str]) -> FileImages:
        """Return the images in files, as `files` returned them."""
        mirror = self.remote
        if mirror.has(root) or any(map(mirror.has, files)):
            return FetchedImages(root, files, self.memo, self.workers, mirror)
        return FileImages(root, files, self.memo, self.workers)

    def is_there(self, path: str) -> bool:
        """Whether there is a file; one of the mirror is fetched."""
        mirror = self.remote
        if mirror.has(path):
            return not mirror.fetch([path], os.path.basename(path))
        return os.path.lexists(path)


def ids_of(paths: Sequence[str]) -> Sequence[str]:
    """Return the ids of a list's images: its paths, URLs without what gives the right to read."""
    return [*map(_id_of, paths)] if any(map(is_url, paths)) else paths


def _id_of(path: str) -> str:
    asked = what_is_asked(path) if is_url(path) else ""
    return public(path) + (f"?{asked}" if asked else "")
