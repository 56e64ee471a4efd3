"""Files of other machines, each fetched once to where it is read from then on.

``https://host/photos/1.jpg`` lies in ``CACHE/remote/https/host/photos/1.jpg``, so that paths have
the same relation to each other as the URLs, and every format is read as from a folder. A journal a
host says which version each file is (its ETag, or time and size); a file whose version the store
still has is not fetched again. A file that is not complete lies in ``CACHE/remote/.parts``, and the
next command goes on with it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote

from probe.core.download import Bar, Progress
from probe.core.files import discard, lock, make_folder, unwritable
from probe.core.urls import HTTP, public, scheme_of
from probe.datasets.mirror.journal import Journal
from probe.datasets.mirror.stores import (
    CONNECTIONS,
    Answer,
    BrokenError,
    ChangedError,
    GoneError,
    MissingError,
    Stat,
    Store,
    names_in,
    path_of,
    store_for,
)
from probe.errors import CacheError, DataError, MissingFilesError

log = logging.getLogger(__name__)

T = TypeVar("T")

REMOTE, PARTS, JOURNALS = "remote", ".parts", ".journals"
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the next attempt, where nothing more came
_WAIT = 0.1  # seconds between looks at what another process holds
_NO_HOST = "-"  # the folder of URLs without one, as memory:///x
_LONGEST = 255  # bytes of a name
# parameters of a query that differ between two signatures for the same file
_SIGNATURE = re.compile(
    r"(x-(amz|goog|oss|ms|cos)-.*|awsaccesskeyid|googleaccessid|signature|sig|expires?|policy"
    r"|key-pair-id|.*(token|key|secret|password|auth|credential).*|s[eprtv]|st|sks|ske|skt|skv|skoid"
    r"|sktid|ss|srt|spr|sip)",
    re.IGNORECASE,
)


_WITH_QUERY = re.compile(r"~[0-9a-f]{16}$")


class _Host(NamedTuple):
    """A machine or a bucket; the name is as in a public URL."""

    scheme: str
    name: str

    @property
    def folder(self) -> str:
        """The folder of its files in the mirror."""
        return os.path.join(self.scheme, quote(self.name, safe="@") or _NO_HOST)


class _StoppedError(Exception):
    """Another file cannot be had, or Ctrl-C was pressed."""


class Mirror:
    """Copies of files of other machines. Safe to call from several threads; can be pickled.

    Parameters
    ----------
    folder : Path
        Where they lie; made when the first one comes.
    strict : bool, default=False
        Fetch what is there again, once.
    network : bool, default=True
        False: use what is there, without asking whether it is the newest.
    progress : callable, optional
        Called with what is fetched; returns its bar.
    """

    def __init__(
        self, folder: Path, *, strict: bool = False, network: bool = True,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.folder = os.path.abspath(folder)
        self._strict, self._network, self._progress = strict, network, progress
        self._lock = threading.Lock()
        self._given: dict[_Host, str] = {}  # with users and passwords
        self._queries: dict[str, str] = {}
        self._stores: dict[_Host, Store] = {}
        self._journals: dict[_Host, Journal] = {}
        self._stats: dict[str, Stat] = {}  # of the last listing
        self._anew: set[str] = set()  # what `strict` fetched
        self._said: set[_Host] = set()

    def __reduce__(self) -> tuple[object, ...]:
        state = {"_given": self._given, "_queries": self._queries, "_network": self._network}
        return Mirror, (Path(self.folder),), state

    def has(self, path: str) -> bool:
        """Whether a path lies in the mirror."""
        return path.startswith(self.folder + os.sep)

    def place(self, url: str) -> str:
        """Return the path of a URL's file or folder.

        Raises
        ------
        DataError
            Its names cannot be those of files.
        """
        shorter, scheme, rest = public(url), scheme_of(url), url.partition("://")[2]
        name, _, path = shorter.partition("://")[2].partition("/")
        parts = [part for part in names_in(path, scheme).rstrip("/").split("/") if path]
        _check_names(shorter, [name or _NO_HOST, *parts])
        host = _Host(scheme, name)
        place = os.path.join(self.folder, host.folder, *parts)
        given, query = re.split(r"[/?#]", rest, maxsplit=1)[0], _query_of(url)
        with self._lock:
            if given != name:
                self._given[host] = given
            if query:
                self._queries[place] = query
        return place

    def place_of_image(self, url: str) -> str:
        """Return the path of a URL's image: ``photo.php?id=1`` is another than ``photo.php?id=2``.

        Raises
        ------
        DataError
            Its names cannot be those of files.
        """
        place, asked = self.place(url), what_is_asked(url)
        if not asked:
            return place
        with self._lock:
            self._queries[f"{place}~{asked}"] = _query_of(url)
        return f"{place}~{asked}"

    def below(self, root: str, path: str) -> str:
        """Return where a path leads from a folder of the mirror, at most to the same host's root.

        Raises
        ------
        DataError
            It leads elsewhere.
        """
        host = os.path.join(self.folder, self._host(root).folder)
        path = path.replace("\\", "/")
        start = host if path.startswith("/") else root
        place = os.path.normpath(os.path.join(start, path.lstrip("/")))
        if not place.startswith(host + os.sep):
            raise DataError(f"{self.public_url(root)}: the path {path!r:.200} leads out of it")
        _check_names(self.public_url(root), place[len(host) + 1 :].split(os.sep))
        return place

    def public_url(self, path: str) -> str:
        """Return the URL of a path in the mirror, without what gives the right to read it."""
        host = self._host(path)
        base = os.path.join(self.folder, host.folder)
        names = path[len(base) + 1 :].replace(os.sep, "/")
        if path in self._queries:
            names = _WITH_QUERY.sub("", names)
        return f"{host.scheme}://{host.name}/{path_of(names, host.scheme)}"

    def url(self, path: str) -> str:
        """Return the URL of a path in the mirror, with what gives the right to read it."""
        host, shorter = self._host(path), self.public_url(path)
        if (given := self._given.get(host)) is not None:
            shorter = shorter.replace(f"://{host.name}/", f"://{given}/", 1)
        query = self._queries.get(path)
        return shorter if query is None else f"{shorter}?{query}"

    def files(self, root: str) -> list[str]:
        """Return the paths of the files in a folder and below, relative to it, sorted.

        Files that were fetched from it, and are not there any more, are removed.

        Parameters
        ----------
        root : str
            In the mirror.

        Raises
        ------
        MissingFilesError
            It cannot be listed.
        """
        host, called = self._host(root), self.public_url(root)
        journal = self._journal(host)
        if not self._network:
            return sorted(journal.below(root))
        store = self._store(host)
        found = _again(called, lambda: store.files(self.url(root).rstrip("/") + "/"))
        good = {name: stat for name, stat in found.items() if _is_good(name)}
        if len(good) < len(found):
            odd, count = next(name for name in found if name not in good), len(found) - len(good)
            log.warning(
                "%s: left out %s whose names no file here can have (%r)",
                called, "1 file" if count == 1 else f"{count:,} files", odd[:200],
            )  # fmt: skip
        with self._lock:
            self._stats.update(
                (os.path.join(root, name), stat) for name, stat in good.items() if stat.version
            )
        for name in [one for one in journal.below(root) if one not in good]:
            self._remove(os.path.join(root, name))
        return sorted(good)

    def fetch(self, paths: Sequence[str], what: str) -> dict[str, str]:
        """Bring files up to date; return why those that could not be had are missing.

        Parameters
        ----------
        paths : sequence of str
            In the mirror.
        what : str
            What the bar calls them.

        Raises
        ------
        MissingFilesError
            A host cannot be reached, or refuses all.
        CacheError
            The mirror cannot be written.
        """
        work = _Work(paths, _Shown(self._progress, what, len(paths)))
        try:
            if len(paths) == 1:
                self._work(work)
            else:
                threads = [
                    threading.Thread(target=self._work, args=(work,), daemon=True)
                    for _ in range(min(CONNECTIONS, len(paths)))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    while thread.is_alive():  # Ctrl-C is heard in between
                        thread.join(_WAIT)
        finally:
            work.stop.set()
            work.bar.close()
        if work.errors:
            raise work.errors[0]
        return work.missing

    def _work(self, work: _Work) -> None:
        """Fetch one file after the other."""
        for path in work:
            try:
                reason = self._bring(path, work)
            except _StoppedError:
                return
            except Exception as error:  # raised by `fetch`
                work.errors.append(error)
                work.stop.set()
                return
            if reason is not None:
                work.missing[path] = reason
            work.bar.done()

    def _bring(self, path: str, work: _Work) -> str | None:
        """Fetch a file unless it is at hand; return why it is missing, or None."""
        host, asked = self._host(path), self._asked(path)
        known = self._journal(host).version(path, asked)
        if not self._network:
            return None if known else "was not fetched"
        if self._strict and path not in self._anew:
            known = ""
        store, url, stat = self._store(host), self.url(path), self._stats.get(path)
        attempts = _Attempts(self.public_url(path), work.stop)
        while True:
            try:
                answer = store.open(url, known, stat)
                if answer is None:
                    return None
                try:
                    if not known or answer.stat.version != known:
                        self._receive(path, answer, work, attempts)
                finally:
                    answer.close()
            except GoneError as error:
                self._remove(path)
                return str(error)
            except MissingError as error:
                return str(error)
            except ChangedError:
                known, stat = "", None
                attempts.failed("it changes while it is read")
            except BrokenError as error:
                attempts.failed(str(error))
            else:
                if self._strict:
                    self._anew.add(path)
                return None

    def _receive(self, path: str, answer: Answer, work: _Work, attempts: _Attempts) -> None:
        """Write a file to its place once all of it came."""
        journal, asked = self._journal(self._host(path)), self._asked(path)
        self._say_if_unsure(path, answer.stat)
        part = Path(self.folder, PARTS, _part_name(self.public_url(path), asked, answer.stat))
        try:
            make_folder(part.parent)
            with _held(part, work.stop) as descriptor:
                others = self._strict and path not in self._anew
                if journal.version(path, asked, anew=True) == answer.stat.version and not others:
                    return  # another process brought it
                _fill(descriptor, answer, work, attempts)
                self._move(part, path)
                journal.add(path, answer.stat.version, asked)
        except OSError as error:
            if isinstance(error, CacheError):
                raise
            raise unwritable(Path(path), error) from error

    def _move(self, part: Path, path: str) -> None:
        """Give a complete file its name."""
        make_folder(Path(self.folder, self._host(path).folder))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(part, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DataError(
                f"{self.public_url(path)}: the store has a file and a folder of one name, which no "
                "disk can have; rename one"
            ) from error

    def _say_if_unsure(self, path: str, stat: Stat) -> None:
        host = self._host(path)
        with self._lock:
            if stat.sure or host in self._said:
                return
            self._said.add(host)
        log.warning(
            "%s://%s: tells neither an ETag nor a time of its files, so that a file which is "
            "replaced by another of the same size is not noticed (--strict fetches all again)",
            host.scheme, host.name,
        )  # fmt: skip

    def _remove(self, path: str) -> None:
        """Remove a file that the store has no more."""
        with suppress(OSError):  # it was never here, or the folder is read-only
            os.unlink(path)
            self._journal(self._host(path)).add(path, "")

    def _asked(self, path: str) -> str:
        """Return a digest of what of a query names the file, and not who may read it."""
        return _asked(self._queries.get(path, ""))

    def _host(self, path: str) -> _Host:
        """Return the host of a path in the mirror."""
        scheme, name, *_ = path[len(self.folder) + 1 :].split(os.sep)
        return _Host(scheme, "" if name == _NO_HOST else unquote(name))

    def _store(self, host: _Host) -> Store:
        with self._lock:
            if host not in self._stores:
                given = self._given.get(host, host.name)
                self._stores[host] = store_for(f"{host.scheme}://{given}/")
            return self._stores[host]

    def _journal(self, host: _Host) -> Journal:
        with self._lock:
            if host not in self._journals:
                name = host.folder.replace(os.sep, "+") + ".jsonl"
                self._journals[host] = Journal(
                    os.path.join(self.folder, JOURNALS, name),
                    os.path.join(self.folder, host.folder),
                )
            return self._journals[host]


def what_is_asked(url: str) -> str:
    """Return a digest of what of a URL's query names the file, and not who may read it; or ``""``.

    So two URLs of one path are told apart, and no signature is written anywhere.
    """
    return _asked(_query_of(url))


def _query_of(url: str) -> str:
    return url.partition("#")[0].partition("?")[2] if scheme_of(url) in HTTP else ""


def _asked(query: str) -> str:
    said = [
        one for one in query.split("&") if one and not _SIGNATURE.fullmatch(one.partition("=")[0])
    ]
    return _digest("&".join(said), 8) if said else ""


class _Work:
    """Files that threads take one after the other, and what became of them."""

    def __init__(self, paths: Sequence[str], bar: _Shown) -> None:
        self.bar, self.stop = bar, threading.Event()
        self.missing: dict[str, str] = {}
        self.errors: list[Exception] = []
        self._lock, self._paths = threading.Lock(), iter(paths)

    def __iter__(self) -> Iterator[str]:
        while not self.stop.is_set():
            with self._lock:
                path = next(self._paths, None)
            if path is None:
                return
            yield path


class _Attempts:
    """Pauses between attempts at a file, and an end to them where no more of it comes."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        self._url, self._stop, self._count, self._most = url, stop, 0, 0

    def came(self, have: int) -> None:
        """Begin to count anew where more bytes came than ever."""
        if have > self._most:
            self._count, self._most = 0, have

    def failed(self, reason: str) -> None:
        """Wait before the next attempt; raise where there were enough."""
        if self._count == len(PAUSES):
            raise MissingFilesError(
                f"{self._url}: cannot be fetched: {reason}; check the address and the network, and "
                "run the same command again: what came so far is kept"
            )
        log.info("%s: %s; trying again", self._url, reason)
        if self._stop.wait(PAUSES[self._count]):
            raise _StoppedError
        self._count += 1


class _Shown:
    """The bar over several files; it appears with the first byte.

    Where sizes are known only as files come, the total is estimated from those that came.
    """

    def __init__(self, progress: Progress | None, what: str, count: int) -> None:
        self._progress, self._what, self._count = progress, what, count
        self._bar: Bar | None = None
        self._lock, self._begun, self._bytes, self._done = threading.Lock(), 0, 0, 0

    def begin(self, size: int | None, have: int) -> None:
        """Note that a file begins to come, of which some bytes are here."""
        if self._progress is None:
            return
        with self._lock:
            if self._bar is None:
                self._bar = self._progress(self._what)
            self._begun += 1
            self._bytes += size or 0
            left = self._count - max(self._done - self._begun, 0)
            self._bar.total = self._bytes * left / self._begun if self._bytes else None
            self._bar.update(have)

    def add(self, count: int) -> None:
        """Note that bytes came."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(count)

    def done(self) -> None:
        """Note that a file is complete, or was at hand."""
        with self._lock:
            self._done += 1

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            if self._bar.total is not None and self._done == self._count:
                self._bar.total = self._bytes
            self._bar.close()


def _again(url: str, function: Callable[[], T]) -> T:
    """Return what a function does, tried several times."""
    attempts = _Attempts(url, threading.Event())
    while True:
        try:
            return function()
        except MissingError as error:
            raise MissingFilesError(f"{url}: {error}") from error
        except BrokenError as error:
            attempts.failed(str(error))


def _fill(descriptor: int, answer: Answer, work: _Work, attempts: _Attempts) -> None:
    """Write the bytes that are missing into a file, and check how many there are."""
    stat, have = answer.stat, os.fstat(descriptor).st_size
    if not stat.sure or (stat.size is not None and have > stat.size):
        have = 0
        os.ftruncate(descriptor, 0)
    os.lseek(descriptor, have, os.SEEK_SET)
    work.bar.begin(stat.size, have)
    while have != stat.size:
        before = have
        try:
            for block in answer.blocks(have):
                have += os.write(descriptor, block)
                work.bar.add(len(block))
                if work.stop.is_set():
                    raise _StoppedError
            if stat.size is None:
                break
            if have < stat.size:
                raise BrokenError(f"{have:,} of {stat.size:,} bytes came")
            if have > stat.size:
                raise ChangedError
        except BrokenError as error:
            if have == before or stat.size is None:
                os.ftruncate(descriptor, have if stat.size is not None else 0)
                raise
            attempts.came(have)
            attempts.failed(str(error))
        except ChangedError:
            os.ftruncate(descriptor, 0)
            raise
    os.fsync(descriptor)
    if stat.modified is not None:
        with suppress(OSError, OverflowError, ValueError):
            os.utime(descriptor, (stat.modified, stat.modified))


@contextmanager
def _held(part: Path, stop: threading.Event) -> Iterator[int]:
    """Open a file that is not complete, and wait while another process has it."""
    if not part.exists():
        for other in part.parent.glob(f"{part.name.partition('-')[0]}-*"):  # of older versions
            discard(other)
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(part)):
                break
        except BlockingIOError:
            if stop.wait(_WAIT):
                os.close(descriptor)
                raise _StoppedError from None
        except FileNotFoundError:
            pass  # finished by another process in between
        except OSError:
            break  # a file system without locks
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            if not os.fstat(descriptor).st_size:
                part.unlink()
        os.close(descriptor)


def _part_name(url: str, asked: str, stat: Stat) -> str:
    return f".{_digest(url, 16)}-{_digest(f'{asked} {stat.version}', 8)}.part"


def _digest(text: str, size: int) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def _is_good(names: str) -> bool:
    return all(_is_good_name(name) for name in names.split("/"))


def _is_good_name(name: str) -> bool:
    """Whether a file may have a name, and it leads nowhere else."""
    bad = "/\0" + ('\\:*?"<>|' if os.name == "nt" else "")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and size <= _LONGEST and not {*bad} & {*name}


def _check_names(url: str, names: Sequence[str]) -> None:
    for name in names:
        if not _is_good_name(name):
            raise DataError(f"{url}: no file here can be called {name!r:.200}")
