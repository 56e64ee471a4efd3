"""What the commands print with: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from probe.core.machine import state_folder
from probe.core.text import visible, visible_json
from probe.core.urls import public

FOLDED_WIDTH = 20  # characters that a folded column has at least
PIPED_WIDTH = 1000  # columns where nobody looks: lines stay whole for grep and cut


_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def quiet(silent: bool = True, *, warnings: bool = False) -> Iterator[None]:
    """Show neither messages nor bars inside, nor what is logged; `False` leaves it as it is.

    Parameters
    ----------
    warnings : bool
        Show what is logged all the same.
    """
    token = _silent.set(silent or _silent.get())
    try:
        with _muted if silent and not warnings else nullcontext():
            yield
    finally:
        _silent.reset(token)


class _Muted:
    """Nothing that this package logs is handled while a quiet call runs, in any thread."""

    def __init__(self) -> None:
        self._lock, self._calls, self._level = threading.Lock(), 0, logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            logger = logging.getLogger("probe")
            if self._calls == 0:
                self._level = logger.level
                logger.setLevel(logging.CRITICAL + 1)
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls == 0:
                logging.getLogger("probe").setLevel(self._level)


_muted = _Muted()


def stdout() -> Console:
    """Return a console for results. Text is printed as it is: no markup, no colour when piped."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Return a console for messages."""
    return _console(sys.stderr, silent=_silent.get())


class _Console(Console):
    """Shows names of files and classes as they are, but for what a terminal would act on."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what is printed of a string, of a cell or a line."""
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to `probe.cli.app.main`, where rich would exit with 1."""
        raise  # noqa: PLE0704 - called while a BrokenPipeError is handled


def _console(file: TextIO, *, silent: bool = False) -> Console:
    width = None if file.isatty() else PIPED_WIDTH
    return _Console(
        file=file, highlight=False, markup=False, emoji=False, width=width, quiet=silent
    )


def has_bars(console: Console) -> bool:
    """Whether bars can be drawn: on a terminal, or in a notebook that has ipywidgets."""
    if console.quiet:
        return False
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal


def print_json(value: Mapping[str, Any]) -> None:
    """Print the one object of ``--json``."""
    sys.stdout.write(visible_json(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


def facts(console: Console, rows: Mapping[str, str]) -> None:
    """Print what was decided, one word and its value a line."""
    width = max(map(len, rows))
    for word, value in rows.items():
        line = Text.assemble((f"{word:<{width}}  ", "bold cyan"), visible(value))
        console.print(line, soft_wrap=True)


def place(path: str | os.PathLike[str]) -> str:
    """Return a path as it is printed: from the working directory if it lies below it, else whole.

    What ``--json`` prints is as it was given, for programs.
    """
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def command(*words: str | os.PathLike[str], cache_dir: Path | None = None) -> str:
    """Return a command of `probe` that can be pasted into a shell.

    Parameters
    ----------
    cache_dir : Path, optional
        The state folder that the command has to find again: named where it is not the default.
    """
    there = [place(one) if isinstance(one, Path) else public(str(one)) for one in words]
    if cache_dir is not None and not _same(cache_dir, state_folder()):
        there += ["--cache-dir", place(cache_dir)]
    return f"probe {shlex.join(there)}"


def _same(a: Path, b: Path) -> bool:
    return os.path.abspath(a) == os.path.abspath(b)


def run_name(folder: Path, cache_dir: Path) -> str:
    """Return how a command names a run: its name alone where it lies among the runs."""
    return folder.name if _same(folder.parent, cache_dir / "runs") else place(folder)


def chosen(found: tuple[Path, str]) -> Path:
    """Say which run is taken where nobody named one, on stderr, and return its folder."""
    folder, why = found
    facts(stderr(), {"run": f"{folder.name}, {why}"})
    return folder


def two_lines(first: str, second: str) -> Text:
    """Return a cell of a table with a second line, which stands further right."""
    return Text(f"{visible(first)}\n  {visible(second)}")


def table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[int] = (),
    fold: Sequence[int] = (),
) -> None:
    """Print a plain table.

    Parameters
    ----------
    rows : sequence of sequence of str or Text
        See `two_lines` for cells of two lines.
    right : sequence of int
        Columns of numbers.
    fold : sequence of int
        Columns that give way where the terminal is narrow, as those of names.
    """
    if console.quiet:
        return
    made = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        folds = number in fold
        made.add_column(
            column,
            justify="right" if number in right else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=FOLDED_WIDTH if folds else None,
        )
    cells = [[one if isinstance(one, Text) else Text(visible(one)) for one in row] for row in rows]
    for row in cells:
        made.add_row(*row)
    # a terminal that is too narrow wraps lines; a cell cut off would be a wrong number
    texts = [[one.plain for one in row] for row in cells]
    widths = [max(map(cell_len, column)) for column in zip(columns, *texts, strict=True)]
    for number in fold:
        widths[number] = min(widths[number], FOLDED_WIDTH)
    console.width = max(console.width, sum(widths) + 2 * len(widths))
    if console.is_terminal:
        console.print(made, crop=False)
        return
    with console.capture() as printed:
        console.print(made, crop=False)
    lines = [line.rstrip() for line in printed.get().splitlines()]
    console.file.write("\n".join(lines) + "\n")


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{rate(speed)} {self._unit}/s" if speed else "", style="green")


def progress(label: str, unit: str) -> Progress:
    """Return a bar with rate and time left on stderr; silent where that is no terminal."""
    console = stderr()
    return Progress(
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        console=console,
        disable=not has_bars(console),
        transient=False,
    )


class DownloadBar:
    """A download's progress in the form of `probe.core.download.Bar`."""

    def __init__(self, label: str) -> None:
        console = stderr()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not has_bars(console),
        )
        self._task = self._bar.add_task(visible(label), total=None)
        self._bar.start()

    @property
    def total(self) -> float | None:
        """Bytes to come, or None while nobody knows."""
        return self._bar.tasks[0].total

    @total.setter
    def total(self, count: float | None) -> None:
        self._bar.update(self._task, total=count)

    def update(self, count: int) -> None:
        """Note that `count` more bytes came."""
        self._bar.advance(self._task, count)

    def reset(self) -> None:
        """Start over."""
        self._bar.reset(self._task, total=self.total)

    def close(self) -> None:
        """Leave the terminal as it is."""
        self._bar.stop()


def download_bar(name: str) -> DownloadBar:
    """Return a bar that is drawn already, for `probe.datasets.load_dataset`."""
    return DownloadBar(name)


def rate(value: float) -> str:
    """Return a rate to three figures."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
