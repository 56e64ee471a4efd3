"""Defaults of options out of a file, `probe.toml`, for what is typed again and again.

    dataset = "photos/"          # for every command that has such an option
    [extract]
    backbone = "efficientnet_lite0"
    size = 64
    [bench]
    heads = ["path", "knn"]

What is typed comes first. Each command says what it took, and records keep it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.core import urls
from probe.core.arguments import nearest
from probe.core.regular import read_regular
from probe.errors import UsageError

NAME, VARIABLE = "probe.toml", "PROBE_CONFIG"
MOST_BYTES = 1 << 20
Values = Mapping[str, Any]


def config_file(named: Path | None) -> Path | None:
    """Return the file that is named, by an option or PROBE_CONFIG, or `probe.toml` if it is here.

    Raises
    ------
    UsageError
        One is named and is not there.
    """
    if named is None and os.environ.get(VARIABLE):
        named = Path(os.environ[VARIABLE])
    if named is None:
        return Path(NAME) if os.path.isfile(NAME) else None
    if not named.is_file():
        raise UsageError(f"--config {named}: there is no such file")
    return named


def read_config(path: Path, commands: Sequence[str]) -> Values:
    """Read a file; its sections are commands.

    Raises
    ------
    UsageError
        It is no TOML, or a section is no command.
    """
    try:
        read = tomllib.loads(read_regular(path, MOST_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from None
    for name, value in read.items():
        if isinstance(value, dict) and name not in commands:
            raise UsageError(f"{path}: [{name}] is no command; {nearest(name, commands)}")
    return read


def defaults_of(path: Path, values: Values, within: str, parameters: Sequence[Any]) -> Values:
    """Return the defaults of a command's options, by the names of its parameters.

    Parameters
    ----------
    within : str
        The command, as ``extract`` or ``cache prune``.

    Raises
    ------
    UsageError
        The command's section has something that is no option of it, or a value cannot be one.
    """
    options = {name: one for one in parameters if one.param_type_name == "option"
               for name in _names(one)}  # fmt: skip
    section: Any = values
    for word in within.split():
        section = section.get(word, {}) if isinstance(section, dict) else {}
    own = {name: one for name, one in section.items() if not isinstance(one, dict)}
    for name in own:
        if name not in options:
            raise UsageError(
                f"{path}: [{within}] {name} is no option of `probe {within}`; "
                f"{nearest(name, sorted(options))}"
            )
    shared = {name: one for name, one in values.items()
              if not isinstance(one, dict) and name in options}  # fmt: skip
    return {options[name].name: _value(path, name, one, options[name])
            for name, one in {**shared, **own}.items()}  # fmt: skip


def _names(option: Any) -> Iterator[str]:
    return (one.lstrip("-") for one in option.opts if one.startswith("--"))


def _value(path: Path, name: str, value: Any, option: Any) -> Any:
    if isinstance(value, list) and not option.multiple:
        return ",".join(map(str, value))
    if option.multiple:
        return value if isinstance(value, list) else [value]
    if isinstance(value, str | int | float):
        return value
    raise UsageError(f"{path}: {name}: give a text, a number, true or false, or a list")


def tell_taken(path: Path, ctx: Any, parameters: Sequence[Any]) -> None:
    """Say on stderr which options came out of the file, and have records keep them."""
    taken: list[str] = []
    for one in parameters:
        source = ctx.get_parameter_source(one.name)
        if source is None or source.name != "DEFAULT_MAP":
            continue
        option = max(one.opts, key=len)
        values = ctx.params[one.name]
        for value in values if isinstance(values, list | tuple) else [values]:
            if value is True:
                taken.append(option)
            elif value not in (False, None):
                taken += [option, str(value)]
    if taken:
        urls.configured[:] = taken
        sys.stderr.write(f"config    {path}: {urls.typed_words(taken)}\n")
