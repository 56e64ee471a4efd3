"""The pieces as pictures, the letters that fonts lack, and the command itself."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.core.nearest import leave_out_itself, nearest
from probe.figures import glyphs
from probe.figures.confusion import draw_confusion
from probe.report.feature_map import WIDEST, principal_components
from probe.report.items import equal_shares
from probe.report.material import of_runs, read_runs
from probe.report.papers import draw_leaderboard
from tests.cli.command import probe
from tests.report.test_pictures import margins_are_white
from tests.report.world import make_world

UNSEEN = "\N{EGYPTIAN HIEROGLYPH A001}"  # in hardly any font


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def test_the_command_writes_page_pictures_and_table(world: Path, tmp_path: Path) -> None:
    out, png, csv = tmp_path / "page.html", tmp_path / "png", tmp_path / "all.csv"
    done = probe(
        "report --json --cache-dir", world, "--out", out, "--png", png, "--csv", csv, cwd=tmp_path
    )
    said = json.loads(done.stdout)
    assert done.stderr == "" or "no installed font has" in done.stderr
    assert done.stderr.count("\n") <= 1
    assert said["bytes"] == out.stat().st_size
    assert said["points"] == 120
    assert said["thumbnails"] == 120
    names = {Path(one).name.split("-2026")[0] for one in said["pictures"]}
    assert {"leaderboard.png", "learning-curves.png", "confusion-test.png"} <= names
    assert {"calibration-val.png", "training"} <= names
    for one in said["pictures"]:
        assert margins_are_white(Path(one)), one
    lines = csv.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("bench,dataset,name,")
    assert sum(",val,top1," in line for line in lines) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "page.txt"), "ends with .html"),
        (("nothing",), "nothing: no such folder, and no such run"),
        (("--bench", "newest"), "no bench yet"),
        (("20260101-000000-001", "--bench", "newest"), "leave out one"),
        (("--split", "tset"), "no split is called 'tset'"),
    ],
)
def test_bad_requests_leave_nothing(
    arguments: tuple[str, ...], message: str, world: Path, tmp_path: Path
) -> None:
    out = () if "--out" in arguments else ("--out", str(tmp_path / "page.html"))
    done = probe("report --cache-dir", world, *out, *arguments, cwd=tmp_path, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_needs_no_mxnet() -> None:
    code = "import sys, probe.report.page, probe.report.papers; print('mxnet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_letters_that_no_font_has_become_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glyphs, "undrawable", lambda letters: letters)  # as where no font is
    with caplog.at_level(logging.WARNING):
        assert glyphs.readable(["cat", "日本", "été"]) == ["cat", "class 1", "été"]
    assert "the pictures show class 1 for 日本; a font" in caplog.text
    path = tmp_path / "confusion.png"
    draw_confusion(np.eye(2, dtype=np.int64), ["日本", "cat"], path, title="日本")
    assert margins_are_white(path)


def test_an_installed_font_is_found_for_letters(tmp_path: Path) -> None:
    assert glyphs.lacking("cat") == frozenset()
    assert glyphs.family_for(frozenset()) == (glyphs.OWN,)
    drawable = glyphs.lacking("日本") - glyphs.undrawable(glyphs.lacking("日本"))
    if not drawable:
        pytest.skip("no font with CJK letters is installed")
    assert len(glyphs.family_for(glyphs.lacking("日本"))) > 1


def test_neighbours_are_those_of_all_pairs() -> None:
    rows = np.random.default_rng(0).standard_normal((700, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines, numbers = nearest(rows, rows, 3, step=512, leave_out=leave_out_itself)
    all_pairs = rows @ rows.T
    np.fill_diagonal(all_pairs, -2)
    assert np.array_equal(numbers, np.argsort(-all_pairs, axis=1)[:, :3])
    assert np.allclose(cosines, np.sort(all_pairs, axis=1)[:, :-4:-1], atol=1e-6)


def test_components_of_equal_rows_are_zero() -> None:
    plane, shares = principal_components(np.ones((5, 2), np.float32), 3)
    assert plane.shape == (5, 3)
    assert np.allclose(plane, 0, atol=1e-6)
    assert shares == (0.0, 0.0, 0.0)


def test_hashing_wide_rows_keeps_angles() -> None:
    from probe.report.feature_map import _hashing

    random = np.random.default_rng(0)
    rows = random.standard_normal((6, 4 * WIDEST)).astype(np.float32)
    rows[1:] += rows[0]
    folded = rows @ _hashing(rows.shape[1])
    for wide, narrow in zip(rows[1:], folded[1:], strict=True):
        cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                  for a, b in ((rows[0], wide), (folded[0], narrow))]  # fmt: skip
        assert cosine[0] == pytest.approx(cosine[1], abs=0.05)


def test_what_a_part_cannot_fill_goes_to_the_others() -> None:
    assert equal_shares({"train": 100, "val": 3, "test": 100}, 50) == {
        "val": 3, "train": 23, "test": 24,
    }  # fmt: skip
    assert equal_shares({}, 50) == {}


def test_a_wide_picture_is_shown_whole() -> None:
    from probe.report.thumbnails import thumbnail

    pixels = np.zeros((10, 40, 3), np.uint8)
    made: Image.Image = thumbnail(pixels, 32)
    assert made.size == (32, 32)
    assert made.getpixel((16, 16)) == (0, 0, 0)
    assert made.getpixel((16, 2)) == (128, 128, 128)


def test_the_letters_of_many_ties_are_in_the_picture(world: Path, tmp_path: Path) -> None:
    material = of_runs(world, read_runs(world / "runs"), "")
    rows = [replace(row, letters="abcdefghijkl") for row in material.rows]
    draw_leaderboard(material, rows, tmp_path / "leaderboard.png")
    assert margins_are_white(tmp_path / "leaderboard.png")
