"""Import MXNet; every other file takes it from here: `from probe.engines.mxnet.mx import mx`.

MXNet 1.9.1 is archived. It asks NumPy for `np.bool`, which NumPy dropped, and reads its thread
count from the environment while it loads. Both are dealt with here, before anything else can
import it; a test keeps every other file from doing so.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from probe.core.machine import computing_threads
from probe.engines.base import MXNET_NEEDS
from probe.errors import EngineError


def settle_threads() -> None:
    """Say how many threads MXNet is to use, and that it need not talk about details.

    Raises
    ------
    EngineError
        OMP_NUM_THREADS is no number: MXNet would abort the process.
    """
    os.environ["OMP_NUM_THREADS"] = str(computing_threads())
    for name in ("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "MXNET_SUBGRAPH_VERBOSE"):
        os.environ.setdefault(name, "0")


@contextmanager
def _numpy_bool_alias() -> Iterator[None]:
    if "bool" in vars(np):  # hasattr() would emit a FutureWarning
        yield
        return
    np.bool = bool  # type: ignore[attr-defined]
    try:
        yield
    finally:
        vars(np).pop("bool", None)


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Keep MXNet from importing optional packages that take long to load and are not used.

    scikit-learn and SciPy are about 40 % of its import time; the parts of MXNet that want them
    (sparse arrays from SciPy, entropy calibration) are not used here.
    """
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # `import` then raises ImportError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


class _Version(tuple[int, ...]):
    """A version as a tuple of its numbers."""

    def __new__(cls, text: str) -> _Version:
        return super().__new__(cls, map(int, re.findall(r"\d+", text)))


@contextmanager
def _without_distutils() -> Iterator[None]:
    """Give MXNet a stand-in for distutils, of which it uses one class, to compare versions.

    Python 3.12 has no distutils, and setuptools puts its own in the place of the one that 3.11
    has: 150 modules for three comparisons, a tenth of the time that MXNet's import takes.
    """
    if "distutils" in sys.modules:
        yield
        return
    package, version = ModuleType("distutils"), ModuleType("distutils.version")
    vars(version).update(LooseVersion=_Version, StrictVersion=_Version)
    vars(package).update(version=version, __path__=[])
    sys.modules |= {"distutils": package, "distutils.version": version}
    try:
        yield
    finally:
        for name in ("distutils.version", "distutils"):
            del sys.modules[name]


def _import() -> Any:
    settle_threads()
    if int(np.__version__.split(".")[0]) >= 2:
        raise EngineError(
            f"NumPy is {np.__version__}; {MXNET_NEEDS}: run `pip install 'numpy<2'`, or uninstall "
            "mxnet, which only fine-tuning needs"
        )
    try:
        with (
            _numpy_bool_alias(),
            _hidden("sklearn", "scipy", "onnx"),
            _without_distutils(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            import mxnet
    except (ImportError, OSError, AttributeError) as error:
        raise EngineError(
            f"MXNet does not import on Python {sys.version.split()[0]}: {error}; {MXNET_NEEDS}, "
            "setuptools from Python 3.12 on, and the system libraries libgomp1 and libquadmath0"
        ) from error
    return mxnet


mx: Any = _import()


def threads() -> int:
    """Return how many threads MXNet's operators use."""
    return int(os.environ["OMP_NUM_THREADS"])
