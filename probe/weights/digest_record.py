"""Remember the full SHA-256 of a published file whose publisher states less than that.

torchvision states the first eight of 64 digits, which anybody can forge in minutes, and Keras and
Gluon state MD5 and SHA-1. All digits are recorded when such a file is first used with a cache, in
``cache_dir/weights/digests.json``; a file of the same name that differs later is refused.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from probe.core.records import read_record, shown, write_record
from probe.errors import CacheError, DataError, WeightsError
from probe.weights.digest import Digests
from probe.weights.spec import WeightsSpec

log = logging.getLogger(__name__)

FILE_NAME = "digests.json"
SCHEMA = 1


def compare_with_record(spec: WeightsSpec, path: Path, found: Digests, cache_dir: Path) -> None:
    """Record the digest of a published file on its first use, and compare it on every later one.

    Nothing is done where the publisher states the whole SHA-256. Where the record cannot be
    written, as in a folder that is read-only, the file counts as new the next time.

    Parameters
    ----------
    path : Path
        The file, for messages; it has the digest that `spec` states.
    found : Digests
        Of the file.

    Raises
    ------
    WeightsError
        The file is another one than the first of that name, or the record is damaged.
    """
    if len(spec.sha256) == len(found.sha256):
        return
    record = cache_dir / "weights" / FILE_NAME
    known = _read(record) if record.exists() else {}
    first = known.get(spec.name)
    if first == found.sha256:
        return
    if first is not None:
        raise WeightsError(
            f"{shown(path)}: has the digest that the publisher of {spec.name} states, "
            f"{_stated(spec)}, and yet is another file than the first one that was used here: its "
            f"SHA-256 is {found.sha256}, that of the first was {first}; compare both with a copy "
            f"that you trust, and if this one is right, remove {shown(record)}"
        )
    known[spec.name] = found.sha256
    try:
        write_record(record, {"schema": SCHEMA, "sha256": known})
    except CacheError as error:
        log.info("the digest of %s is not recorded: %s", spec.name, error)


def _stated(spec: WeightsSpec) -> str:
    if spec.sha256:
        return f"the first {len(spec.sha256)} digits of its SHA-256"
    return "an MD5" if spec.md5 else "a SHA-1"


def _read(record: Path) -> dict[str, str]:
    def digests(data: Any) -> dict[str, str]:
        return {str(name): str(digest) for name, digest in data["sha256"].items()}

    try:
        return read_record(
            record, "a record of digests", digests, schema=SCHEMA,
            mend="remove it, and compare the weights with copies that you trust",
        )  # fmt: skip
    except DataError as error:
        raise WeightsError(str(error)) from None
