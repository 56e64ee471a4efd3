"""The `probe` command: its subcommands, and how errors end.

A command's file is imported when the command is asked for, so that `probe --help` imports none.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import logging
import os
import select
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from probe.cli.commands import VERBOSE, LazyGroup, be_verbose
from probe.core.regular import PASSING
from probe.core.text import visible
from probe.core.urls import configured, hide
from probe.core.version import __version__
from probe.errors import ProbeError, UsageError

EPILOG = (
    "Start with `probe demo`. State lies in ./cache where there is such a folder, else in the "
    "user's cache folder (`probe doctor` says where); PROBE_CACHE or --cache-dir moves it."
)


class Probe(LazyGroup):
    """The commands of `probe`, in the order and under the headings of its help."""

    table: ClassVar = {
        "From images to a head": {
            "extract": "Run a frozen backbone over a dataset once.",
            "head": "Fit a head on cached features, in seconds.",
            "bench": "Compare backbones on your images, under one protocol.",
            "promote": "Fine-tune the network from where its probe ended.",
        },
        "Looking at results": {
            "report": "Write one HTML page about a bench or some runs.",
            "runs": "List, show, compare, tag and remove runs.",
            "audit": "Find test images that are in train, and doubtful labels.",
        },
        "Using a model": {
            "bundle": "Make one file or folder that predicts alone.",
            "predict": "Tell the most probable classes of images.",
            "evaluate": "Score a bundle on a labelled dataset.",
            "explain": "Show why a bundle says so, as a picture.",
            "export": "Write a bundle for ONNX, MXNet or scikit-learn.",
            "serve": "Serve a bundle as a page and an endpoint.",
        },
        "What there is": {
            "cache": "List, check and remove cache entries; features in and out.",
            "dataset": "Look at, divide, pack and fetch datasets.",
            "backbones": "List the backbones and the layers they can be cut at.",
            "weights": "Find, fetch, check and convert pretrained weights.",
            "doctor": "Show versions, engines, threads and devices.",
            "demo": "See it work, offline, in about a minute.",
            "help": "Show a page of the documentation, or list them.",
        },
    }


app = typer.Typer(
    name="probe",
    cls=Probe,
    help="Run a frozen, pretrained CNN over images once, keep its features, fit heads in seconds.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"probe {__version__}")
        raise typer.Exit


class _Once(logging.Filter):
    """Lets a warning through once a command, however many heads it holds for."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is news; what `--verbose` adds always is."""
        text = record.getMessage()
        news = record.levelno < logging.WARNING or text not in self._said
        self._said.add(text)
        return news


class _Visible(logging.Formatter):
    """Writes a message as one line, in which a terminal finds nothing to act on."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line; a traceback comes after it."""
        record.message = visible(record.message)
        return super().formatMessage(record)


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - the callback does it
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(*VERBOSE, help="Say more on stderr: an epoch a line, and what is logged."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with defaults of options, by command; what is typed comes first.",
            show_default="PROBE_CONFIG, or ./probe.toml if there is one",
        ),
    ] = None,
) -> None:
    ctx.obj = _configuration(config)
    name = " %(name)s" if verbose else ""
    screen = logging.StreamHandler(sys.stderr)
    screen.addFilter(_Once())
    screen.setFormatter(_Visible(f"%(levelname)s{name}: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    if verbose:
        be_verbose()
    else:
        for noisy in ("matplotlib", "PIL", "filelock", "h5py", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.ERROR)


def _configuration(named: Path | None) -> tuple[Path, Mapping[str, Any]] | None:
    """Return the file with defaults of options and what is in it; None where there is none."""
    configured.clear()
    if named is None and not os.environ.get("PROBE_CONFIG") and not os.path.exists("probe.toml"):
        return None  # nearly always: nothing is imported for it
    from probe.cli.config import config_file, read_config

    path = config_file(named)
    commands = [name for rows in Probe.table.values() for name in rows]
    return None if path is None else (path, read_config(path, commands))


def main() -> None:
    """Run the command line; the exit code is 0, 1 (partly failed), 2 (error) or 130 (Ctrl-C).

    Where nobody reads the output on, as in ``probe cache list | head -1``, it dies of SIGPIPE.
    """
    # imports make objects that live as long as the process; to search each few hundred of them for
    # garbage takes a tenth of the start
    gc.set_threshold(20_000)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: nobody wants to hear
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is no UTF-8 can be told, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_place()
        try:
            app(prog_name="probe")
        except SystemExit as stop:
            raise _behind(stop) from None
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told
    except ProbeError as error:
        sys.stderr.write(f"probe: {visible(hide(' '.join(str(error).split())))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("probe: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _drop_output()
        _die_of_the_pipe()
    except (OSError, MemoryError, RuntimeError) as error:
        said = _of_the_machine(error)
        if not said:
            raise
        if isinstance(error, OSError) and error.filename is None:
            _drop_output()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"probe: {visible(said)}\n")
        sys.exit(2)


def _of_the_machine(error: Exception) -> str:
    """Return in a line what a path, a disk or the memory refused; empty for a fault of ours."""
    if not isinstance(error, OSError):
        if not isinstance(error, MemoryError) and "can't start new thread" not in str(error):
            return ""
        reason = " ".join(str(error).split())  # empty where Python itself ran out
        return (
            f"there is not enough memory{reason and f' ({reason})'}; close other programs, raise "
            "the limit, or ask for less at once"
        )
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and error.filename is not None:
        name = os.fsencode(error.filename).decode("utf-8", "backslashreplace")
        short = name if len(name) <= 100 else f"{name[:60]}...{name[-20:]}"
        return f"{short}: {error.strerror}; give another path"
    if error.errno in PASSING and isinstance(error.filename, str):
        return (
            f"{error.filename}: {error.strerror}; its disk or server fails, now or for good: run "
            "the same command again"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) and error.filename is None:
        return f"the output cannot be written ({error.strerror})"
    return ""


def _behind(stop: SystemExit) -> BaseException:
    """Return the closed pipe or the Ctrl-C that typer made a silent exit code of, else `stop`."""
    seen = stop.__context__
    if seen is not None and isinstance(seen.__cause__, KeyboardInterrupt):
        return seen.__cause__
    return seen if isinstance(seen, BrokenPipeError) else stop


def _check_place() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the working directory was removed; `cd` to another and repeat") from None


def _nobody_reads() -> bool:
    """Return whether stdout or stderr is a pipe whose other end is closed."""
    if not hasattr(select, "poll"):  # Windows
        return True
    watched = select.poll()
    for number in (1, 2):
        watched.register(number, 0)  # errors and hang-ups are told unasked
    return bool(watched.poll(0))


def _die_of_the_pipe() -> None:
    if not hasattr(signal, "SIGPIPE"):  # Windows
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)


def _drop_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
