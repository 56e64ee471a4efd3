"""Pack the images of a list into one file of records, as they are or encoded anew."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.files import hold, replacing
from probe.datasets.forms.lst import LST, ImageList, images_root, read_lst
from probe.datasets.forms.number_labels import NAME_FILES
from probe.datasets.forms.recordio import INDEX, RECORDS, RecordWriter
from probe.datasets.images.decode import MAX_PIXELS, WithinMemory, decode, read_file
from probe.datasets.images.image_files import format_of
from probe.datasets.spec import BadImage
from probe.errors import DataError, ImageError, UsageError

AHEAD = 4  # images in memory, times the threads
MOST_SIDE = 2**14  # pixels
READ_BY_MXNET = frozenset(("JPEG", "PNG", "BMP", "TIFF"))

Encoding = Literal[".jpg", ".png"]
Color = Literal["rgb", "grey"]


@dataclass(frozen=True, kw_only=True)
class Recoding:
    """How images are encoded anew.

    Parameters
    ----------
    resize : int or None
        Length of the shorter side in pixels, larger or smaller than before.
    encoding : {".jpg", ".png"}
    quality : int
        Of JPEG, 1 to 100.
    color : {"rgb", "grey"}
    """

    resize: int | None = None
    encoding: Encoding = ".jpg"
    quality: int = 95
    color: Color = "rgb"

    def __post_init__(self) -> None:
        if self.resize is not None and not 1 <= self.resize <= MOST_SIDE:
            raise UsageError(f"--resize {self.resize}: expected 1 to {MOST_SIDE:,}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: expected 1 to 100")
        for option, value, known in (
            ("--encoding", self.encoding, get_args(Encoding)),
            ("--color", self.color, get_args(Color)),
        ):
            if value not in known:
                raise UsageError(f"{option} {value}: expected {' or '.join(known)}")

    def encoded(self, pixels: NDArray[np.uint8], name: str) -> bytes:
        """Return an image file of some RGB pixels.

        Raises
        ------
        ImageError
            It would be too large.
        """
        image = Image.fromarray(pixels)
        if self.resize is not None:
            short = min(image.size)
            sides = image.width * self.resize // short, image.height * self.resize // short
            if sides[0] * sides[1] > MAX_PIXELS:
                raise ImageError(name, f"would have {sides[0]} x {sides[1]} pixels, too many")
            image = image.resize(sides, Image.Resampling.BICUBIC)
        if self.color == "grey":
            image = image.convert("L")
        file = io.BytesIO()
        if self.encoding == ".png":
            image.save(file, "PNG")
        else:
            image.save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def recoding_of(
    *, resize: int | None, encoding: Encoding | None, quality: int, color: Color | None
) -> Recoding | None:
    """Return how images are encoded anew; None where none of the options asks for it."""
    if resize is None and encoding is None and color is None:
        return None
    return Recoding(
        resize=resize, encoding=encoding or ".jpg", quality=quality, color=color or "rgb"
    )


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Records that were written.

    Parameters
    ----------
    path, index : Path
    images, size : int
        Records, and bytes of the file.
    skipped : tuple of BadImage
    foreign : mapping of format to count
        Images that were packed as they are, in formats that MXNet does not decode.
    """

    path: Path
    index: Path
    images: int
    size: int
    skipped: tuple[BadImage, ...]
    foreign: dict[str, int]


def pack_list(
    path: Path,
    out: Path | None = None,
    *,
    root: Path | None = None,
    recoding: Recoding | None = None,
    skip_bad: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    started: Callable[[int], None] = lambda _: None,
    advanced: Callable[[int], None] = lambda _: None,
) -> Packed:
    """Write the images of a list, in its order and with its labels, as ``.rec`` and ``.idx``.

    Every image is decoded once, so that none is packed that cannot be read. Both files appear when
    they are whole; the index last.

    Parameters
    ----------
    path : Path
        A ``.lst``; labels may be any numbers, and differ in number.
    out : Path, optional
        The record file. Default: beside the list, with its name.
    root : Path, optional
        The folder that paths are relative to; see `images_root`.
    recoding : Recoding, optional
        Without it the bytes of each file are packed as they are.
    skip_bad : bool
        Leave out images that cannot be read.
    workers : int
        Threads that read, decode and encode.
    started, advanced : callable
        Told the number of images, and of those that were just written.

    Raises
    ------
    UsageError
        The file is there already, or the names make no sense.
    DataError
        The list is damaged, or names an index twice; or an image cannot be read.
    """
    if path.suffix.lower() != LST:
        raise UsageError(f"{path}: is no {LST} file; `probe dataset index FOLDER` writes one")
    target = path.with_suffix(RECORDS) if out is None else out
    if target.suffix.lower() != RECORDS:
        raise UsageError(f"{target}: the name of a record file ends in {RECORDS}")
    index = target.with_suffix(INDEX)
    if not overwrite and (there := next((one for one in (target, index) if one.exists()), None)):
        raise UsageError(f"{there}: is there already; --overwrite replaces it, or -o gives another")
    with _held(path):
        listed = read_lst(path)
        _check_indices(path, listed)
        base = os.path.abspath(images_root(path, listed, root))
        started(len(listed.paths))
        bad: list[BadImage] = []
        kinds: Counter[str] = Counter()
        with replacing(index) as new_index, replacing(target) as new:
            with new.open("wb") as records, new_index.open("wb") as lines:
                writer = RecordWriter(records, lines)
                for row, image in _images(base, listed, recoding, workers):
                    if isinstance(image, ImageError):
                        if not skip_bad:
                            raise DataError(
                                f"{path}: line {listed.lines[row]}: {image}; mend it or remove the "
                                "line, or leave such images out with --skip-bad"
                            )
                        bad.append(BadImage(id=listed.paths[row], reason=image.reason))
                    else:
                        writer.write(listed.indices[row], listed.labels[row], image)
                        kinds[format_of(image[:32]) or "other"] += 1
                    advanced(1)
            if not kinds:
                raise DataError(f"{path}: no image can be read; the first: {bad[0].reason}")
            size = new.stat().st_size
            index.unlink(missing_ok=True)  # an index of other records is worse than none
        _take_names(path.parent, target.parent)
    return Packed(
        path=target, index=index, images=kinds.total(), size=size, skipped=tuple(bad),
        foreign={kind: count for kind, count in kinds.items() if kind not in READ_BY_MXNET},
    )  # fmt: skip


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Lock a list while it is packed: of two at once, one could leave records, the other an index.

    Raises
    ------
    UsageError
        Another process is packing it.
    """
    descriptor = None
    try:
        descriptor = hold(path)
    except BlockingIOError:
        raise UsageError(f"{path}: another process is packing it; wait for it") from None
    except OSError:  # missing, which reading it says, or on a file system without locks
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _check_indices(path: Path, listed: ImageList) -> None:
    first: dict[int, int] = {}
    for row, index in enumerate(listed.indices):
        before = first.setdefault(index, row)
        if before != row:
            raise DataError(
                f"{path}: line {listed.lines[row]} has the index {index}, as line "
                f"{listed.lines[before]} has; an index finds one record: number the lines anew"
            )


def _images(
    base: str, listed: ImageList, recoding: Recoding | None, workers: int
) -> Iterator[tuple[int, bytes | ImageError]]:
    """Yield each row with its image file, or the reason why there is none, in the list's order."""

    def read(row: int) -> bytes | ImageError:
        place = os.path.join(base, listed.paths[row])
        try:
            with WithinMemory(place):
                data = read_file(place)
                pixels = decode(data, place)
                return data if recoding is None else recoding.encoded(pixels, place)
        except ImageError as error:
            return error

    waiting: deque[tuple[int, Future[bytes | ImageError]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        for row in range(len(listed.paths)):
            waiting.append((row, pool.submit(read, row)))
            if len(waiting) >= AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _take_names(source: Path, target: Path) -> None:
    """Copy the names of the classes to the records, where they lie elsewhere and have none."""
    if any((target / name).exists() for name in NAME_FILES):
        return
    for name in NAME_FILES:
        if (source / name).is_file():
            with replacing(target / name) as temporary:
                shutil.copyfile(source / name, temporary)
            return
