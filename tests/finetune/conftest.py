"""One small entry and a run on it, made once: digits at 32 pixels, a ResNet's first stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from probe.engines import engine_is_installed
from tests.needs import NO_MXNET


class SkippedModule(pytest.Module):
    """A file of tests whose imports need MXNet, where that is not installed."""

    def collect(self) -> NoReturn:
        pytest.skip(NO_MXNET, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> SkippedModule | None:
    """Fine-tuning is made of MXNet: its tests skip where there is none."""
    if engine_is_installed("mxnet"):
        return None
    return SkippedModule.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with a run; tests copy it before they write there."""
    from tests.finetune.data import make_cache

    folder = tmp_path_factory.mktemp("promote") / "cache"
    make_cache(folder)
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test."""
    return Path(shutil.copytree(made, tmp_path / "cache"))
