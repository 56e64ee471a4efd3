"""`probe help`: pages of the documentation, commands and headings by a word."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from probe.cli.pages import read_pages, sections_with
from probe.errors import UnknownNameError
from tests.commands import invoke, probe

DOCS = Path(__file__).parents[2] / "docs"


def test_each_page_is_listed_with_its_title_and_shown_as_it_is() -> None:
    pages = read_pages()
    assert {*pages} == {path.stem for path in DOCS.glob("*.md")} - {"index", "design"}
    listed = " ".join(probe("help").split())
    for name, text in pages.items():
        assert f"{name} {text.partition(chr(10))[0].removeprefix('# ')}" in listed
        shown, own = probe("help", name).rstrip(), (DOCS / f"{name}.md").read_text().rstrip()
        if name == "formats":  # the site has other files within it
            assert "include" not in shown
            assert "See `probe/cache/FORMAT.md` of the sources." in shown
        else:
            assert shown == own


@pytest.mark.parametrize("words", [("bench",), ("cache", "list"), ("dataset",)])
def test_a_command_shows_its_help(words: tuple[str, ...]) -> None:
    assert probe("help", *words) == probe(*words, "--help").replace("Usage: root", "Usage: probe")


@pytest.mark.parametrize(
    ("words", "heading", "within"),
    [
        ("exit codes", "## Exit codes", "stopped by Ctrl-C"),
        ("Preprocessing", "## Preprocessing belongs to the weights", "fails silently"),
        ("splits", "## There are no splits", "--val-size"),
    ],
)
def test_a_word_of_headings_shows_their_sections(words: str, heading: str, within: str) -> None:
    told = probe("help", *words.split())
    assert f"{heading}\n" in told
    assert within in told
    assert all(words.lower() in line.lower() for line in told.splitlines() if line[:3] == "## ")


def test_a_section_has_those_within_it_and_no_comment_in_code_is_a_heading() -> None:
    text = "# T\n\n## Cats\n\n```sh\n## dogs\n```\n\n### Cats at night\n\nx\n\n## Owls\n"
    (found,) = sections_with(text, "cats")
    assert found == text[text.index("## Cats") : text.index("\n\n## Owls")]
    assert not list(sections_with(text, "dogs"))


@pytest.mark.parametrize(
    ("word", "near"), [("spliits", "splits"), ("readng", "reading"), ("bnch", "bench")]
)
def test_an_unknown_word_has_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        invoke("help", word)
    assert str(error.value) == (
        f"help {word}: no page, command or heading has it; did you mean {near!r}? "
        "`probe help` lists the pages"
    )


def test_on_a_terminal_it_is_laid_out_and_paged(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    surroundings = {**os.environ, "PAGER": f"tee {tmp_path / 'paged'}", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "probe", "help", "exit", "codes"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=surroundings,
    ) as process:  # fmt: skip
        os.close(theirs)
        told = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            told += piece
        assert process.wait() == 0, process.stderr and process.stderr.read()
    os.close(ours)
    paged = (tmp_path / "paged").read_text()
    assert "Exit codes" in paged
    assert "## Exit" not in paged
    assert b"Exit codes" in told
