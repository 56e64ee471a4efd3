"""What the catalog says about a dataset: its files, where they come from, what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["cifar_binary", "cifar_pickle", "idx", "digits"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file on the official host.

    Parameters
    ----------
    urls : tuple of str
        Tried in this order; the checksum makes them equal.
    checksum : str
        ``md5:...`` or ``sha256:...``.
    """

    urls: tuple[str, ...]
    checksum: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.urls[0].rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One official way in which a dataset lies on disk.

    Parameters
    ----------
    format : Format
    folders : tuple of str
        Where the files may lie below the root; ``""`` is the root itself. An archive unpacks to
        the first.
    splits : tuple of (split, files)
        For IDX the images, then the labels.
    sources : tuple of Source
        One archive, or one compressed file for each file.
    """

    format: Format
    folders: tuple[str, ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...]
    sources: tuple[Source, ...]

    def files(self, wanted: tuple[str, ...]) -> list[str]:
        """Return the names of the files of those splits."""
        return [name for split, names in self.splits if split in wanted for name in names]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A dataset with a name.

    Parameters
    ----------
    name, title : str
    layouts : tuple of Layout
        The first is the one that is downloaded.
    classes : tuple of str
    coarse_classes : tuple of str
        The superclasses, where there are any.
    splits : tuple of str
    homepage, licence, citation : str
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "test")
    homepage: str
    licence: str
    citation: str
