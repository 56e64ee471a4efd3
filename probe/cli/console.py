"""What the commands print with: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def stdout() -> Console:
    """Return a console for results. Paths and names are printed as they are, never wrapped."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, markup=False, emoji=False)


def stderr() -> Console:
    """Return a console for messages."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(value: Mapping[str, Any]) -> None:
    """Print the one object of ``--json``."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def facts(console: Console, rows: Mapping[str, str]) -> None:
    """Print what was decided, one word and its value a line."""
    width = max(map(len, rows))
    for word, value in rows.items():
        console.print(Text(f"{word:<{width}}  ", style="bold cyan") + Text(value))


def table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print a plain table; piped, it keeps full lines instead of a terminal's width."""
    made = Table(box=None, pad_edge=False, header_style="bold cyan")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in right else "left", overflow="fold", no_wrap=not console.is_terminal)
    for row in rows:
        made.add_row(*row)
    console.print(made, soft_wrap=not console.is_terminal, crop=False)


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
        TextColumn(label), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=False,
    )  # fmt: skip


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
