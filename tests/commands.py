"""Run a command in this process as functions do; `tests/cli/command.py` runs it as `main` does."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from probe.cli.app import app


def invoke(*arguments: object, code: int = 0) -> Result:
    """Run a command; what it raises is raised, and any other exit code than this fails."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, (done.exception, done.stderr)
    return done


def probe(*arguments: object, code: int = 0) -> str:
    """Run a command and return what it printed."""
    return invoke(*arguments, code=code).stdout


def probe_json(*arguments: object, code: int = 0) -> Any:
    """Run a command with `--json` and return its object."""
    return json.loads(probe(*arguments, "--json", code=code))
