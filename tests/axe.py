"""What axe-core says of a page that a browser shows: WCAG's rules, and its own good practices."""

from __future__ import annotations

from typing import Any

import pytest

PHONE, LAPTOP = 360, 1280  # pixels wide
SCREENS = [(width, scheme) for width in (PHONE, LAPTOP) for scheme in ("light", "dark")]


def violations(page: Any) -> list[str]:
    """Return a line for each element that breaks a rule."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
