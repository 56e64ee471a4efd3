"""How the command line is read: the table of commands, and errors of one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from probe.cli.app import Probe, app
from probe.cli.commands import RENAMED
from probe.errors import UsageError


def commands(one: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that can be run, with its words."""
    one = get_command(app) if one is None else one
    if hasattr(one, "list_commands"):
        for name in one.list_commands(None):
            yield from commands(one.get_command(None, name), (*path, name))
    else:
        yield " ".join(path), one


def test_the_table_has_every_command_and_the_help_imports_none() -> None:
    lines = {name: line for rows in Probe.table.values() for name, line in rows.items()}
    for name in lines:
        assert import_module(f"probe.cli.{name}")
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert all(f"{name} {line}" in shown for name, line in lines.items())
    code = (
        "import sys; from probe.cli.app import app\n"
        "try: app(['--help'], prog_name='probe')\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('probe.cli.')), 'numpy' in sys.modules)"  # noqa: E501
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()[-1]
    assert told == "['probe.cli.app', 'probe.cli.commands'] False"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hed"], "probe: no such command 'hed'. Did you mean 'head'?"),
        (["cache", "lst"], "probe cache: no such command 'lst'. Did you mean"),
        (["head", "--epoch", "3"], "probe head has no option --epoch, did you mean --epochs?"),
        (["extract"], "probe extract: missing option '--backbone'"),
        (["head", "--epochs", "many"], "--epochs many: expected a valid integer"),
        (["head", "--val-size=much"], "--val-size=much: expected a valid number"),
    ],
)
def test_what_cannot_be_read_is_one_line(words: list[str], message: str) -> None:
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(message)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("words", "new"),
    [(f"{command} {old}", new) for command, names in RENAMED.items() for old, new in names.items()],
)
def test_an_old_spelling_answers_with_the_new_one(words: str, new: str) -> None:
    name, old = words.split()
    error = CliRunner().invoke(app, [name, old, "x"]).exception
    assert isinstance(error, UsageError)
    assert str(error) == f"{old} is now {new}"
    there = next(one for path, one in commands() if path == name)
    options = {option for parameter in there.params for option in parameter.opts}
    assert new.split(maxsplit=1)[0] in options
    assert old not in options


def test_a_name_says_one_thing_in_every_command() -> None:
    flags: dict[str, set[bool]] = {}
    for _, command in commands():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    flags.setdefault(option, set()).add(getattr(parameter, "is_flag", False))
    assert {option for option, kinds in flags.items() if len(kinds) > 1} == set()
