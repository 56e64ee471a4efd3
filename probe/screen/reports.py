"""Write a page, with a progress bar for each slow step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probe.errors import UsageError
from probe.report.page import Page, read_views, write_page
from probe.report.pairing import compared
from probe.report.pictures import Options, Pictures, Views, make_pictures
from probe.screen import console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from probe.report.material import Material


def write_report(
    material: Material, out: Path, options: Options, *, cache_dir: Path, command: str
) -> tuple[Page, Material, Views, Pictures]:
    """Write the page, and return it with all that it shows.

    Raises
    ------
    UsageError
        The file's name does not end with .html.
    """
    check_page_name(out)
    with _Bars() as bars:
        views = read_views(material, bars.advance)
        material = compared(material, views)
        pictures = make_pictures(
            material, views, options, cache_dir=cache_dir, advance=bars.advance
        )
    return write_page(out, material, views, pictures, command=command), material, views, pictures


def check_page_name(out: Path) -> None:
    """Raise UsageError where the name of a page does not end with .html."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: the page is HTML; give a name that ends with .html")


class _Bars:
    """Progress bars of the slow steps, on stderr if that is a terminal."""

    def __init__(self) -> None:
        self._progress = console.progress("{task.description}", "")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, what: str, count: int, total: int) -> None:
        """Note that `count` more of `total` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.advance(self._tasks[what], count)
