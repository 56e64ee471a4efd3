"""Every failure that a user can cause or meet, as one tree.

    ProbeError
    ├── UsageError (ValueError)            an option or a combination of options makes no sense
    ├── RowIndexError (IndexError)         no such row, or what is asked for is no row's number
    ├── UnknownNameError (KeyError)        no such name in a registry; the close ones are named
    ├── DataError (ValueError)             the dataset, or an image in it, is not what it should be
    │   ├── MissingFilesError              files are not there and could not be had
    │   └── ImageError                     one image cannot be read
    ├── UnsafeFileError (ValueError)       a file wants to run code, or lies about its own contents
    ├── WeightsError (ValueError)          the weights do not fit, or cannot be read
    │   └── WeightsNotFoundError           no weights at hand
    ├── CacheError (OSError)               an entry cannot be written, found or trusted
    │   ├── CacheMismatchError             an entry records another key than its name stands for
    │   └── CorruptEntryError              bytes of an entry do not match their checksum
    ├── HeadError (ValueError)             a head cannot be fitted on these features
    │   └── OverflowHeadError              its numbers overflowed: a smaller learning rate
    ├── NoTemperatureError (ValueError)    no temperature makes held-out rows most likely
    ├── BundleError (ValueError)           a bundle cannot be made, read or trusted
    ├── PromoteError (RuntimeError)        the network to fine-tune is another, or cannot be kept
    │   └── DivergedError                  its training diverged: a smaller learning rate
    └── EngineError (RuntimeError)         the network cannot run here

Each message says what, where and what to do, on one line. `probe` prints it and exits 2. All
arguments go to `args`, so that an error survives pickling on its way back from a worker.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BundleError",
    "CacheError",
    "CacheMismatchError",
    "CorruptEntryError",
    "DataError",
    "DivergedError",
    "EngineError",
    "HeadError",
    "ImageError",
    "MissingFilesError",
    "NoTemperatureError",
    "OverflowHeadError",
    "ProbeError",
    "PromoteError",
    "RowIndexError",
    "UnknownNameError",
    "UnsafeFileError",
    "UsageError",
    "WeightsError",
    "WeightsNotFoundError",
]


class ProbeError(Exception):
    """The root: catch this to catch every expected failure."""


class UsageError(ProbeError, ValueError):
    """An option, or a combination of options, makes no sense."""


class RowIndexError(ProbeError, IndexError):
    """There is no such row, or an index that names no rows; an IndexError ends Python's loops."""


class UnknownNameError(ProbeError, KeyError):
    """A name that is in no registry."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


class DataError(ProbeError, ValueError):
    """A dataset is not what it should be."""


class MissingFilesError(DataError):
    """Files are not there and could not be downloaded; the message says which go where."""


class ImageError(DataError):
    """One image cannot be read."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(image, reason)
        self.image, self.reason = image, reason

    def __str__(self) -> str:
        return f"{self.image}: {self.reason}"


class UnsafeFileError(ProbeError, ValueError):
    """A file asks for code to be run, or claims more than it holds. Nothing was run."""


class WeightsError(ProbeError, ValueError):
    """Weights cannot be read or do not fit the backbone."""


class WeightsNotFoundError(WeightsError):
    """No weights at hand; the message says where was looked and what to type."""


class CacheError(ProbeError, OSError):
    """A cache entry cannot be written, found or read."""

    def __str__(self) -> str:  # OSError would format its arguments as errno and text
        return str(self.args[0])


class CacheMismatchError(CacheError):
    """A feature file records another key than the one its name stands for."""

    def __init__(self, path: Path, field: str, expected: str, found: str) -> None:
        super().__init__(path, field, expected, found)
        self.path, self.field, self.expected, self.found = path, field, expected, found

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:  # OSError keeps two arguments only
        return type(self), (self.path, self.field, self.expected, self.found)

    def __str__(self) -> str:
        if self.field == "name":
            return (
                f"{self.path}: holds the entry {self.expected}, so files were renamed or swapped; "
                f"call it {self.expected}.h5 again, or run `probe cache rm {self.path.stem}` and "
                "extract again"
            )
        return (
            f"{self.path}: {self.field} is {self.found!r}, expected {self.expected!r}; "
            f"run `probe cache rm {self.path.stem}` and extract again"
        )


class CorruptEntryError(CacheError):
    """Bytes of an entry do not match the checksum written with them."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.what)

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.what} does not match its checksum; "
            f"`probe cache sync --repair {self.path.stem}` forwards again what is damaged"
        )


class HeadError(ProbeError, ValueError):
    """A head cannot be fitted on these features or labels."""


class OverflowHeadError(HeadError):
    """Training overflowed: the learning rate is too large for these features."""


class NoTemperatureError(ProbeError, ValueError):
    """No temperature makes held-out rows most likely; the message says why."""


class BundleError(ProbeError, ValueError):
    """A bundle cannot be made, is damaged, or gives other numbers than it did."""


class PromoteError(ProbeError, RuntimeError):
    """The network to fine-tune does not give the probe's predictions, or cannot be kept."""


class DivergedError(PromoteError):
    """A fine-tuning's gradient is no number any more."""


class EngineError(ProbeError, RuntimeError):
    """The network cannot run here: MXNet, a device or memory is missing."""
