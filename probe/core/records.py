"""Read and write JSON records, and read .npy and .npz files, any of which may be damaged.

A record is a JSON file of ours: `write_record` writes it by rename with a checksum of its content,
`read_record` reads it, checks both checksum and version and says in one line what is wrong with it.
Records that were written before they had a checksum are read without one.

Whatever is wrong with one ends in a single kind of error: `ValueError` where a text is already in
memory, `DataError` with the path where a file is read. Nothing is reserved because a file claims
it, and what is not a regular file (a pipe, a device, a folder) is refused before it is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.core.files import write_text
from probe.core.regular import open_regular, read_regular, refuse
from probe.core.text import visible
from probe.errors import DataError, ProbeError

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")

MOST_JSON = 1 << 28  # bytes; a million class names with a figure each are a tenth of it
MOST_DIGITS = 20  # of a whole number: 64 bits
CHECKSUM = "blake2b"  # the field of a record that holds its checksum


def check_regular(path: Path, most: int | None = None) -> int:
    """Return the size of a regular file in bytes, links followed.

    Raises
    ------
    DataError
        It is not there, is a folder, a pipe, a socket or a device, is larger than `most`, or has a
        name that no file system takes.
    """
    try:
        found = path.stat()
        refuse(path, found, most)
    except FileNotFoundError:
        raise DataError(
            f"{shown(path)}: cannot be read, for there is no such file; check the path"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{shown(path)}: cannot be read ({reason}); check the path") from None
    return found.st_size


def shown(path: object) -> str:
    """Return a path or a name as it can be printed everywhere; see `visible`."""
    text = str(path)
    if len(text) > 300:  # a name of a thousand letters tells no more than its beginning
        text = f"{text[:140]}...{text[-140:]}"
    return visible(text)


def loads_json(text: str | bytes) -> Any:
    """Parse a JSON text in UTF-8, more strictly than Python does.

    Raises
    ------
    ValueError
        It is not JSON, or holds what no record of ours does: NaN, a number beyond float64 or 64
        bits, nesting deeper than Python's stack, or text that cannot be written as UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_no_number)
        if "\\u" in text:  # may be half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("brackets are nested without end") from None
    except UnicodeError as error:
        raise ValueError(f"text that is not UTF-8 ({in_one_line(error)})") from None
    return value


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _int(text: str) -> int:
    return int(text) if len(text) <= MOST_DIGITS else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no number of JSON that is read here")


def read_json(path: Path) -> Any:
    """Parse a JSON file, as `loads_json` does.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It cannot be read, is no regular file, or is not what `loads_json` takes.
    """
    try:
        return loads_json(read_regular(path, MOST_JSON))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def write_record(path: Path, plain: dict[str, Any], *, indent: int | None = 2) -> None:
    """Write a JSON file by rename, with a checksum of its content as its last field.

    Parameters
    ----------
    plain : dict
        Plain containers, see `probe.core.plain.to_plain`.
    indent : int or None
        Spaces a level; None for one line.

    Raises
    ------
    ValueError
        A number is NaN or infinite; nothing is written.
    """
    text = escape_surrogates(json.dumps(plain, ensure_ascii=False, allow_nan=False))
    content = loads_json(text)  # as it will be read: tuples are lists, keys are text
    content.pop(CHECKSUM, None)  # of a record that was read
    checked = {**content, CHECKSUM: record_checksum(content)}
    write_text(path, json.dumps(checked, indent=indent, ensure_ascii=False) + "\n")


def record_checksum(content: dict[str, Any]) -> str:
    """Return 32 hex digits over a record's fields, in any order.

    References
    ----------
    Aumasson et al., BLAKE2, RFC 7693; 16 bytes of it.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def escape_surrogates(text: str) -> str:
    """Return a JSON text in which bytes of names that are no UTF-8 are written out.

    Python has lone surrogates for them, which neither UTF-8 nor `loads_json` takes.
    """
    return _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)


def read_record(
    path: Path,
    what: str,
    build: Callable[[Any], T],
    *,
    schema: int | None = None,
    absent: str = "",
    mend: str = "",
) -> T:
    """Read a JSON file of ours and return what `build` makes of its content.

    Parameters
    ----------
    what : str
        What it should be, with its article: ``a bench``.
    build : callable
        Takes what the JSON says. What it raises of wrong fields becomes a line with the path.
    schema : int, optional
        The version that is read, where the file says its own.
    absent : str
        Why the file may not be there, or how it is made.
    mend : str
        What to do about a damaged one.

    Raises
    ------
    DataError
        There is none, or it is damaged, of another version, or something else.
    """
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file{absent and f'; {absent}'}") from None
    except ValueError as error:
        raise _other(path, what, in_one_line(error), mend) from error
    try:
        if schema is not None:
            _check_schema(data, schema)
        said = data.pop(CHECKSUM, None) if isinstance(data, dict) else None
        if said is not None and said != record_checksum(data):
            raise ValueError("it was changed since it was written")
        return build(data)
    except (ProbeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _other(path, what, in_one_line(error), mend) from error
    except KeyError as error:
        raise _other(path, what, f"{error.args[0]} is missing", mend) from error


def _check_schema(data: Any, schema: int) -> None:
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    found = data["schema"]
    if type(found) is int and found > schema:
        raise ValueError(
            f"schema is {found}, this version reads {schema}: a newer probe wrote it, so update"
        )
    if found != schema:
        raise ValueError(f"schema is {found!r}, this version reads {schema}")


def _other(path: Path, what: str, reason: str, mend: str) -> DataError:
    return DataError(f"{shown(path)}: not {what}: {reason}{mend and f'; {mend}'}")


def in_one_line(error: BaseException) -> str:
    """Return an error's text, or its name where it has none, in a line of at most 300 letters."""
    return visible(" ".join(str(error).split())[:300] or type(error).__name__)


class NpzFile:
    """The arrays of an .npz file, each read when it is asked for.

    Parameters
    ----------
    objects : callable, optional
        Reads the pickle that stands for an array of objects; without it, those are refused.

    Attributes
    ----------
    names : tuple of str
        Of the arrays, in the file's order.

    Raises
    ------
    DataError
        It is not there, no zip archive, or damaged.
    """

    def __init__(self, path: Path, objects: Callable[[bytes], Any] | None = None) -> None:
        check_regular(path)
        self.path, self._objects = path, objects
        try:
            with zipfile.ZipFile(path) as archive:
                files = [info.filename for info in archive.infolist()]
            self.names = tuple(
                dict.fromkeys(name.removesuffix(".npy") for name in files if name.endswith(".npy"))
            )
        except Exception as error:  # zipfile meets damage in a dozen ways
            raise self._damaged(error) from error

    def read(self, name: str) -> Any:
        """Return one array; of objects, what `objects` makes of them.

        Raises
        ------
        DataError
            It is damaged, or not made of plain numbers or text.
        """
        with self._opened(name) as (info, member):
            return _read_array(member, info.file_size, self._objects)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int | None]:
        """Return an array's shape and type, and where in the file its values lie, in C order.

        None for the place where they are compressed, or in Fortran's order.

        Raises
        ------
        DataError
            It is damaged, or not made of plain numbers or text.
        """
        with self._opened(name) as (info, member):
            shape, fortran, dtype = _header(member, info.file_size)
            start = member.tell()
            if fortran or info.compress_type != zipfile.ZIP_STORED:
                return shape, dtype, None
            with open_regular(self.path) as file:
                file.seek(info.header_offset + 26)  # lengths of its name and its extra field
                lengths = file.read(4)
            name_bytes, extra = lengths[0] | lengths[1] << 8, lengths[2] | lengths[3] << 8
            return shape, dtype, info.header_offset + 30 + name_bytes + extra + start

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(f"{name}.npy")
                with archive.open(info) as member:
                    yield info, member
        except ProbeError:
            raise
        except Exception as error:
            raise self._damaged(error, f", array {shown(name)}") from error

    def _damaged(self, error: Exception, what: str = "") -> DataError:
        return DataError(
            f"{self.path}{what}: not a readable .npz file of plain arrays ({in_one_line(error)})"
        )


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an .npy file, mapped into memory: what is not used is not read.

    Raises
    ------
    DataError
        It is not there, damaged, or not made of plain numbers or text.
    """
    size = check_regular(path)
    try:
        with open_regular(path) as file:
            shape, fortran, dtype = _header(file, size)
            start = file.tell()
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
    except Exception as error:
        raise DataError(
            f"{path}: not a readable .npy file of plain numbers ({in_one_line(error)})"
        ) from error


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, fortran, dtype = _any_header(file)
    if dtype.hasobject or dtype.kind not in "biufcSU":
        raise ValueError(f"an array of {dtype}; only numbers and text are read")
    if not all(0 <= side < 1 << 62 for side in shape) or len(shape) > 32:
        raise ValueError(f"an impossible shape of {len(shape)} dimensions")
    there = size - file.tell()
    if math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"{shape} {dtype} claimed, and {there:,} bytes there")
    return shape, fortran, dtype


def _any_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    reader: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if reader is None:
        raise ValueError(f"written as version {version}, and 1.0 and 2.0 are read")
    shape, fortran, dtype = reader(file)
    return shape, bool(fortran), dtype


def _read_array(file: IO[bytes], size: int, objects: Callable[[bytes], Any] | None = None) -> Any:
    if objects is not None:
        _, _, dtype = _any_header(file)
        if dtype == np.dtype(object):
            return objects(file.read(size))
        file.seek(0)
    shape, fortran, dtype = _header(file, size)
    count = math.prod(shape) * dtype.itemsize
    data = file.read(count)  # what is there, not what is claimed
    if len(data) != count or file.read(1):
        raise ValueError("it ends early")
    flat = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file; see `NpzFile`."""
    file = NpzFile(path)
    return {name: file.read(name) for name in file.names}
