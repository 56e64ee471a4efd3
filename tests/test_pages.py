"""What README and the pages say of commands and files is so."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.cli.test_commands import commands as every_command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERYWHERE = {"--config", "--help", "--version", "--verbose", "--install-completion", "-h", "-v"}


@cache
def commands() -> dict[str, set[str]]:
    """Return the options of every command, by its words after `probe`; a group has none."""
    found: dict[str, set[str]] = {}
    for words, command in every_command():
        found.setdefault(words.rpartition(" ")[0], set())
        found[words] = {one for each in command.params for one in each.opts + each.secondary_opts}
    return found


def typed(page: Path) -> list[str]:
    """Return the commands that a page shows, in blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.S)  # Python, and files
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines() if line[:4] == "    "]
    spans = re.findall(r"`(probe [^`]+)`", text)
    joined = "\n".join([*lines, *spans]).replace("\\\n", " ")
    each = [part.strip() for line in joined.splitlines() for part in line.split("&&")]
    return [one.partition("#")[0].strip() for one in each if one.startswith("probe ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    for line in typed(page):
        words = line.split()[1:]
        names = [" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in commands()]
        if line.startswith(("probe COMMAND", "probe --")):
            continue
        assert names, f"{page.name}: no command as in `{line}`"
        options = {re.split(r"[=|\]]", word.strip("[]"))[0] for word in words if word[:2] == "--"}
        unknown = options - commands()[names[0]] - EVERYWHERE
        assert not unknown, f"{page.name}: `{line}`: no such option: {sorted(unknown)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_sentences_exist_in_some_command(page: Path) -> None:
    every = set().union(*commands().values()) | EVERYWHERE
    spans = re.findall(r"`(--[a-z-]+)", page.read_text(encoding="utf-8"))
    assert not set(spans) - every


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_a_page_speaks_of_commands() -> None:
    assert len(typed(ROOT / "README.md")) > 5
    assert "--dataset" in commands()["extract"]
