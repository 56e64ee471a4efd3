"""Read files from other machines: HTTP through `requests`, everything else through fsspec.

HTTP has a way of its own since that asks whether a file changed and fetches it in one request, goes
on within a file only if it is the same still, and needs no package that probe does not have anyway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any, Protocol
from urllib.parse import quote, unquote, urljoin

from probe.core.urls import HTTP, hide, public, scheme_of
from probe.errors import MissingFilesError, UsageError

TIMEOUT = (10.0, 30.0)  # seconds to connect, and for the next bytes to come
BLOCK = 1 << 16  # bytes of HTTP at once; what came of a broken one is lost
RANGE = 8 << 20  # bytes of a request to an object store
CONNECTIONS = 16
_MOST_PAGE = 64 << 20  # bytes of a listing
_MOST_FOLDERS, _DEEPEST = 100_000, 32
_LATER = (408, 425, 429)  # answers of a server that wants to be asked again
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "abfss": "adlfs", "hf": "huggingface_hub", "sftp": "paramiko", "ssh": "paramiko",
    "hdfs": "pyarrow", "smb": "smbprotocol", "oss": "ossfs",
}  # fmt: skip
_LOGIN = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
    "FSSPEC_S3_ANON=true",
    "gs": "run `gcloud auth application-default login`; for a public bucket FSSPEC_GS_TOKEN=anon",
}


class BrokenError(Exception):
    """A connection failed, or a server was busy: to be tried again."""


class ChangedError(Exception):
    """A file was changed while it was read."""


class MissingError(Exception):
    """A file may not be read."""


class GoneError(MissingError):
    """A file is not there."""


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What a store tells of a file.

    Parameters
    ----------
    size : int or None
        Bytes.
    version : str
        What changes when the file does: an ETag, or a time and the size; else the size, or ``""``.
    sure : bool
        Whether `version` is more than the size.
    modified : float or None
        Seconds since 1970.
    """

    size: int | None = None
    version: str = ""
    sure: bool = False
    modified: float | None = None


class Answer(Protocol):
    """An opened file of a store."""

    stat: Stat

    def blocks(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from an offset on.

        Raises
        ------
        BrokenError, ChangedError, MissingError
        """
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Store(Protocol):
    """A place of files. Safe to call from several threads."""

    def open(self, url: str, known: str, stat: Stat | None) -> Answer | None:
        """Open a file; None where its version is the `known` one.

        Parameters
        ----------
        known : str
            The version at hand, or ``""``.
        stat : Stat, optional
            From a listing.

        Raises
        ------
        BrokenError, MissingError
        """
        ...

    def files(self, url: str) -> dict[str, Stat]:
        """Return the files in a folder and below, by their paths relative to it.

        Raises
        ------
        BrokenError, MissingError
        """
        ...


def names_in(path: str, scheme: str) -> str:
    """Return the names of folders and file in the path of a URL, with slashes between."""
    return unquote(path) if scheme in HTTP else path


def path_of(names: str, scheme: str) -> str:
    """Return the path of a URL of names with slashes between."""
    return quote(names, safe="/{},") if scheme in HTTP else names


def store_for(url: str) -> Store:
    """Return the store of a URL.

    Parameters
    ----------
    url : str
        With what gives the right to read.

    Raises
    ------
    MissingFilesError
        A package for such stores is not installed; the message says how to install it.
    UsageError
        There are no such stores.
    """
    if scheme_of(url) in HTTP:
        return HttpStore()
    return FsspecStore(url)


class HttpStore:
    """Files of web servers, and folders of those that list them."""

    def __init__(self) -> None:
        self._sessions = threading.local()

    def open(self, url: str, known: str, stat: Stat | None) -> Answer | None:  # noqa: ARG002
        """Open a file unless it is unchanged.

        One request does both where there is an ETag. "Not modified since" would pass over a file
        that was replaced by an older one.
        """
        kind, _, etag = known.partition(" ")
        if kind in ("time", "size"):
            # MissingError: perhaps the server only knows no HEAD
            with suppress(MissingError), self.get(url, {}, method="HEAD") as response:
                if _http_stat(response).version == known:
                    return None
        response = self.get(url, {"If-None-Match": etag} if kind == "etag" else {})
        if response.status_code == 304:
            response.close()
            return None
        return _HttpAnswer(self, url, response)

    def get(self, url: str, asked: Mapping[str, str], *, method: str = "GET") -> Any:
        """Return an answer, with a body that is to be read."""
        import requests

        session = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
        try:
            response = session.request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **asked},
                stream=True,
                timeout=TIMEOUT,
            )
        except requests.exceptions.SSLError as error:
            raise MissingError("its certificate is not trusted") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise BrokenError(_failed(error)) from error
        except (requests.exceptions.RequestException, ValueError) as error:
            raise MissingError(f"cannot be read ({type(error).__name__})") from error
        status = response.status_code
        if status in (200, 206, 304, 416):
            return response
        response.close()
        what = f"HTTP {status}" + (f" {response.reason}" if response.reason else "")
        if (status >= 500 and status != 501) or status in _LATER:
            raise BrokenError(what)
        if status in (404, 410):
            raise GoneError(f"there is no such file ({what})")
        raise MissingError(what)

    def files(self, url: str) -> dict[str, Stat]:
        """Follow the links of a server's listings."""
        base = url.partition("?")[0].rstrip("/") + "/"
        found: dict[str, Stat] = {}
        folders, seen = [base], {base}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            while folders:
                pages = zip(folders, pool.map(self._links, folders), strict=True)
                folders = []
                for target in (one for folder, links in pages for one in _below(folder, links)):
                    if not target.endswith("/"):
                        found[names_in(target[len(base) :], HTTP[0])] = Stat()
                    elif target not in seen:
                        seen.add(target)
                        folders.append(target)
                depth = folders[0].count("/") - base.count("/") if folders else 0
                if depth > _DEEPEST or len(seen) > _MOST_FOLDERS:
                    raise MissingError("its folders have no end; give one of them")
        return found

    def _links(self, folder: str) -> list[str]:
        import requests

        response = self.get(folder, {})
        with response:
            if "html" not in response.headers.get("Content-Type", "").lower():
                raise MissingError("the server lists no files; give a list or an archive")
            data = b""
            try:
                for block in response.iter_content(BLOCK):
                    data += block
                    if len(data) > _MOST_PAGE:
                        raise MissingError("the listing is too long to be read")
            except requests.exceptions.RequestException as error:
                raise BrokenError(_failed(error)) from error
        try:
            text = data.decode(response.encoding or "utf-8")
        except (UnicodeError, LookupError) as error:  # the latter: the server says another encoding
            raise MissingError(
                "the listing is not in the encoding that the server says; give a list or an archive"
            ) from error
        links = _Links()
        links.feed(text)
        return links.found


def _below(folder: str, links: Sequence[str]) -> Iterator[str]:
    """Yield the files and folders in a folder that its page links to."""
    for link in links:
        target = urljoin(folder, link)
        if target.startswith(folder) and target != folder and not {*"?#"} & {*target}:
            yield target


class _HttpAnswer:
    """The answer to a request for a file."""

    def __init__(self, store: HttpStore, url: str, response: Any) -> None:
        self._store, self._url, self._response = store, url, response
        self.stat = _http_stat(response)

    def blocks(self, start: int) -> Iterator[bytes]:
        """Yield what the request brings, or what another one for the rest does."""
        response, self._response = self._response, None
        if start or response is None:
            if response is not None:
                response.close()
            response = self._rest(start)
        yield from _received(response)

    def _rest(self, start: int) -> Any:
        response = self._store.get(self._url, {"Range": f"bytes={start}-"} if start else {})
        stat = _http_stat(response)
        same = stat.version == self.stat.version or response.status_code == 416
        if not same or response.status_code != (206 if start else 200) or (
            start and _first_byte(response) != start
        ):  # fmt: skip
            response.close()
            raise ChangedError  # or a server that sends no parts
        return response

    def close(self) -> None:
        """Give the connection back, or close it where bytes are still to come."""
        if self._response is not None:
            self._response.close()


def _received(response: Any) -> Iterator[bytes]:
    import requests

    try:
        with response:
            yield from response.iter_content(BLOCK)
    except requests.exceptions.RequestException as error:
        raise BrokenError(_failed(error)) from error


def _http_stat(response: Any) -> Stat:
    headers = response.headers
    size: int | None = None
    with suppress(ValueError):
        if response.status_code == 206:
            size = int(headers.get("Content-Range", "").rpartition("/")[2])
        elif not headers.get("Content-Encoding"):
            size = int(headers.get("Content-Length", ""))
    etag, time = headers.get("ETag"), headers.get("Last-Modified")
    modified = None
    if time:
        with suppress(ValueError, TypeError):
            modified = parsedate_to_datetime(time).timestamp()
    if etag:
        return Stat(size=size, version=f"etag {etag}", sure=True, modified=modified)
    if time and modified is not None:
        return Stat(size=size, version=f"time {time} of {size}", sure=True, modified=modified)
    return Stat(size=size, version="" if size is None else f"size {size}")


def _first_byte(response: Any) -> int:
    try:
        return int(response.headers.get("Content-Range", "").partition(" ")[2].partition("-")[0])
    except ValueError:
        return -1


def _failed(error: Exception) -> str:
    text = repr(error)
    if "NameResolutionError" in text or "getaddrinfo" in text:
        return "there is no such host, or no network"
    if "refused" in text:
        return "the connection was refused"
    if "Timeout" in type(error).__name__ or "timed out" in text:
        return "no answer in time"
    return f"the connection failed ({type(error).__name__})"


class _Links(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep where a link leads."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


class FsspecStore:
    """Files of a store that fsspec knows."""

    def __init__(self, url: str) -> None:
        scheme = scheme_of(url)
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            others = _PACKAGES.get(scheme)
            raise MissingFilesError(
                f"{public(url)}: needs fsspec: pip install 'frozen-probe[remote]'"
                + (f" {others}" if others else "")
            ) from None
        try:
            self._fs, _ = url_to_fs(url)
        except ImportError as error:
            package = _PACKAGES.get(scheme)
            how = f"needs {package}: pip install {package}" if package else hide(str(error))
            raise MissingFilesError(f"{public(url)}: {how}") from error
        except Exception as error:
            if "not known" in str(error) or "unknown" in str(error).lower():
                raise UsageError(f"{public(url)}: no store is called {scheme}://") from error
            raise _refused(url, error) from error
        self._scheme = scheme
        self._fs.invalidate_cache()

    def open(self, url: str, known: str, stat: Stat | None) -> Answer | None:
        """Open a file unless it is unchanged."""
        place = self._place(url)
        found = stat or self._stat(url, place)
        if known and found.version == known:
            return None
        return _FsspecAnswer(self, url, place, found)

    def read(self, url: str, place: str, start: int | None, stop: int | None) -> bytes:
        """Return a range of bytes."""
        try:
            data: bytes = self._fs.cat_file(place, start=start, end=stop)
        except Exception as error:
            raise _judged(url, error, self._scheme) from error
        return data

    def again(self, url: str, place: str) -> Stat:
        """Return what the store tells of a file now, not what a listing told before."""
        self._fs.invalidate_cache(os.path.dirname(place))
        return self._stat(url, place)

    def _stat(self, url: str, place: str) -> Stat:
        try:
            return _fsspec_stat(self._fs.info(place))
        except Exception as error:
            raise _judged(url, error, self._scheme) from error

    def files(self, url: str) -> dict[str, Stat]:
        """List a folder and those below it."""
        base = self._place(url).rstrip("/") + "/"
        try:
            every = self._fs.find(base.rstrip("/"), detail=True)
        except Exception as error:
            raise _judged(url, error, self._scheme) from error
        return {
            name[len(base) :]: _fsspec_stat(info)
            for name, info in every.items()
            if name.startswith(base) and not name.endswith("/")
        }

    def _place(self, url: str) -> str:
        place: str = self._fs._strip_protocol(url)
        return place


class _FsspecAnswer:
    """A file of fsspec's, read by ranges."""

    def __init__(self, store: FsspecStore, url: str, place: str, stat: Stat) -> None:
        self._store, self._url, self._where, self.stat = store, url, place, stat

    def blocks(self, start: int) -> Iterator[bytes]:
        """Yield ranges; a file of one range is read in one request."""
        size = self.stat.size
        if size is None or (size <= RANGE and not start):
            data = self._store.read(self._url, self._where, None, None)
            if size is not None and len(data) != size:
                self.stat = self._store.again(self._url, self._where)
                raise ChangedError
            yield data
            return
        while start < size:
            data = self._store.read(self._url, self._where, start, min(start + RANGE, size))
            if not data:
                raise BrokenError("the store sent nothing")
            start += len(data)
            yield data
        if size > RANGE:
            now = self._store.again(self._url, self._where)
            if now.version != self.stat.version:
                self.stat = now
                raise ChangedError

    def close(self) -> None:
        """Do nothing: no connection is held."""


def _fsspec_stat(info: Mapping[str, Any]) -> Stat:
    size = info.get("size")
    size = int(size) if isinstance(size, int | float) else None
    time = next(
        (info[name] for name in (
            "LastModified", "last_modified", "mtime", "updated", "modified", "modify", "created",
            "modificationTime",
        ) if info.get(name)),
        None,
    )  # fmt: skip
    modified = None
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(time, datetime):
            modified = time.timestamp()
        elif isinstance(time, int | float):
            modified = float(time)
        elif isinstance(time, str):
            modified = datetime.fromisoformat(time).timestamp()
    for name in ("ETag", "etag", "e_tag", "md5Hash", "blob_id", "generation", "checksum"):
        if info.get(name):
            return Stat(size=size, version=f"etag {info[name]}", sure=True, modified=modified)
    if time is not None:
        moment = str(time) if modified is None else f"{modified:.6f}"  # listings have other types
        return Stat(size=size, version=f"time {moment} of {size}", sure=True, modified=modified)
    return Stat(size=size, version="" if size is None else f"size {size}")


def _judged(url: str, error: Exception, scheme: str) -> Exception:
    """Return what an error of a driver means."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return GoneError("there is no such file")
    if isinstance(error, PermissionError):
        return MissingError(f"access was refused ({_line(error)})")
    kinds = " ".join(one.__name__ for one in type(error).__mro__)
    if any(word in kinds for word in ("Credential", "Auth", "Token", "ProfileNotFound")):
        how = _LOGIN.get({"s3a": "s3", "gcs": "gs"}.get(scheme, scheme))
        advice = f"; {how}" if how else ""
        return MissingFilesError(f"{public(url)}: cannot be read: {_line(error)}{advice}")
    if isinstance(error, ImportError | NotImplementedError | TypeError | AttributeError):
        return MissingFilesError(f"{public(url)}: cannot be read: {_line(error)}")
    return BrokenError(_line(error))


def _refused(url: str, error: Exception) -> MissingFilesError:
    return MissingFilesError(f"{public(url)}: cannot be opened: {_line(error)}")


def _line(error: Exception) -> str:
    """Return an error in one short line without secrets."""
    text = hide(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
