"""One small entry and a run on it, made once: digits at 32 pixels, a ResNet's first stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.finetune.data import make_cache


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with a run; tests copy it before they write there."""
    folder = tmp_path_factory.mktemp("promote") / "cache"
    make_cache(folder)
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test."""
    return Path(shutil.copytree(made, tmp_path / "cache"))
