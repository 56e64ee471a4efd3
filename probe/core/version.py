"""The version of this package, which the build reads from here, and those of installed packages."""

from __future__ import annotations

from collections.abc import Iterable

__version__ = "0.1.0"


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of some packages that are installed; imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
