"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from probe.cli import complete
from probe.core.machine import state_folder

CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of features, runs, benches and downloads.",
        show_default="PROBE_CACHE; ./cache if there is one; else the user's, as ~/.cache/probe",
        file_okay=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")
]
DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset", "-d", autocompletion=complete.datasets,
        help="A name (`probe dataset list`), or a path or URL: a folder of class folders, a list "
        "of images and labels, an archive, or any other form of `probe help datasets`.",
    ),
]  # fmt: skip
DatasetRoot = Annotated[
    Path | None,
    typer.Option(
        help="Where a named dataset's files lie; the folder or URL that a list's paths are "
        "relative to.",
        show_default="CACHE/datasets/NAME; the list's own",
    ),
]
Group = Annotated[
    list[str] | None,
    typer.Option(
        "--group", "--groups",
        help="What belongs together and stays on one side: a column of the table (a patient), a "
        "CSV of `id,group`, or `duplicates`, images whose features are almost the same; repeat it "
        "for several. Copies of one picture always do.",
    ),
]  # fmt: skip
Entry = Annotated[
    str | None,
    typer.Argument(
        help="A cache entry or the start of its name.", show_default=complete.DEFAULT_ENTRY,
        autocompletion=complete.entries,
    ),
]  # fmt: skip
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="What the process may take, as 1GB or 2GiB: features that do not fit stay "
        "in their file and are read as needed.",
        show_default="as much as the features take",
    ),
]
MetricName = Literal["top1", "balanced_accuracy", "macro_f1", "auc", "log_loss"]
TWO = "Two classes"  # the section of the help
Positive = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TWO, help="The class whose precision, recall and areas are told.",
        show_default="the second class",
    ),
]  # fmt: skip
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv", dir_okay=False,
        help="Write a row an image: label, answer, and what the table of the images says of it.",
    ),
]  # fmt: skip
LogTo = Annotated[
    str | None,
    typer.Option(
        "--log", metavar="NAME,...", autocompletion=complete.listeners,
        help="Tell others of it: tensorboard (event files in the run's folder), mlflow (where "
        "MLFLOW_TRACKING_URI says), or both.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]


def cache_folder(given: Path | None) -> Path:
    """Return the state folder; see `state_folder`."""
    folder = state_folder(given)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        folder.stat()  # a name that is too long is no missing folder, as Python 3.13 has it
    return folder
