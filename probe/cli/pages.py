"""The pages of the documentation: those of `docs/`, which the build puts into the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import probe

INCLUDED = re.compile(r"^```\{include\} \.\./(\S+)\n.*?^```$", re.M | re.S)  # as the site does
NOT_SHOWN = ("index", "design")  # the site's first page, and why the code is as it is


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
