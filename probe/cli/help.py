"""`probe help`: the pages of the documentation, and the help of commands, by a word.

The pages are those of `docs/`, which the build puts into the package as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probe
from probe.cli import complete
from probe.errors import UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

INCLUDED = re.compile(r"^```\{include\} \.\./(\S+)\n.*?^```$", re.M | re.S)  # as the site does
NOT_SHOWN = ("index", "design")  # the site's first page, and why the code is as it is

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


def read_pages() -> dict[str, str]:
    """Return the Markdown of each page by its name; in a clone they lie beside the package."""
    package = Path(probe.__file__).parent
    folder = next(one for one in (package / "docs", package.parent / "docs") if one.is_dir())
    return {
        path.stem: INCLUDED.sub(r"See `\1` of the sources.", path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.md"))
        if path.stem not in NOT_SHOWN
    }


def title_of(text: str) -> str:
    """Return the heading of a page."""
    return text.partition("\n")[0].lstrip("# ")


def sections_with(text: str, word: str) -> Iterator[str]:
    """Yield the sections of a page whose headings have the word, each with those within it."""
    heads = list(re.finditer(r"^(#{2,}) (.*)$", _without_code(text), re.M))
    end = 0
    for number, head in enumerate(heads):
        if head.start() >= end and word in head[2].lower():
            after = (one.start() for one in heads[number + 1 :] if len(one[1]) <= len(head[1]))
            end = next(after, len(text))
            yield text[head.start() : end].rstrip()


def _without_code(text: str) -> str:
    """Return the text with blanks for code, in which a comment looks like a heading."""
    return re.sub(r"^```.*?^```", lambda one: re.sub(r"\S", " ", one[0]), text, flags=re.M | re.S)


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
