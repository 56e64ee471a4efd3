"""How a command line is read: commands imported on demand, help in sections, errors of one line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from probe.cli.plain_words import take_plain_words
from probe.errors import UsageError

_ClickUsageError: Any = typer.BadParameter.__base__  # typer has no public name for it

VERBOSE = ("-v", "--verbose")

# what an option was called before: command -> old spelling -> new one
RENAMED: dict[str, dict[str, str]] = {
    "head": {
        "--solver": "--head NAME",
        "--per-class": "--learning-curve 5,10,20",
        "--balanced": "--sampling balanced",
        "-j": "--jobs N",
    },
    "bundle": {"--folds": "--fold-heads"},
    "explain": {"--map": "--heatmap", "-k": "--neighbours"},
    "promote": {
        "--head": "--start probe, zeros, fresh or scratch",
        "--from-scratch": "--start scratch",
        "--sample-weights": "--sampling-weights FILE",
        "--sizes": "--train-sizes 28,32,36",
        "--tensorboard": "--log tensorboard",
    },
    "report": {"--map": "--projection"},
}

# beside what an option has an effect: command -> option -> others, one of which has to be there
NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "bench": {
        "--coarse": ("--dataset cifar100",),
        "--repeats": ("--folds",),
        "--risk": ("--race", "--budget"),
    },
    "promote": {
        "--momentum": ("--optimizer sgd",),
        "--sampling-weights": ("--sampling weighted",),
    },
    "bundle": dict.fromkeys(("--preprocess", "--mean", "--classes"), ("--backbone",)),
    "predict": {
        **dict.fromkeys(("--weights", "--preprocess", "--mean", "--classes"), ("--backbone",)),
        "--weighting": ("--also",),
        "--combine": ("--also", "--tta"),
    },
    "dataset index": {"--group": ("--val", "--test")},
    "dataset pack": {"--quality": ("--resize", "--color", "--encoding")},
    "evaluate": {"--weighting": ("--also",), "--combine": ("--also", "--tta")},
    "explain": {"--dataset-root": ("--dataset",)},
    "cache verify": dict.fromkeys(
        ("--dataset-root", "--weights", "--engine", "--device", "--seed"), ("--sample",)
    ),
}

# beside what an option has no effect: command -> option or argument -> the others
IDLE: dict[str, dict[str, tuple[str, ...]]] = {
    "head": {"--shrinkage": ("--distance mean",)},
    "bench": {"--val-size": ("--folds",), "--log": ("--dry-run",)},
    "promote": {
        "--json": ("--dry-run", "--show-batch"),
        **dict.fromkeys(("--out", "--log"), ("--dry-run", "--show-batch", "--forecast")),
        **dict.fromkeys(("--dry-run", "--compare"), ("--show-batch", "--forecast")),
        "--forecast": ("--show-batch",),
        "--epochs": ("--steps",),
    },
    "bundle": dict.fromkeys(("--fold-heads", "--reject-rate", "--remember"), ("--backbone",)),
    "predict": {"--format": ("--json",)},
    "dataset pack": {"--quality": ("--encoding .png",)},
    "dataset split": dict.fromkeys(
        ("--val", "--test", "--group", "--seed", "--from-train", "--export"), ("--remove",)
    ),
    "cache verify": {"NAME": ("--all",)},
    "cache sync": dict.fromkeys(("--batch-size", "--device"), ("--dry-run",)),
}


def command_app(help: str | None = None) -> typer.Typer:  # noqa: A002 - as Typer calls it
    """Return a Typer with this command line's settings; with `help`, a group of commands."""
    return typer.Typer(
        help=help, cls=Group, no_args_is_help=help is not None, add_completion=False,
        pretty_exceptions_enable=False, rich_markup_mode=None,
    )  # fmt: skip


def be_verbose() -> None:
    """Say more on stderr: this package's own words, for those of matplotlib are thousands."""
    logging.getLogger("probe").setLevel(logging.DEBUG)


def _within(ctx: Any) -> str:
    """Return the words of a command after `probe`."""
    return str(ctx.command_path.removeprefix(ctx.find_root().command_path).strip())


def was_typed(ctx: Any, name: str) -> bool:
    """Return whether a parameter was given on the command line, not by a file or as a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_idle(ctx: Any, parameters: list[Any]) -> None:
    """Raise UsageError where an option was given that has no effect beside the others."""
    within = _within(ctx)
    named = {name: one for one in parameters for name in (*one.opts, one.name.upper())}

    def given(name: str) -> bool:
        return was_typed(ctx, named[name].name)

    def holds(said: str) -> bool:
        name, _, wanted = said.partition(" ")
        value = ctx.params[named[name].name]
        if wanted:
            return wanted in value if isinstance(value, list) else value == wanted
        return bool(value) and value != named[name].get_default(ctx)

    for name, others in NEEDS.get(within, {}).items():
        if given(name) and not any(map(holds, others)):
            raise UsageError(f"{name} is for {' or '.join(others)}: add it, or leave out {name}")
    for name, others in IDLE.get(within, {}).items():
        for other in filter(holds, others):
            if given(name):
                raise UsageError(f"{name} has no effect beside {other}: leave out one of them")


@contextmanager
def _one_line(ctx: Any, args: list[str]) -> Iterator[None]:
    """Raise what is wrong with the words of a command line as a `UsageError` of one line."""
    args = list(args)
    try:
        yield
    except _ClickUsageError as error:
        raise UsageError(_in_words(ctx, args, error)) from None


def _in_words(ctx: Any, args: list[str], error: Any) -> str:
    command = ctx.command_path
    within = _within(ctx)
    help_of = f"`{command} --help` lists what there is"
    if name := getattr(error, "option_name", ""):
        if new := RENAMED.get(within, {}).get(name):
            return f"{name} is now {new}"
        if (close := getattr(error, "possibilities", None)) is not None:
            maybe = f", did you mean {' or '.join(sorted(close))}?" if close else ""
            return f"{command} has no option {name}{maybe}; {help_of}"
    parameter = getattr(error, "param", None)
    if parameter is not None and error.message:
        expected = error.message.rstrip(".").replace("Input should be", "expected")
        expected = expected.removeprefix("Value error, ")  # what Pydantic puts before Typer's text
        if parameter.param_type_name != "option":
            return f"{parameter.name.upper()}: {expected}"
        return f"{_as_given(parameter.opts, args)}: {expected}"
    message = error.format_message().rstrip(".").replace("\n\t", " ")
    if "extra argument" in message and any(map(_same_ending, args, args[1:])):
        message += ", perhaps a pattern that the shell took apart: put it in quotes"
    return f"{command}: {message[:1].lower()}{message[1:]}; {help_of}"


def _same_ending(one: str, other: str) -> bool:
    ending = os.path.splitext(one)[1]
    return bool(ending) and ending == os.path.splitext(other)[1]


def _as_given(names: list[str], args: list[str]) -> str:
    """Return an option as it stands among the words of a command line, with its value."""
    for at, word in enumerate(args):
        if word in names:
            return " ".join(args[at : at + 2])
        if word.partition("=")[0] in names:
            return word
    return names[0]


class Command(TyperCommand):
    """A command whose options with the same ``rich_help_panel`` stand together in its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; what is wrong with them is one line. `-v` may stand here, too."""
        take_plain_words(self.get_params(ctx))
        for word in VERBOSE:
            if word in args and not any(word in one.opts for one in self.params):
                args.remove(word)
                be_verbose()
        read = None if ctx.resilient_parsing else ctx.find_root().obj
        if read is not None:
            from probe.cli.config import defaults_of

            ctx.default_map = defaults_of(read[0], read[1], _within(ctx), self.params)
        with _one_line(ctx, args):
            rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # a shell that completes a line may have half of it
            _refuse_idle(ctx, self.params)
        if read is not None:
            from probe.cli.config import tell_taken

            tell_taken(read[0], ctx, self.params)
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and then one list of options a section."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or kind
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(TyperGroup):
    """Commands under one name; what is wrong with the words of a command line is one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the command's name."""
        take_plain_words(self.get_params(ctx))
        if not args:  # the help, or what is missing
            return super().parse_args(ctx, args)
        with _one_line(ctx, args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return a command by its name."""
        with _one_line(ctx, args):
            return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the commands with their whole first sentences."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(200)) for name, one in self.commands.items()]
            )


class LazyGroup(Group):
    """The commands of a table, each imported when it is asked for.

    A command NAME is the function NAME of `probe.cli.NAME`, or that module's Typer `app` where it
    has commands of its own. The list of them is printed from the table and imports none.
    """

    table: ClassVar[
        Mapping[str, Mapping[str, str]]
    ] = {}  # section -> name -> what it does, one line

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        lines = {name: line for rows in self.table.values() for name, line in rows.items()}
        # what is listed, completed and suggested; they are never run
        self.commands.update({one: TyperCommand(one, short_help=say) for one, say in lines.items()})
        self._imported: dict[str, Any] = {}
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as click calls it
        """Return a command, imported; none where there is none of that name."""
        if cmd_name not in self.commands or self._listing:
            return self.commands.get(cmd_name)
        if cmd_name not in self._imported:
            module = import_module(f"probe.cli.{cmd_name}")
            app = getattr(module, "app", None)
            if app is None:
                app = command_app()
                app.command(cmd_name, cls=Command)(getattr(module, cmd_name))
            self._imported[cmd_name] = get_command(app)
        return self._imported[cmd_name]

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the names that begin so, from the table."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write one list of commands a section."""
        for section, rows in self.table.items():
            with formatter.section(section):
                formatter.write_dl(list(rows.items()))
