"""Files that hold many encoded images, such as archives: read in place, each where it lies.

An image is identified by the hash of its encoded bytes, as an image file is, so that the same
picture in a folder, in an archive and in a record shares its features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from probe.datasets.images.decode import MAX_BYTES, decode
from probe.datasets.images.files import with_advice
from probe.datasets.images.image_inputs import file_content
from probe.datasets.images.notes import Notes
from probe.datasets.images.packed import ByteFile, PackedFile
from probe.errors import DataError, ImageError


@dataclass(frozen=True, kw_only=True)
class EncodedRows:
    """Encoded images in an opened file; see `probe.datasets.images.packed.Rows`.

    Parameters
    ----------
    read : callable
        Number of the image -> its bytes. Safe to call from several threads.
    name : callable
        Number of the image -> what messages call it.
    """

    count: int
    read: Callable[[int], bytes]
    name: Callable[[int], str]

    def content(self, place: int) -> bytes:
        """Return the hash of an image's bytes."""
        return file_content(self.read(place))

    def encoded(self, place: int) -> bytes:
        """Return an image's bytes."""
        return self.read(place)

    def image(self, place: int, content: bytes | None, notes: Notes) -> NDArray[np.uint8] | None:
        """Decode an image to RGB; return None where its bytes have another hash."""
        data = self.read(place)
        if content is not None and file_content(data) != content:
            return None
        try:
            return decode(data, self.name(place), notes)
        except ImageError as error:
            raise with_advice(error) from error


@dataclass(frozen=True, kw_only=True)
class EncodedFile(PackedFile):
    """A file with encoded images at known ranges of bytes.

    Parameters
    ----------
    starts, sizes : int64, (n_images,)
        Where each image lies, in bytes.
    names : sequence of str, (n_images,)
        What each is called within the file.
    """

    starts: NDArray[np.int64] = field(compare=False, repr=False)
    sizes: NDArray[np.int64] = field(compare=False, repr=False)
    names: Sequence[str] = field(compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, numbers: Sequence[int] | NDArray[np.intp]) -> Self:
        """Return some of them, in that order."""
        places = np.asarray(numbers, np.intp)
        return replace(
            self, starts=self.starts[places], sizes=self.sizes[places],
            names=[self.names[place] for place in places.tolist()],
        )  # fmt: skip

    def sent(self, places: NDArray[np.intp]) -> tuple[PackedFile, NDArray[np.intp]]:
        """Return what another process reads some images by; see `PackedFile.sent`."""
        alone, _ = super(EncodedFile, self.take(places)).sent(places)
        return alone, np.arange(len(places))

    @abstractmethod
    def unpacked(self, place: int, data: bytes) -> bytes:
        """Return an image's bytes from those that lie in its range.

        Raises
        ------
        DataError
            They are damaged.
        """

    def open(self) -> EncodedRows:
        """Open the file."""
        file = ByteFile(self.path)

        def name(place: int) -> str:
            return f"{self.path}: {self.names[place]}"

        def read(place: int) -> bytes:
            size = int(self.sizes[place])
            if size > MAX_BYTES:
                raise DataError(
                    f"{name(place)}: has {size / 2**30:,.1f} GiB, more than the 1 GiB that an "
                    "image may take"
                )
            data = file.read(int(self.starts[place]), size)
            if len(data) != size:
                raise DataError(f"{name(place)}: the file ends within it; get the file again")
            return self.unpacked(place, data)

        return EncodedRows(count=len(self), read=read, name=name)
