"""How a dataset is read where its files alone do not say: columns, selections, missing labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from probe.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the columns of a table mean, and which images are taken.

    Parameters
    ----------
    columns : tuple of str
        Names of the columns of a list that has no line of names.
    label : str, optional
        The column with the class. Default: ``label`` or ``labels``.
    split_column : str, optional
        The column with the split. Default: ``split``, or a column that reads like one.
    where : str, optional
        Take only the rows for which this expression holds: ``site == 'A' and age >= 18``.
    include, exclude : tuple of str
        Patterns of ids as in a shell: take only images that match one; leave out those that do.
    unlabeled : bool, default=False
        Take all images of a folder or an archive, without labels.
    """

    columns: tuple[str, ...] = ()
    label: str | None = None
    split_column: str | None = None
    where: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    unlabeled: bool = False

    @property
    def given(self) -> list[str]:
        """The names of the fields that are set."""
        return [one.name for one in fields(self) if getattr(self, one.name)]

    def check(self, place: str, kind: str, takes: frozenset[str]) -> None:
        """Refuse options that say nothing about a kind of dataset.

        Raises
        ------
        UsageError
            One is set that is not among those it takes.
        """
        for name in self.given:
            if name not in takes:
                option = option_name(name)
                raise UsageError(
                    f"{option} has no effect on {kind}, which {place} is; leave it out"
                )

    def to_record(self) -> dict[str, Any]:
        """Return what is set, for an entry's provenance."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> ReadOptions:
        """Return the options of an entry's provenance; older entries record none."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (record or {}).items()
        }
        return cls(**values)


AS_IT_IS = ReadOptions()
"""Nothing is set."""


def option_name(field: str) -> str:
    """Return how a field is written on the command line."""
    return f"--{field.replace('_', '-')}"
