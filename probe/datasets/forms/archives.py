"""Tar and zip archives of images, read in place: class folders, or WebDataset's samples.

References
----------
https://github.com/webdataset/webdataset: the files of a sample share their name up to the first
dot; ``.cls`` has the number of its class, ``.json`` what else is known of it.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from probe.core.memo import Memo
from probe.core.records import check_regular
from probe.datasets.forms.layout import (
    DECLARED,
    NamesTree,
    class_folders,
    join,
    labelled_by,
    unlabeled_folders,
)
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.packed_table import dataset_of_packed, images_in
from probe.datasets.forms.shards import bare_name, files_by_split, name_of
from probe.datasets.images.decode import MAX_BYTES
from probe.datasets.images.encoded import EncodedFile
from probe.datasets.images.image_files import (
    NOT_UTF8,
    ending,
    is_image_name,
    is_leavings,
    is_utf8,
    left_out,
    shown,
)
from probe.datasets.images.packed import ByteFile, file_stamp
from probe.datasets.spec import BadImage, Dataset
from probe.datasets.tables.cells import Lines
from probe.datasets.tables.json_lines import object_cells, parse_object
from probe.datasets.tables.name_patterns import chosen
from probe.errors import DataError

log = logging.getLogger(__name__)

TAR, ZIP = ".tar", ".zip"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
ENDINGS = (TAR, ZIP, *COMPRESSED)
CLS, JSON, TXT = ".cls", ".json", ".txt"  # beside a sample's image
_SMALL = 2**24  # bytes of a text in an archive
_BLOCK = 512  # bytes, of a tar archive
_MOST_PADDING = 1 << 26  # bytes of zeros behind its end; usual are 10 kB
_LOCAL = struct.Struct("<4s5H3L2H")  # the header before each member of a zip archive
_AT_ONCE = 2**20  # bytes
_KIND = "members-1"


@dataclass(frozen=True, kw_only=True)
class Members(EncodedFile):
    """Files in a tar or zip archive.

    Parameters
    ----------
    lengths : int64, (n,)
        Bytes of a member that is compressed; -1 where its bytes are as they were.
    checksums : int64, (n,)
        CRC-32; -1 in tar archives, which have none.
    """

    lengths: NDArray[np.int64] = field(compare=False, repr=False)
    checksums: NDArray[np.int64] = field(compare=False, repr=False)

    @property
    def kind(self) -> str:
        return f"archive-{zlib.crc32(self.starts.tobytes()):08x}"  # of these members

    def take(self, numbers: Sequence[int] | NDArray[np.intp]) -> Self:
        """Return some of them, in that order."""
        places = np.asarray(numbers, np.intp)
        return replace(
            super().take(places), lengths=self.lengths[places], checksums=self.checksums[places]
        )

    def unpacked(self, place: int, data: bytes) -> bytes:
        """Return a member's bytes, decompressed and compared with their checksum."""
        length, checksum = int(self.lengths[place]), int(self.checksums[place])
        name = f"{self.path}: {self.names[place]}"
        if length > MAX_BYTES:
            raise DataError(f"{name}: has more than the 1 GiB that an image may take")
        if length >= 0:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, length + 1)
            except zlib.error as error:
                raise DataError(f"{name}: cannot be decompressed ({error})") from error
        if checksum >= 0 and (zlib.crc32(data) != checksum or 0 <= length != len(data)):
            raise DataError(f"{name}: does not match its checksum; get the archive again")
        return data

    def texts(self, numbers: Sequence[int]) -> Iterator[str]:
        """Yield the texts of some small members."""
        rows = self.open()
        for number in numbers:
            where = rows.name(number)
            if max(self.sizes[number], self.lengths[number]) > _SMALL:
                raise DataError(f"{where}: is too large for a text beside an image")
            try:
                yield rows.read(number).decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: is not UTF-8 text") from error


def load_archives(place: Path, loading: Loading) -> Dataset:
    """Read what lies in tar or zip archives; no image is read.

    Paths in the archives are read like those below a folder; an archive that is called like a
    split stands for a folder of that name, so that ids are those of the unpacked files. Samples of
    WebDataset, which have a ``.cls`` or a ``.json`` beside the image, are rows of a table.

    Parameters
    ----------
    place : Path
        An archive, several as ``data-{000..099}.tar``, or a folder of archives.

    Raises
    ------
    DataError
        An archive is compressed as a whole, damaged, or laid out in another way.
    """
    options = loading.options
    archives = []
    for split, paths in files_by_split(place, ENDINGS).items():
        for path in paths:
            of_shard = bare_name(path.name) if len(paths) > 1 else ""
            members = members_of(path, loading.memo)
            archives.append(_Archive(members, split, join(split or "", of_shard)))
    _say(place, archives, skip_bad=loading.skip_bad)
    for one in archives:
        one.choose(options.include, options.exclude)
    if not any(one.images for one in archives):
        raise DataError(f"{place}: has no image in it that is to be read")
    if not options.unlabeled and any(one.has_samples() for one in archives):
        return _samples(place, archives, loading)
    options.check(
        str(place), "an archive of class folders", frozenset(["include", "exclude", "unlabeled"])
    )
    return _class_folders(place, archives, loading)


class _Archive:
    """An archive with its images and what lies beside them.

    Parameters
    ----------
    prefix : str
        The folder that the archive stands for among the dataset's ids.
    """

    def __init__(self, members: Members, split: str | None, prefix: str) -> None:
        self.members, self.split, self.prefix = members, split, prefix
        self.images: list[int] = []  # numbers of members
        self.declared: dict[str, int] = {}
        self.not_utf8: list[str] = []
        self._others: list[int] = []
        for number, name in enumerate(members.names):
            last = name.rpartition("/")[2]
            if any(is_leavings(part) for part in name.split("/")):
                continue
            if is_image_name(last) and not is_utf8(name):
                self.not_utf8.append(name)
            elif is_image_name(last):
                self.images.append(number)
            elif last == DECLARED:
                self.declared[join(prefix, name)] = number
            else:
                self._others.append(number)
        keys = {_key(members.names[number]) for number in self.images}
        self.texts: dict[str, dict[str, int]] = {CLS: {}, JSON: {}, TXT: {}}  # by sample
        self.endings: Counter[str] = Counter()
        for number in self._others:
            name = members.names[number]
            if ending(name) in self.texts and _key(name) in keys:
                self.texts[ending(name)][_key(name)] = number
            else:
                self.endings[ending(name)] += 1

    def choose(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        """Keep the images whose ids are to be read."""
        if include or exclude:
            self.images = [
                number for number in self.images if chosen(self.id(number), include, exclude)
            ]

    def id(self, number: int) -> str:
        """Return the id of an image in the dataset."""
        return join(self.prefix, self.members.names[number])

    def has_samples(self) -> bool:
        """Whether classes are told beside the images, and not by folders."""
        every = {_key(self.members.names[number]) for number in self.images}
        return bool(self.texts[CLS]) or (bool(every) and len(self.texts[JSON]) == len(every))


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last[: last.find(".", 1)]


def _say(place: Path, archives: Sequence[_Archive], *, skip_bad: bool) -> None:
    """Log what is left out; refuse names that are not UTF-8."""
    endings: Counter[str] = Counter()
    for one in archives:
        endings += one.endings
        if one.not_utf8 and not skip_bad:
            raise DataError(
                f"{one.members.path}: the name {os.fsencode(one.not_utf8[0])!r} is not UTF-8; "
                f"rename it ({len(one.not_utf8):,} such; --skip-bad leaves them out)"
            )
    if endings:
        log.warning("%s: %s", place, left_out(endings))


def _class_folders(place: Path, archives: Sequence[_Archive], loading: Loading) -> Dataset:
    where: dict[str, tuple[int, int]] = {}
    for number, one in enumerate(archives):
        for row, image in enumerate(one.images):
            if where.setdefault(one.id(image), (number, row)) != (number, row):
                raise DataError(f"{one.members.path}: {one.id(image)!r} is there twice; rename one")
    declared = {
        name: "\n".join(one.members.texts([number])).encode()
        for one in archives
        for name, number in one.declared.items()
    }
    tree = NamesTree(str(place), where, declared)
    parts = unlabeled_folders(tree) if loading.options.unlabeled else class_folders(tree)
    images = images_in([one.members.take(one.images) for one in archives], loading)
    return labelled_by(
        tree,
        parts,
        lambda ids: images([where[one] for one in ids]),
        name=name_of(place),
        base=place,
        skip_bad=loading.skip_bad,
        skipped=[
            BadImage(id=shown(name), reason=NOT_UTF8) for one in archives for name in one.not_utf8
        ],
    )


def _samples(place: Path, archives: Sequence[_Archive], loading: Loading) -> Dataset:
    """Return a dataset of WebDataset's samples: their texts are the columns of a table."""
    ids: list[str] = []
    places: list[tuple[int, int]] = []
    splits: list[str | None] = []
    objects: list[dict[str, object]] = []
    images = images_in([one.members.take(one.images) for one in archives], loading)
    for number, one in enumerate(archives):
        names = one.members.names
        keys = [_key(names[image]) for image in one.images]
        columns = {
            kind: dict(zip(found, one.members.texts(list(found.values())), strict=True))
            for kind, found in one.texts.items()
        }
        for row, (image, key) in enumerate(zip(one.images, keys, strict=True)):
            ids.append(one.id(image))
            places.append((number, row))
            splits.append(one.split)
            told = columns[JSON].get(key)
            about = {} if told is None else parse_object(f"{one.members.path}: {key}.json", told)
            if (cls := columns[CLS].get(key)) is not None:
                about = {"cls" if "label" in about else "label": cls, **about}
            if (text := columns[TXT].get(key)) is not None:
                about.setdefault("txt", text)
            objects.append(about)
    lines = Lines(place=str(place), numbers=range(1, len(ids) + 1), unit="sample")
    return dataset_of_packed(
        object_cells(objects, lines),
        ids,
        places,
        images,
        loading,
        name=name_of(place),
        root=place,
        splits=splits,
    )


def members_of(path: Path, memo: Memo) -> Members:
    """Return the files in an archive, from the memo where it is unchanged.

    Raises
    ------
    DataError
        It is compressed as a whole, encrypted, damaged, or no archive.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{path}: is compressed as a whole, so that no image can be read in place; unpack it, "
            "or decompress it to a .tar"
        )
    name, stamp = os.path.abspath(path), file_stamp(path)
    value = memo.get_many(_KIND, {name: stamp}).get(name)
    if value is None:
        read = _zip_members if path.name.lower().endswith(ZIP) else _tar_members
        found = read(path)
        value = zlib.compress(json.dumps(found).encode(), 1)
        memo.put_many(_KIND, [(name, stamp, value)])
    else:
        found = json.loads(zlib.decompress(value))
    names, *numbers = found
    starts, sizes, lengths, checksums = (np.array(one, np.int64) for one in numbers)
    return Members(
        path=path, names=names, starts=starts, sizes=sizes, lengths=lengths, checksums=checksums
    )


_Table = tuple[list[str], list[int], list[int], list[int], list[int]]


def _columns(found: dict[str, tuple[int, int, int, int]], path: Path, again: int) -> _Table:
    if again:
        log.warning("%s: %s; the last one of a name is read", path, _files("is", "are", again))
    starts, sizes, lengths, checksums = ([one[k] for one in found.values()] for k in range(4))
    return list(found), starts, sizes, lengths, checksums


def _files(one: str, many: str, count: int) -> str:
    return f"1 file {one} there again" if count == 1 else f"{count:,} files {many} there again"


def _tar_members(path: Path) -> _Table:
    found: dict[str, tuple[int, int, int, int]] = {}
    again = links = 0
    check_regular(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined] # else it keeps all
                name = _plain(info.name)
                if info.issym() or info.isdev():
                    links += 1
                elif info.islnk():
                    if (target := found.get(_plain(info.linkname))) is not None:
                        found[name] = target
                elif info.isreg():
                    if info.issparse():
                        raise DataError(f"{path}: {name} is a sparse file; unpack the archive")
                    again += name in found
                    found[name] = (info.offset_data, info.size, -1, -1)
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError) as error:
        raise DataError(
            f"{path}: is no tar archive, or is damaged ({error}); get it again"
        ) from error
    _check_end(path, end)
    if links:
        log.warning("%s: left out %s", path, "1 link" if links == 1 else f"{links:,} links")
    return _columns(found, path, again)


def _check_end(path: Path, end: int) -> None:
    """Refuse a tar archive without its end, or with more behind it."""
    file, size = ByteFile(path), path.stat().st_size
    if size - end < _BLOCK:
        raise DataError(f"{path}: is cut short: the end of the archive is missing; get it again")
    last = min(size, end + _MOST_PADDING)
    while end < last:
        block = file.read(end, min(_AT_ONCE, last - end))
        if not block or block.strip(b"\0"):
            raise DataError(
                f"{path}: has more behind its end, as archives have that were written one after "
                "the other; give them as several files"
            )
        end += len(block)
    if last < size:
        raise DataError(f"{path}: has {size - last:,} bytes behind its end; get it again")


def _zip_members(path: Path) -> _Table:
    found: dict[str, tuple[int, int, int, int]] = {}
    again = 0
    check_regular(path)
    file, size = ByteFile(path), path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                name = _plain(info.filename)
                if info.flag_bits & 1:
                    raise DataError(f"{path}: {name} is encrypted; unpack the archive")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(
                        f"{path}: {name} is compressed by a method other than deflate; unpack the "
                        "archive"
                    )
                header = file.read(info.header_offset, _LOCAL.size)
                if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
                    raise DataError(f"{path}: {name} is not where the archive says; get it again")
                *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
                start = info.header_offset + _LOCAL.size + name_bytes + extra_bytes
                if start + info.compress_size > size:
                    raise DataError(f"{path}: {name} lies beyond the end; get the archive again")
                stored = info.compress_type == zipfile.ZIP_STORED
                again += name in found
                length = -1 if stored else info.file_size
                found[name] = (start, info.compress_size, length, info.CRC)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(
            f"{path}: is no zip archive, or is damaged ({error}); get it again"
        ) from error
    return _columns(found, path, again)


def _plain(name: str) -> str:
    """Return a member's name without what leads out of the archive."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in _NOWHERE)


_NOWHERE = frozenset(("", ".", ".."))
