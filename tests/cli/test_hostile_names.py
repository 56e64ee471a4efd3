"""Names of classes and files that a terminal or a spreadsheet would act on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from probe.core.sheets import is_formula
from probe.core.text import visible
from tests.cli.command import probe
from tests.finished import save_digits

CLASSES = ("\x1b[31mred\x1b[0m", "=HYPERLINK(1)", "@x\u202e\x9b2J", "[bold]x\r")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of such names, features, a run and a bundle of them."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, path in enumerate(map(Path, save_digits(folder / "digits", 40))):
        target = folder / "images" / CLASSES[number % 4] / f"=1+2\x1b]0;{number}\x07.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    probe("extract --backbone efficientnet_lite0 --size 32 --dataset images", cwd=folder)
    probe("head --head ridge", cwd=folder)
    probe("bundle --out a.probe", cwd=folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "dataset show images", "head --head knn", "audit --folds 2", "bundle --out b.probe",
        "runs show", "runs list", "cache list", "cache verify", "evaluate a.probe -d images",
        "predict a.probe images", "explain a.probe {image} --out x.png",
        "dataset show images/{name}/{name}", "dataset show {name}.csv",
        "predict a.probe images --json", "runs show --json",
    ],
)  # fmt: skip
def test_a_terminal_is_told_nothing(there: Path, command: str) -> None:
    image = next((there / "images" / CLASSES[0]).iterdir()).relative_to(there)
    words = [one.format(image=image, name=CLASSES[0]) for one in command.split(" ")]
    wrong = "{name}" in command
    done = probe("", *words, cwd=there, code=2 if wrong else 0)
    for text in (done.stdout, done.stderr):
        assert [one for one in text.split("\n") if visible(one) != one] == []
    assert any(r"\x1b[31mred" in text for text in (done.stdout, done.stderr)) or (
        "list" in command or "verify" in command or "--json" in command
    )


def test_a_spreadsheet_is_told_nothing(there: Path) -> None:
    probe("runs show --csv", "run.csv", cwd=there)
    probe("evaluate a.probe -d images --csv", "evaluated.csv", cwd=there)
    (there / "p.csv").write_text(
        probe("predict a.probe images --format csv", cwd=there).stdout, newline=""
    )
    for name in ("run.csv", "evaluated.csv", "p.csv"):
        with (there / name).open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert "'=HYPERLINK(1)" in cells
        assert not any(map(is_formula, cells))
