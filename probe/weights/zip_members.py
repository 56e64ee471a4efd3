"""Find the members of an uncompressed zip archive, which are read in place and not extracted."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from probe.core.regular import open_regular
from probe.errors import UnsafeFileError, WeightsError

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra
SCRIPT = "/code/__torch__"  # where torch.jit.save puts the source of modules


@dataclass(frozen=True)
class Member:
    """A range of bytes of a file."""

    offset: int
    length: int

    def read(self, path: Path, limit: int) -> bytes:
        """Return the bytes, or raise UnsafeFileError where there are more than `limit`."""
        if self.length > limit:
            raise UnsafeFileError(
                f"{path}: a member has {self.length} bytes; at most {limit} are expected"
            )
        with open_regular(path) as file:
            file.seek(self.offset)
            return file.read(self.length)


def stored_members(path: Path) -> dict[str, Member]:
    """Return the members of a zip archive by name; names are never used as paths.

    Raises
    ------
    UnsafeFileError
        A member is compressed or encrypted, overlaps another, or ends beyond the file.
    WeightsError
        The archive is damaged.
    """
    try:
        with open_regular(path) as whole, zipfile.ZipFile(whole) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise WeightsError(
            f"{path}: the zip archive is damaged ({error}); download it again"
        ) from None
    members: dict[str, Member] = {}
    with open_regular(path) as file:
        size = file.seek(0, 2)
        for entry in entries:
            # neither torch nor Keras compresses, and a compressed member could fill the memory
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise UnsafeFileError(
                    f"{path}: is TorchScript, which contains code; if you trust it, save the "
                    "weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
                    if SCRIPT in entry.filename
                    else f"{path}: member {entry.filename!r} is compressed or encrypted"
                )
            file.seek(max(entry.header_offset, 0))
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise UnsafeFileError(
                    f"{path}: member {entry.filename!r} is not at the position that is listed"
                )
            _, name_length, extra_length = LOCAL_HEADER.unpack(header)
            start = entry.header_offset + LOCAL_HEADER.size + name_length + extra_length
            if entry.filename in members or start + entry.file_size > size:
                raise UnsafeFileError(
                    f"{path}: member {entry.filename!r} is there twice, or ends beyond the file"
                )
            members[entry.filename] = Member(start, entry.file_size)
    _check_overlap(path, members)
    return members


def _check_overlap(path: Path, members: dict[str, Member]) -> None:
    end = 0
    for name, member in sorted(members.items(), key=lambda item: (item[1].offset, item[1].length)):
        if member.offset < end:
            raise UnsafeFileError(f"{path}: member {name!r} overlaps another one")
        end = member.offset + member.length
