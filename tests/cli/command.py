"""Run a command as `main` does, but in this process: a new one would import everything again."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from probe.cli.app import main


def probe(
    command: str, *arguments: object, cwd: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `probe` in a folder, without colours, with a cache folder called ``my cache``.

    The command is split at spaces, the arguments after it are not.
    """
    words = [*command.split(), *map(str, arguments)]
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)
        for errors in ("strict", "backslashreplace")  # as Python opens them
    )
    root = logging.getLogger()
    level, probes = root.level, logging.getLogger("probe").level
    status = 0
    with (
        mock.patch.dict(os.environ, PROBE_CACHE="my cache", NO_COLOR="1"),
        mock.patch.object(sys, "argv", ["probe", *words]),
        mock.patch.object(root, "handlers", []),  # or `basicConfig` sees pytest's and adds none
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            root.setLevel(level)
            logging.getLogger("probe").setLevel(probes)
    out_text, err_text = (one.buffer.getvalue().decode() for one in (out, err))  # type: ignore[attr-defined]
    assert status == code, err_text
    return subprocess.CompletedProcess(words, status, out_text, err_text)
