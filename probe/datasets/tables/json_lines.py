"""Read a list of images in JSON lines: an object a line, as Hugging Face's ``metadata.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.datasets.images.image_files import is_utf8
from probe.datasets.tables.cells import BAR, MOST_COLUMNS, Cells, Lines, check_size
from probe.datasets.tables.text_lists import NO_UTF8, read_text
from probe.errors import DataError

_SHORT = 100  # digits; Python refuses very long whole numbers


def read_json_lines(path: Path) -> Cells:
    """Read a list whose lines are JSON objects; their keys are the columns.

    A key that a line lacks is an empty cell there, as is ``null``. A list of texts or numbers is
    one cell with bars between them, as in the column ``labels``; an object stays JSON.

    Raises
    ------
    DataError
        A line is not an object of JSON in UTF-8; the message has its number.
    """
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    names: set[str] = set()
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        one = parse_object(f"{path}: line {line}", text)
        names.update(one)
        if len(names) > MOST_COLUMNS:
            check_size(str(path), len(names), 0)
        objects.append(one)
        lines.append(line)
    if not objects:
        raise DataError(f"{path}: is empty; expected an object a line, with file_name and label")
    return object_cells(objects, Lines(place=str(path), numbers=lines))


def object_cells(objects: Sequence[Mapping[str, Any]], lines: Lines) -> Cells:
    """Return JSON objects, one a row, as cells; see `read_json_lines`.

    Parameters
    ----------
    lines : Lines
        Where each stands.
    """
    names: dict[str, int] = {}
    for one in objects:
        for name in one:
            names.setdefault(name, len(names))
    check_size(lines.place, len(names), len(objects))
    rows = []
    for number, one in enumerate(objects):
        row = [""] * len(names)
        for name, value in one.items():
            row[names[name]] = _cell(lines.at(number), name, value)
        rows.append(row)
    return Cells(
        names=[name.strip() for name in names], rows=rows, lines=lines, header=f"{lines.place}:"
    )


def parse_object(where: str, text: str) -> dict[str, Any]:
    """Return the JSON object that a text is; `where` begins the message of an error."""
    if not is_utf8(text):
        raise DataError(f"{where} {NO_UTF8}")
    try:
        found = json.loads(text, parse_int=_whole)
    except RecursionError as error:
        raise DataError(f"{where} is nested too deep to be a row of a list") from error
    except ValueError as error:
        raise DataError(f"{where} is no JSON ({error}); expected an object a line") from error
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise DataError(f'{where} is {kind}; expected an object, as {{"file_name": ...}}')
    return found


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _SHORT else digits


def _cell(where: str, name: str, value: Any) -> str:
    """Return a value of JSON as the text of a cell."""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        parts = [_scalar(one) for one in value]
        if any(BAR in part for part in parts):
            raise DataError(f"{where}: {name!r} has a text with {BAR} in it; rename it")
        text = BAR.join(parts)
    elif isinstance(value, list | dict):
        try:
            text = json.dumps(value, ensure_ascii=False)
        except RecursionError as error:
            raise DataError(f"{where} is nested too deep to be a row of a list") from error
    else:
        text = _scalar(value)
    if not is_utf8(text):  # half of a surrogate pair, escaped
        raise DataError(f"{where}: {name!r} {NO_UTF8}")
    return text


def _scalar(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)
