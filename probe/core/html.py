"""Build the HTML that results show in a notebook; text is escaped and nothing is loaded."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

SHOWN_CHARACTERS = 1000


class Html:
    """An HTML fragment to which lines, tables and pictures are appended."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def title(self, text: str) -> Html:
        """Add a line in bold."""
        self._parts.append(f"<div><b>{_cell(text)}</b></div>")
        return self

    def note(self, text: str) -> Html:
        """Add a line."""
        self._parts.append(f"<div>{_cell(text)}</div>")
        return self

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
        """Add a table; nothing without rows."""
        if rows:
            head = "".join(f"<th>{_cell(name)}</th>" for name in columns)
            body = "".join(
                f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows
            )
            self._parts.append(
                f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            )
        return self

    def picture(self, path: Path, most: int) -> Html:
        """Add a PNG file that is there and has at most so many bytes."""
        if path.is_file() and path.stat().st_size <= most:
            data = base64.b64encode(path.read_bytes()).decode()
            self._parts.append(
                f'<img src="data:image/png;base64,{data}" alt="{escape(path.stem)}" '
                'style="max-width:100%;height:auto">'
            )
        return self

    def text(self) -> str:
        """Return the HTML."""
        return "".join(self._parts)


def _cell(text: str) -> str:
    short = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
    return escape(short)
