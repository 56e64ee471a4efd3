"""What holds for the package as a whole."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import probe
from probe import errors
from probe.core.registry import Registry
from tests.needs import needs_mxnet

ROOT = Path(__file__).parents[1]


def test_public_names_are_sorted_complete_and_load() -> None:
    assert probe.__all__ == sorted(probe.__all__, key=lambda name: (not name.isupper(), name))
    assert set(probe.__all__) == set(probe._HOME)
    for name in probe.__all__:
        assert getattr(probe, name) is not None
    assert set(probe.__all__) == set(dir(probe))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        probe.nothing  # noqa: B018


def test_only_one_file_imports_mxnet() -> None:
    found = []
    for path in sorted((ROOT / "probe").rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "mxnet" in text else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == "mxnet" for name in names):
                found.append(path.relative_to(ROOT).as_posix())
    assert found == ["probe/engines/mxnet/mx.py"]


@pytest.mark.parametrize(
    ("python", "machine", "has_wheels"),
    [
        ("3.11", "x86_64", True),  # Linux, and Macs with Intel
        ("3.12", "aarch64", True),
        ("3.12", "arm64", False),  # Macs
        ("3.12", "AMD64", False),  # Windows
        ("3.13", "x86_64", False),
        ("3.14", "aarch64", False),
    ],
)
def test_mxnet_and_its_numpy_are_asked_for_where_it_has_wheels(
    python: str, machine: str, has_wheels: bool
) -> None:
    there = {"python_version": python, "platform_machine": machine}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(line) for line in project["dependencies"]]
    asked = [one for one in asked if one.marker is None or one.marker.evaluate(there)]
    assert ("mxnet" in [one.name for one in asked]) == has_wheels
    numpy = [one.specifier for one in asked if one.name == "numpy"]
    assert all(one.contains("1.26.4") for one in numpy)
    assert all(one.contains("2.1.0") for one in numpy) != has_wheels
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = [one for one in pins if one.marker is None or one.marker.evaluate(there)]
    assert len({one.name for one in pins}) == len(pins)


@needs_mxnet
def test_importing_mxnet_leaves_numpy_as_it_was() -> None:
    import numpy as np

    import probe.engines.mxnet.mx  # noqa: F401

    assert "bool" not in vars(np)


@needs_mxnet
def test_importing_mxnet_loads_neither_setuptools_nor_scipy() -> None:
    code = (
        "import sys, probe.engines.mxnet.mx\n"
        "print({'setuptools', 'distutils', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def every_error() -> list[Exception]:
    arguments = {
        errors.ImageError: ("a.jpg", "truncated"),
        errors.CacheMismatchError: (Path("a.h5"), "layer", "x", "y"),
        errors.CorruptEntryError: (Path("a.h5"), "row 3"),
    }
    return [
        getattr(errors, name)(*arguments.get(getattr(errors, name), ("what happened",)))
        for name in errors.__all__
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_are_one_line(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert isinstance(error, errors.ProbeError)
    assert "\n" not in str(error)
    assert type(error).__name__ in (errors.__doc__ or "")


def test_a_name_is_registered_once() -> None:
    class Spec:
        name = "twice"

    with pytest.raises(ValueError, match="two entries"):
        Registry("thing", [Spec(), Spec()])
