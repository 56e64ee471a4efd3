"""How the command line is read: the table of commands, and errors of one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from probe.backbones import spec
from probe.bundle.about import REMEMBERED
from probe.cache.pack import CODECS
from probe.cli.app import Probe, app
from probe.cli.commands import RENAMED
from probe.errors import UsageError
from probe.export import FORMATS
from probe.extraction.request import DTYPES
from probe.finetune import options as tuning
from probe.heads import softmax
from probe.heads.ensemble import How
from probe.heads.grid import CHOICE_METRICS
from probe.heads.normalize import Normalization
from probe.heads.prototype import Distance
from probe.heads.schedule import Schedule
from probe.predict.augment import COMBINATIONS
from probe.predict.explain import MAPS


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
        "print(sorted(m for m in sys.modules if m.startswith('probe.cli.')),\n"
        "    {'numpy', 'pydantic', 'http', 'importlib.metadata'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()[-1]
    assert told == "['probe.cli.app', 'probe.cli.commands', 'probe.cli.plain_words'] set()"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hed"], "probe: no such command 'hed'. Did you mean 'head'?"),
        (["cache", "lst"], "probe cache: no such command 'lst'. Did you mean"),
        (["head", "--epoch", "3"], "probe head has no option --epoch, did you mean --epochs?"),
        (["extract"], "probe extract: missing option '--backbone'"),
        (
            ["dataset", "show", "a-0.tar", "a-1.tar"],
            "probe dataset show: got unexpected extra argument(s) (a-1.tar), perhaps a pattern",
        ),
        (["runs", "show", "a", "b"], "probe runs show: got unexpected extra argument(s) (b);"),
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


def completed(words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what bash is told for a line whose last word is being written."""
    monkeypatch.setenv("_PROBE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"probe {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
    return CliRunner().invoke(app, [], prog_name="probe").output.split()


def test_a_shell_completes_commands_options_choices_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    for number, name in enumerate(("features/old.h5", "features/new.h5", "features/.new.lock")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    for name in ("runs/20260101-000000-001", "runs/20270101-000000-001", "benches/b1"):
        (tmp_path / name).mkdir(parents=True)
    for words, names in {
        "he": ["head", "help"],
        "cache ve": ["verify"],
        "head --learn": ["--learning-curve"],
        "head ": ["new", "old"],
        "head o": ["old"],
        "head --head pa": ["path"],
        "head --metric m": ["macro_f1"],
        "extract --dtype ": ["float32", "float16"],
        "extract --backbone vgg1": ["vgg11", "vgg13", "vgg16", "vgg19"],
        "extract -d cifar": ["cifar10", "cifar100"],
        "bundle 2026": ["20260101-000000-001"],
        "promote 2027": ["20270101-000000-001"],
        "report --bench ": ["b1"],
        f"cache show --cache-dir {tmp_path / 'elsewhere'} ": [],
    }.items():
        told = completed(words, monkeypatch)
        assert [one for one in told if not one.endswith("_bn")] == names, words


def test_the_choices_are_those_of_the_code_behind_them() -> None:
    choices = {
        (path, parameter.opts[0]): parameter.type_descriptor.choices
        for path, command in commands()
        for parameter in command.params
        if parameter.type_descriptor.is_choice
    }
    for option, known in {
        ("extract", "--pool"): get_args(spec.Pool),
        ("extract", "--dtype"): DTYPES,
        ("head", "--normalize"): get_args(Normalization),
        ("head", "--metric"): tuple(CHOICE_METRICS),
        ("bench", "--metric"): tuple(CHOICE_METRICS),
        ("head", "--ensemble"): get_args(How),
        ("head", "--optimizer"): get_args(softmax.OptimizerName),
        ("head", "--schedule"): get_args(Schedule),
        ("head", "--distance"): get_args(Distance),
        ("promote", "--start"): get_args(tuning.Start),
        ("promote", "--optimizer"): get_args(tuning.OptimizerName),
        ("promote", "--schedule"): get_args(tuning.ScheduleName),
        ("promote", "--bn"): get_args(tuning.BatchNorm),
        ("promote", "--sampling"): get_args(tuning.Sampling),
        ("predict", "--combine"): COMBINATIONS,
        ("explain", "--heatmap"): MAPS,
        ("export", "--to"): tuple(FORMATS),
        ("bundle", "--remember"): ("nothing", *REMEMBERED),
        ("cache pack", "--codec"): CODECS,
    }.items():
        assert tuple(choices[option]) == tuple(known), option


def test_every_option_has_a_sentence() -> None:
    dumb = {
        f"{path} {parameter.opts[0]}"
        for path, command in commands()
        for parameter in command.params
        if not (getattr(parameter, "help", None) or "").rstrip().endswith((".", ")", ":", "`"))
        and not getattr(parameter, "hidden", False)
        and parameter.opts[0] not in {"-h", "--help"}
    }
    assert dumb == set()
