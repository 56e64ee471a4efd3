"""`probe`: the commands, and what becomes of an error.

This file and the commands it names import nothing heavy, so that `probe --help` is quick; each
command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
from typing import Annotated

import typer

from probe.cli import (
    audit,
    backbones,
    bench,
    bundle,
    cache,
    dataset,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    extract,
    head,
    predict,
    promote,
    report,
    serve,
    weights,
)
from probe.cli.sections import SectionedCommand
from probe.errors import ProbeError, UsageError

EPILOG = "Start with `probe demo`. State lies in ./cache; PROBE_CACHE or --cache-dir moves it."

app = typer.Typer(
    name="probe",
    help="Run a frozen, pretrained CNN over images once, keep its features, fit heads in seconds.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extract", short_help="Run a frozen backbone over a dataset once.")(extract.extract)
app.command("head", cls=SectionedCommand, short_help="Fit a head on cached features, in seconds.")(
    head.head
)
app.command("audit", short_help="Find test images that are in train, and doubtful labels.")(
    audit.audit
)
app.command("bench", short_help="Compare backbones on your images, under one protocol.")(
    bench.bench
)
app.command("report", short_help="Write one HTML page about a bench or some runs.")(report.report)
app.command(
    "promote", cls=SectionedCommand, short_help="Fine-tune the network from where its probe ended."
)(promote.promote)
app.command("bundle", short_help="Make one file or folder that predicts alone.")(bundle.bundle)
app.command("predict", short_help="Tell the most probable classes of images.")(predict.predict)
app.command("evaluate", short_help="Score a bundle on a labelled dataset.")(evaluate.evaluate)
app.command("explain", short_help="Show why a bundle says so, as a picture.")(explain.explain)
app.command("export", short_help="Write a bundle for ONNX, MXNet or scikit-learn.")(export.export)
app.command("serve", short_help="Serve a bundle as a page and an endpoint.")(serve.serve)
app.add_typer(
    backbones.app,
    name="backbones",
    short_help="Which backbones there are, and where they can be cut.",
)
app.add_typer(
    weights.app, name="weights", short_help="Find, fetch, check and convert pretrained weights."
)
app.add_typer(cache.app, name="cache", short_help="Look after cache entries; features in and out.")
app.add_typer(dataset.app, name="dataset", short_help="Which datasets are known by name.")
app.command("doctor", short_help="Show versions, threads and devices.")(doctor.doctor)
app.command("demo", short_help="See it work, offline, in about a minute.")(demo.demo)


def _version(value: bool) -> None:
    if value:
        from probe.core.version import __version__

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


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - the callback does it
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
) -> None:
    name = " %(name)s" if verbose else ""
    screen = logging.StreamHandler(sys.stderr)
    screen.addFilter(_Once())
    logging.basicConfig(
        level=logging.WARNING, format=f"%(levelname)s{name}: %(message)s", handlers=[screen]
    )
    if verbose:
        logging.getLogger("probe").setLevel(logging.DEBUG)  # matplotlib's words are thousands
    else:
        for noisy in ("matplotlib", "PIL", "filelock", "h5py"):
            logging.getLogger(noisy).setLevel(logging.ERROR)


def main() -> None:
    """Run the command line; the exit code is 0, 1 (partly failed), 2 (error) or 130 (Ctrl-C).

    Where nobody reads the output on, as in ``probe cache list | head -1``, it dies of SIGPIPE.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: nobody wants to hear
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is no UTF-8 can be told, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_place()
        try:
            app()
        except SystemExit as stop:
            raise _behind(stop) from None
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told
    except ProbeError as error:
        sys.stderr.write(f"probe: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("probe: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _drop_output()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and error.filename is not None:
            name = os.fsencode(error.filename).decode("utf-8", "backslashreplace")
            short = name if len(name) <= 100 else f"{name[:60]}...{name[-20:]}"
            sys.stderr.write(f"probe: {short}: {error.strerror}; give another path\n")
            sys.exit(2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        _drop_output()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"probe: the output cannot be written ({error.strerror})\n")
        sys.exit(2)


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
    watched = select.poll()
    for number in (1, 2):
        watched.register(number, 0)  # errors and hang-ups are told unasked
    return bool(watched.poll(0))


def _drop_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
