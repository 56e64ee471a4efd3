"""The examples on a page: commands in its blocks, Python, and files that it shows.

A page is Markdown as for any reader. In an indented block, or one fenced as a shell's, a line that
begins with ``$`` or with the name of a program is a command, and what stands below a line with
``$`` is what it printed. A block that begins with ``# NAME.ENDING`` is a file of that name. A line
that ends with ``# needs REASON`` is not run, and neither is a block of which that is the first
line; `NEEDS` has the reasons.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDS = (
    "a cluster",
    "CIFAR-10",
    "keras",
    "MLflow",
    "pandas",  # the tests' environment has none
    "the network",
    "torch",
)
OTHERS = (  # programs that are not ours: their commands are not run
    "clip_benchmark", "dask", "docker", "export", "make", "pip", "python", "ray", "tensorboard",
)  # fmt: skip
_SHELL = ("", "sh", "bash", "shell", "console", "text")
_PYTHON = ("python", "py", "python3", "pycon")
_NEEDS = re.compile(r"# needs (.+?)(?=[:;,.]|$)")
_FILE = re.compile(r"# (\S+\.\w+)")
_PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*([\w-]+)(?=\s|$)")


@dataclass(frozen=True)
class Example:
    """What a page asks its reader to type, or to keep as a file.

    Parameters
    ----------
    line : int
        Where it stands on the page.
    text : str
        The command in one line, or the code.
    needs : str
        What keeps the tests from running it; empty if nothing does.
    """

    line: int
    text: str
    needs: str = ""


@dataclass(frozen=True)
class Command(Example):
    """A command, with the lines that the page shows below it."""

    shown: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """The name of the program."""
        found = _PROGRAM.match(self.text)
        return found[1] if found else self.text


@dataclass(frozen=True)
class Code(Example):
    """Lines of Python."""


@dataclass(frozen=True)
class File(Example):
    """A file that the page shows."""

    name: str = ""


@dataclass(frozen=True)
class Page:
    """A page and its examples, in order."""

    path: Path
    text: str
    examples: tuple[Example, ...]

    @property
    def name(self) -> str:
        """The name without its ending."""
        return self.path.stem

    @property
    def run(self) -> tuple[Example, ...]:
        """The examples that the tests run: probe's commands, Python, and the files for them."""
        return tuple(
            one
            for one in self.examples
            if not one.needs and not (isinstance(one, Command) and one.program in OTHERS)
        )


@cache
def read_pages() -> tuple[Page, ...]:
    """Return the README and all pages of the site, the README first.

    Raises
    ------
    ValueError
        A page has something that is neither clearly an example nor clearly none.
    """
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return tuple(read_page(path) for path in paths)


def read_page(path: Path, text: str | None = None) -> Page:
    """Read the examples of a page; see `read_pages`."""
    text = path.read_text(encoding="utf-8") if text is None else text
    found: list[Example] = []
    for kind, start, lines in _blocks(text.splitlines()):
        where = f"{path.name}, line {start}"
        if kind == "{include}":
            continue
        if kind in _PYTHON:
            found.append(_code(start, lines, where))
        elif kind == "toml":
            found.append(File(start, "\n".join(lines), name="probe.toml"))
        elif kind in _SHELL:
            found += _typed(start, lines, where)
    return Page(path, text, tuple(found))


def needs_of(line: str, where: str) -> str:
    """Return the reason that a line gives for not being run; empty if it gives none."""
    found = _NEEDS.search(line)
    if found is None:
        return ""
    if found[1] not in NEEDS:
        raise ValueError(f"{where}: needs {found[1]!r} is none of {', '.join(NEEDS)}")
    return found[1]


def _blocks(lines: Sequence[str]) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the kind, the first line's number and the lines of each block; indented ones are ""."""
    at = 0
    while at < len(lines):
        if lines[at].startswith("```"):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].startswith("```"))
            yield lines[at].strip("`").split(" ")[0], at + 2, list(lines[at + 1 : end])
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            yield "", at + 1, [line[4:] for line in lines[at:end]]
            at = end
        else:
            at += 1


def _code(start: int, lines: list[str], where: str) -> Code:
    """Return a block of Python, without the lines that need what is not here."""
    if lines[0].startswith("#") and (needs := needs_of(lines[0], where)):
        return Code(start, "\n".join(lines), needs)
    kept = [re.sub(r"\S.*", "pass", line) if needs_of(line, where) else line for line in lines]
    return Code(start, "\n" * (start - 1) + "\n".join(kept) + "\n")  # as a traceback counts them


def _typed(start: int, lines: list[str], where: str) -> Iterator[Example]:
    """Yield the commands of a block, or the file that it is."""
    if named := _FILE.fullmatch(lines[0]):
        yield File(start, "\n".join(lines[1:]) + "\n", name=named[1])
        return
    of_all = needs_of(lines[0], where) if lines[0].startswith("#") else ""
    prompts = any(line.startswith("$ ") for line in lines)
    current: Command | None = None
    number = start
    while number < start + len(lines):
        line, here = lines[number - start], number
        number += 1
        if line.startswith("$ ") if prompts else _is_command(line):
            line = line.removeprefix("$ ")
            while line.endswith("\\"):
                line = f"{line[:-1]}{lines[number - start].strip()}"
                number += 1
            if current:
                yield current
            current = Command(here, line, of_all or needs_of(line, where))
            if not _is_command(line):
                raise ValueError(f"{where}: `{line}`: no program of ours or of `OTHERS`")
        elif current and prompts:
            current = replace(current, shown=(*current.shown, line))
        elif current:
            raise ValueError(f"{where}: `{line}` stands among commands")
    if current:
        yield current
    elif any("probe." in line for line in lines) and _is_python("\n".join(lines)):
        raise ValueError(f"{where}: Python belongs into a block of ```python")


def _is_command(line: str) -> bool:
    found = _PROGRAM.match(line)
    return found is not None and found[1] in ("probe", *OTHERS)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
