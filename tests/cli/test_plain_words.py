"""Words that are converted without Pydantic mean what Typer makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from probe.cli.plain_words import take_plain_words
from tests.cli.test_commands import commands

WORDS = (
    None, True, False, 0, 1, 7, 0.5, 1e-05, "", "-", " ", "0", "1", "007", "7", "65536", "-1", "+2",
    "0.5", ".5", "5.", "1e-3", "1_000", "nan", "inf", "0x10", "true", "None", "auto", "none", "l2",
    "float16", "a,b", "größe", "٣", "\udcff", "a\0b", "~", ".", "tests", "no/such/file",
    __file__, Path(__file__),
)  # fmt: skip


def outcome(convert: Any, context: Any, value: Any) -> Any:
    try:
        found = convert(context, value)
    except Exception as error:
        return type(error).__name__, getattr(error, "message", str(error))
    several = isinstance(found, list | tuple)
    return (*map(type, found), list(found)) if several else (type(found), repr(found))


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_each_option_takes_each_word_as_typer_does(path: str, command: Any) -> None:
    context = typer.Context(command, info_name=path)
    parameters = [one for one in command.params if one.callback is None]
    if not all(hasattr(one, "type_descriptor") for one in parameters):
        pytest.skip("this Typer converts without Pydantic")
    for one in parameters:
        several = one.multiple or one.nargs == -1
        values = [None, (), *((word,) for word in WORDS[1:]), ("a", "1")] if several else WORDS
        vars(one).pop("process_value", None)  # a command that ran before has ours
        theirs = [(value, outcome(one.process_value, context, value)) for value in values]
        take_plain_words([one])
        ours = [(value, outcome(one.process_value, context, value)) for value in values]
        assert ours == theirs, one.name


@pytest.mark.parametrize(
    "words",
    [
        "extract --backbone resnet18 --weights random:0 --dataset digits --size 64 --limit 1",
        "head some-entry --head ridge --epochs 3 --val-size 0.2 --seed 1 --out there",
        "predict some.probe a.png b.png -k 3 --format jsonl",
        "cache list --json",
        "bench --backbones resnet18,vgg16 --dataset digits",
    ],
)
def test_plain_words_need_no_pydantic(words: str, tmp_path: Path) -> None:
    code = (
        "import sys, typer\n"
        "from probe.cli.app import app\n"
        "from typer.main import get_command\n"
        "name, *rest = sys.argv[1:]\n"
        "one = get_command(app).get_command(None, name)\n"
        "for word in rest[:1] if hasattr(one, 'commands') else ():\n"
        "    one, rest = one.get_command(None, word), rest[1:]\n"
        "try: one.make_context(name, rest)\n"
        "except Exception as error: print(error)\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
