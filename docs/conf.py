"""Settings of the documentation site, and its pages that are made of code and notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer.main

import probe
from probe.cli.app import app
from probe.core.version import __version__

project, author, release = "probe", "the maintainers of probe", __version__
copyright = "the maintainers of probe; Apache-2.0"  # noqa: A001 - as Sphinx calls it
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "probe"
html_show_sphinx = html_copy_source = False
html_static_path, html_css_files, html_js_files = ["_static"], ["site.css"], ["reach.js"]
exclude_patterns = ["_build"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "markdown"}
nitpicky = False
suppress_warnings = ["myst.header"]  # a page may begin below its first heading
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False

HERE = Path(__file__).parent
# scikit-learn makes these, and their text speaks of its own pages
_WITHOUT = "\n   :exclude-members: set_fit_request, set_score_request, set_transform_request"


def setup(app: Any) -> None:
    """Write the references, which git ignores."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    for name, lines in (("commands", command_lines()), ("python", python_lines())):
        (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    app.connect("source-read", read_notebook)


def read_notebook(_: Any, name: str, source: list[str]) -> None:
    """Replace a notebook by its text, its code and what that gave, as Markdown."""
    if name.startswith("notebooks/"):
        source[0] = "\n".join(notebook_lines(json.loads(source[0])["cells"]))


def notebook_lines(cells: list[Any]) -> Iterator[str]:
    """Yield the lines of a page with the cells of a notebook."""
    for cell in cells:
        text = "".join(cell["source"])
        yield f"{text}\n" if cell["cell_type"] == "markdown" else f"```python\n{text}\n```\n"
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                address = "data:image/png;base64," + "".join(data["image/png"]).replace("\n", "")
                shown = f'<img alt="What these lines draw" src="{address}">'
                yield f"```{{raw}} html\n{shown}\n```\n"
            elif "text/html" in data:
                shown = "".join(data["text/html"]).replace("<table>", '<table class="docutils">')
                yield f"```{{raw}} html\n{shown}\n```\n"
            else:
                shown = "".join(output.get("text", data.get("text/plain", "")))
                yield f"```text\n{shown}\n```\n"


def python_lines() -> Iterator[str]:
    """Yield the lines of a page with every public function and class."""
    yield "# Functions and classes\n"
    yield "[From Python](../api.md) has examples; this page is made of the docstrings.\n"
    values = {name: getattr(probe, name) for name in probe.__all__}
    kinds = {
        "Functions": [name for name, one in values.items()
                      if callable(one) and not isinstance(one, type)],
        "Classes": [name for name, one in values.items() if isinstance(one, type)],
    }  # fmt: skip
    for kind, names in kinds.items():
        yield f"## {kind}\n"
        for name in names:
            directive = "autofunction" if kind == "Functions" else "autoclass"
            members = "" if kind == "Functions" else f"\n   :members:{_WITHOUT}"
            yield f"### `{name}`\n"
            yield f"```{{eval-rst}}\n.. {directive}:: probe.{name}{members}\n```\n"


def command_lines() -> Iterator[str]:
    """Yield the lines of a page with every command, its arguments and its options."""
    yield "# Commands\n"
    yield "As `probe COMMAND --help` says it, with defaults in brackets.\n"
    yield from _told(typer.main.get_command(app), "probe", None, 2)


def _told(command: Any, name: str, parent: Any, depth: int) -> Iterator[str]:
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    if parent is not None:
        yield f"{'#' * depth} {name}\n\n{_prose(command.help)}\n"
    if hasattr(command, "list_commands"):
        for each in command.list_commands(context):
            made = command.get_command(context, each)
            yield from _told(made, f"{name} {each}", context, depth + (parent is not None))
        return
    told = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in told if one.param_type_name == "argument"]
    places = [_place(one) for one in arguments]
    usage = " ".join([name, *places, "[OPTIONS]"])
    yield f"```text\n{usage}\n```\n"
    rows = [(place, getattr(one, "help", ""), None)
            for place, one in zip(places, arguments, strict=True)]  # fmt: skip
    for one in told:
        if one.param_type_name == "option" and one.name != "help":
            names = ", ".join([*one.opts, *one.secondary_opts])
            rows.append((names, one.help, _default(one, context)))
    if rows:
        yield "| argument or option | what it is |\n|---|---|"
    for names, text, default in rows:
        yield f"| `{names}` | {_cell(text)}{f' [{_cell(default)}]' if default else ''} |"
    yield ""


def _place(argument: Any) -> str:
    """Return what stands for an argument in a usage line."""
    named = (argument.metavar or argument.name.upper()).removesuffix("...")
    several = "..." if argument.nargs == -1 else ""
    return f"{named}{several}" if argument.required else f"[{named}]{several}"


def _default(option: Any, context: Any) -> str | None:
    if isinstance(option.show_default, str):
        return option.show_default
    value = option.get_default(context)
    return None if value in (None, False, (), []) or callable(value) else str(value)


def _prose(text: str | None) -> str:
    """Return help as paragraphs of Markdown."""
    return "\n\n".join(_cell(part) for part in (text or "").split("\n\n"))


def _cell(text: str | None) -> str:
    words = " ".join((text or "").split())
    for sign in "\\|<*_$":
        words = words.replace(sign, f"\\{sign}")
    return words
