"""No option is ignored: what has no effect beside the others is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from probe.cli.app import app
from probe.cli.commands import IDLE, NEEDS
from probe.errors import UsageError
from tests.cli.test_commands import commands
from tests.needs import needs_mxnet

COMMANDS = dict(commands())

# Words that a command cannot be read without.
REQUIRED = {
    "bench": ["--backbones", "vgg16"], "predict": ["b", "i"], "evaluate": ["b", "-d", "d"],
    "explain": ["b", "i"], "dataset index": ["d"], "dataset pack": ["l"],
    "dataset split": ["d"],
}  # fmt: skip

# An option of which nobody has asked when it has no effect is in none of these tables, and fails.
ALWAYS = {
    "--json", "--cache-dir", "--seed", "--verbose", "--help", "--overwrite", "--out", "--workers",
    "--batch-size", "--device", "--scheduler", "--engine", "--dtype", "--views", "--strict",
    "--size", "--backbone", "--layer",
    "--dataset", "--skip-bad", "--per-class", "--limit", "--split", "--group", "--max-memory",
    "--epochs", "--lr", "--wd", "--optimizer", "--schedule", "--class-weight", "--sampling",
    "--label-smoothing", "--normalize", "--head", "--metric", "--concat", "--pca", "--start",
    "--lr-mult", "--bn", "--accumulate", "--warmup", "--clip", "--ema", "--augment", "--mixup",
    "--train-sizes", "--ohem", "--patience", "--threshold", "--folds", "--C", "--projection",
    "--open", "--png", "--csv", "--max-points", "--tta", "--also", "--top-k", "--label",
    "--heatmap", "--neighbours", "--to", "--host", "--port", "--max-megabytes", "--max-megapixels",
    "--rate", "--queue", "--proxy", "--all", "--sample", "--yes", "--force", "--max-size",
    "--older-than", "--unused", "--partial", "--dry-run", "--repair", "--codec", "--features",
    "--labels", "--ids", "--classes", "--mirror", "--record", "--weights", "--preprocess",
    "--mean", "--resize", "--fold-heads", "--refit", "--freeze", "--show-batch", "--remember",
    "--reject-rate", "--format", "--read", "--sheet", "--remove", "--val", "--test", "--shuffle",
    "--chunks", "--encoding", "--color", "--race", "--budget", "--log", "--steps",
}  # fmt: skip
# Refused, or spoken of, where the head, the data or the run is known.
LATER = {
    "--pool",  # of a layer that is no map
    "--split-column", "--where", "--columns", "--include", "--exclude", "--unlabeled",
    "--coarse", "--dataset-root", "--root",  # of a folder, a list or a named dataset
    "--positive", "--recall", "--cost",  # of more than two classes
    "--val-size", "--repeats", "--seeds", "--ensemble", "--jobs", "--draws", "--learning-curve",
    "--sample-weight", "--hidden", "--dropout", "--momentum", "--max-iter", "--alpha", "--distance",
    "--shrinkage", "--k", "--temperature",  # of another head
    "--run", "--bench",  # of another entry; beside runs
    "--unfreeze", "--backbone-lr-mult", "--head-lr-mult", "--layer-decay", "--compare",
    "--resume", "--sampling-weights",
}  # fmt: skip


def a_value(parameter: Any, tmp_path: Path) -> list[str]:
    """Return what may stand behind an option, and is not its default."""
    if parameter.is_flag:
        return []
    kind = parameter.type_descriptor
    if kind.is_choice:
        return [next(str(one) for one in kind.choices if one != parameter.default)]
    file = tmp_path / "file.csv"
    file.touch()
    return [str(file) if parameter.name in {"sampling_weights", "show_batch", "out"} else "1"]


def words_of(command: str, said: str, tmp_path: Path) -> list[str]:
    """Return an option of a command as typed, with the value it is said with or another."""
    if not said.startswith("-"):
        return ["a-name"]
    name, _, value = said.partition(" ")
    parameter = next(one for one in COMMANDS[command].params if name in one.opts)
    return [name, *([value] if value else a_value(parameter, tmp_path))]


def answer(command: str, *words: str) -> str:
    asked = [*command.split(), *REQUIRED.get(command, []), *words]
    error = CliRunner().invoke(app, asked).exception
    return str(error) if isinstance(error, UsageError) else ""


@pytest.mark.parametrize(
    ("command", "option"), [(name, one) for name, those in NEEDS.items() for one in those]
)
def test_an_option_without_what_it_is_for(command: str, option: str, tmp_path: Path) -> None:
    words = words_of(command, option, tmp_path)
    told = answer(command, *words)
    assert told.startswith(f"{option} is for {NEEDS[command][option][0]}")
    assert told.endswith(f"add it, or leave out {option}")


@pytest.mark.parametrize(
    ("command", "option", "other"),
    [(name, one, each) for name, those in IDLE.items() for one in those for each in those[one]],
)
def test_an_option_beside_what_leaves_it_no_effect(
    command: str, option: str, other: str, tmp_path: Path
) -> None:
    words = words_of(command, option, tmp_path) + words_of(command, other, tmp_path)
    told = answer(command, *words)
    assert told == f"{option} has no effect beside {other}: leave out one of them"


def test_of_every_option_somebody_has_asked_when_it_has_no_effect() -> None:
    unasked = {
        f"{name} {parameter.opts[0]}"
        for name, command in COMMANDS.items()
        for parameter in command.params
        if parameter.param_type_name == "option"
        and not ({*parameter.opts} & (ALWAYS | LATER))
        and not ({*parameter.opts} & {*NEEDS.get(name, {}), *IDLE.get(name, {})})
    }
    assert unasked == set()


def test_the_tables_name_what_there_is() -> None:
    for table in (NEEDS, IDLE):
        for name, those in table.items():
            there = {
                one for each in COMMANDS[name].params for one in (*each.opts, each.name.upper())
            }
            assert {*those} <= there
            assert {one.partition(" ")[0] for others in those.values() for one in others} <= there


def test_one_seed_shows_no_spread() -> None:
    assert answer("head", "--seeds", "1").startswith("--seeds 1: from 2 on they show how much")


def test_j_is_the_threads_that_decode_everywhere() -> None:
    meanings = {one.name for each in COMMANDS.values() for one in each.params if "-j" in one.opts}
    assert meanings == {"workers"}


@needs_mxnet
@pytest.mark.parametrize("option", ["--backbone-lr-mult", "--layer-decay"])
def test_factors_of_frozen_layers_are_refused(option: str) -> None:
    told = answer("promote", option, "0.5", "--freeze", "backbone")
    assert told.startswith(f"{option} has no effect beside --freeze backbone")
