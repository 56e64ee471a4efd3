"""Catalogs of named specs, whose errors suggest similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from probe.errors import UnknownNameError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T], Generic[T]):
    """An ordered, read-only mapping of unique names to specs.

    Parameters
    ----------
    kind : str
        What the names stand for, as used in messages ("backbone").
    specs : iterable of T
        In the order in which a listing shows them.
    listing : str
        The command that shows them all, for messages where they are too many to name.

    Raises
    ------
    ValueError
        Two specs share a name, which is a mistake in the catalog.
    """

    def __init__(self, kind: str, specs: Iterable[T], *, listing: str = "") -> None:
        self.kind, self._listing = kind, listing
        self._specs: dict[str, T] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise ValueError(f"two entries of the {kind} catalog are called {spec.name!r}")
            self._specs[spec.name] = spec

    def __getitem__(self, name: str) -> T:
        """Return the spec called `name`, or raise UnknownNameError naming the close ones."""
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}; {self._hint(name)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name.lower(), self._specs, n=3, cutoff=0.5)
        if close:
            return f"did you mean {' or '.join(close)}?"
        if self._listing:
            return f"`{self._listing}` lists all {len(self)}"
        return f"there are {', '.join(self._specs)}"
