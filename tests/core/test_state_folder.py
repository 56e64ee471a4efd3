"""Where state lies, if nobody says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probe.core.machine import state_folder


@pytest.fixture(autouse=True)
def nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROBE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "the user's"))
    monkeypatch.chdir(tmp_path)


def test_state_lies_where_it_did_as_long_as_there_is_such_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    assert state_folder() == Path("cache")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_elsewhere_it_is_the_users_and_the_same_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file of somebody else's")
    first = state_folder()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert state_folder() == first == tmp_path / "the user's" / "probe"
    told = subprocess.run(
        [sys.executable, "-m", "probe", "doctor", "--json"], check=True, capture_output=True
    )
    assert json.loads(told.stdout)["cache"].startswith(str(first))
    assert not os.listdir(tmp_path / "other")


def test_what_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("PROBE_CACHE", "by name")
    assert state_folder() == Path("by name")
    assert state_folder("given") == Path("given")
