"""`probe help`: the pages of the documentation, and the help of commands, by a word."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import complete
from probe.cli.pages import read_pages, sections_with, title_of
from probe.errors import UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

Word = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TOPIC]", show_default="a list of the pages", autocompletion=complete.topics,
        help="A page, a command, or a word of a heading.",
    ),
]  # fmt: skip


def help(ctx: typer.Context, topic: Word = None) -> None:  # noqa: A001 - the command's name
    """Show a page of the documentation, a command's help, or what the pages have under a heading.

    Without a topic: the pages, a line each. On a terminal it is laid out and paged; in a pipe it is
    Markdown.
    """
    from probe.screen import console

    pages, word = read_pages(), " ".join(topic or ()).lower()
    if not word:
        rows = [[name, title_of(text)] for name, text in pages.items()]
        console.table(console.stdout(), ["page", ""], rows, fold=(1,))
        console.stdout().print()
        console.stdout().print(
            "`probe help PAGE` shows one, `probe help COMMAND` the options of a command, and "
            "`probe help WORD` what the pages have under headings with that word",
            style="dim",
        )  # fmt: skip
        return
    if word in pages:
        _show(console.stdout(), pages[word])
    elif (said := _of_command(ctx, word.split())) is not None:
        typer.echo(said)
    elif found := [part for text in pages.values() for part in sections_with(text, word)]:
        _show(console.stdout(), "\n\n".join(found))
    else:
        known = [*pages, *ctx.find_root().command.commands]  # type: ignore[attr-defined]
        known += re.findall(
            r"\w{4,}", " ".join(re.findall(r"^##.*", "\n".join(pages.values()), re.M))
        )
        near = get_close_matches(word, [one.lower() for one in known], n=1)
        maybe = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(
            f"help {word}: no page, command or heading has it; {maybe}`probe help` lists the pages"
        )


def _of_command(ctx: typer.Context, words: list[str]) -> str | None:
    """Return the help of a command; None where there is none of that name."""
    root = ctx.find_root()
    command: Any = root.command
    within: Any = root
    for word in words:
        if not hasattr(command, "get_command") or word not in command.commands:
            return None
        command = command.get_command(within, word)
        within = type(ctx)(command, info_name=word, parent=within)
    return str(command.get_help(within))


def _show(out: Console, text: str) -> None:
    import os

    from rich.markdown import Markdown

    if not out.is_terminal:
        typer.echo(text)
        return
    os.environ.setdefault("LESS", "-RFX")  # colours as they are, and no pager for a short text
    with out.pager(styles=True):
        out.print(Markdown(text))
