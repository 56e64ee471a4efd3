"""Options that say how a dataset is read, of every command that reads one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from probe.core.reading import ReadOptions

PANEL = "Which images and labels"  # the section of the help

Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", rich_help_panel=PANEL, help="The column of a table with the class.",
        show_default="label or labels",
    ),
]  # fmt: skip
SplitColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", rich_help_panel=PANEL,
        help="The column of a table with train, val or test.",
        show_default="split, or one that reads like it",
    ),
]  # fmt: skip
Where = Annotated[
    str | None,
    typer.Option(
        metavar="EXPRESSION", rich_help_panel=PANEL,
        help="Only the rows of a table for which it holds, as \"site == 'A' and age >= 18\".",
    ),
]  # fmt: skip
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...", rich_help_panel=PANEL,
        help="Names of the columns of a list that has no line of names, as path,label.",
    ),
]  # fmt: skip
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", rich_help_panel=PANEL,
        help="Only images whose path matches, as '*.jpg'; repeat it for several.",
    ),
]  # fmt: skip
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", rich_help_panel=PANEL,
        help="Leave out images whose path matches, as '*_mask.png'; repeat it for several.",
    ),
]  # fmt: skip
Unlabeled = Annotated[
    bool,
    typer.Option(
        "--unlabeled", rich_help_panel=PANEL,
        help="Take all images of a folder or an archive, without labels.",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The options, in the order of the help."""

    label: Label = None
    split_column: SplitColumn = None
    where: Where = None
    columns: Columns = None
    include: Include = None
    exclude: Exclude = None
    unlabeled: Unlabeled = False

    def options(self) -> ReadOptions:
        return ReadOptions(
            columns=tuple(name.strip() for name in (self.columns or "").split(",") if self.columns),
            label=self.label,
            split_column=self.split_column,
            where=self.where,
            include=tuple(self.include or ()),
            exclude=tuple(self.exclude or ()),
            unlabeled=self.unlabeled,
        )


def takes_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, which has a parameter `reading` of `ReadOptions`, the options that make it.

    Typer reads options from a function's signature, so the command gets one that has them all.
    """
    hints = get_type_hints(_Reading, include_extras=True)
    options = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name],
            default=one.default,
        )
        for one in fields(_Reading)
    ]  # fmt: skip
    names = {one.name for one in options}
    own = inspect.signature(command, eval_str=True).parameters.values()
    every = [
        new
        for one in own
        for new in (
            options if one.name == "reading" else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        )
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        reading = _Reading(**{name: given.pop(name) for name in names})
        command(**given, reading=reading.options())

    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in every}
    return run
