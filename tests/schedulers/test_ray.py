"""A pass on a real Ray, whose head comes after the command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clusters import Ray
from tests.schedulers.test_passes import alone, asked, contents, pictures
from tests.thorough import THOROUGH

__all__ = ["alone", "pictures"]  # fixtures

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
    pytest.mark.skipif(not THOROUGH, reason="takes a minute and more: make test-thorough"),
]

IMPATIENT = {
    "RAY_AUTH_MODE": "disabled", "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "1",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "1",
}  # fmt: skip


def test_a_command_waits_for_a_head_that_starts_and_makes_the_same_entry(
    pictures: Path, tmp_path: Path, alone: list[Any]
) -> None:
    cluster = Ray(tmp_path / "ray", workers=1, started=False)
    command = asked(pictures, tmp_path / "cache", "--scheduler", cluster.name)
    running = subprocess.Popen(
        [sys.executable, "-m", "probe", "-v", *map(str, command)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **IMPATIENT},
    )  # fmt: skip
    try:
        cluster.start()
        _, said = running.communicate(timeout=300)
    finally:
        running.kill()
        cluster.close()
    assert running.returncode == 0, said
    assert contents(tmp_path / "cache") == alone
