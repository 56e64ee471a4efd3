"""Colours: pairs that everybody tells apart, and text that stands out, measured."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.report.papers import COLOURS
from probe.report.sections import asset

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", IEEE TVCG 15, 2009: severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip


def linear(colour: str) -> NDArray[np.float64]:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = np.cbrt(np.clip(XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1, 1.08883), 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    high, low = sorted((float(XYZ[1] @ linear(c)) for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palette(theme: str) -> list[str]:
    line = re.search(rf"{theme}: \[(.*?)\]", asset("plots.js"))
    assert line
    return re.findall(r"#[0-9a-f]{6}", line[1])


def variables(theme: str) -> dict[str, str]:
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", asset("page.css"))
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[("light", "dark").index(theme)]))
    assert len(found) == 10
    return found


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_pair_of_colours_is_told_apart(theme: str, vision: str) -> None:
    seen = {one: lab(np.array(VISION[vision]) @ linear(one)) for one in palette(theme)}
    assert len(seen) == 8
    closest = min(float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(seen, 2))
    assert closest > 25  # Okabe and Ito's own eight come to 16


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_text_stand_out(theme: str) -> None:
    colours = variables(theme)
    for mark in [*palette(theme), colours["line"], colours["accent"]]:
        assert contrast(mark, colours["paper"]) >= 3  # WCAG 1.4.11
    for ground in ("paper", "raised"):
        for text in ("ink", "faint", "accent", "bad"):
            assert contrast(colours[text], colours[ground]) >= 4.5  # WCAG 1.4.3
    assert contrast(colours["accent"], colours["accent-soft"]) >= 4.5
    assert contrast(colours["ink"], colours["accent-soft"]) >= 4.5
    assert contrast(colours["faint"], colours["accent-soft"]) >= 4.5


def test_paper_has_the_colours_of_the_light_page() -> None:
    assert list(COLOURS) == palette("light")
