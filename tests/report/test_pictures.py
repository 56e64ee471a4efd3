"""Pictures are files of a sensible size whatever the names; nothing runs off the paper."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.errors import UsageError
from probe.evaluation.metrics import confused_pairs
from probe.figures.confusion import draw_confusion, worst_confusions
from probe.figures.curves import draw_curves
from probe.heads import Epoch

NAMES = [
    "cat",
    "a class with quite a long name indeed",
    "$x$",
    "日本",
    "new\nline",
    "",
    "under_score",
]


def history(epochs: int, validation: bool = True) -> list[Epoch]:
    return [
        Epoch(
            epoch=number,
            train_loss=1 / number,
            train_top1=1 - 0.5 / number,
            val_loss=1.2 / number if validation else None,
            val_top1=0.9 - 0.5 / number if validation else None,
            seconds=0.1,
        )
        for number in range(1, epochs + 1)
    ]


def margins_are_white(path: Path) -> bool:
    """Whether the outermost pixels are paper: no text or line is cut off."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(image.size) < 4000
        pixels = np.asarray(image.convert("L"))
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_a_training_curve_fits_its_paper(epochs: int, validation: bool, tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    draw_curves(history(epochs, validation), path, title="dense head · " + "long " * 40)
    assert margins_are_white(path)


def test_a_perfect_head_has_a_curve_too(tmp_path: Path) -> None:
    same = Epoch(epoch=1, train_loss=0.0, train_top1=1.0, val_loss=0.0, val_top1=1.0)
    draw_curves([same], tmp_path / "curve.png", title="perfect")
    assert margins_are_white(tmp_path / "curve.png")


def test_no_epochs_no_curve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training curve"):
        draw_curves([], tmp_path / "curve.png", title="logistic")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_classes", [2, 3, 10, 21, 100, 150])
def test_a_confusion_matrix_fits_its_paper(n_classes: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    confusion = random.integers(0, 5, (n_classes, n_classes)) + 30 * np.eye(n_classes, dtype=int)
    confusion[1] = 0  # a class without rows
    names = [f"{NAMES[i % len(NAMES)]} {i}" for i in range(n_classes)]
    path = tmp_path / "confusion.png"
    draw_confusion(confusion, names, path, title="dense head · " + "long " * 40)
    assert margins_are_white(path)


def test_the_worst_confusions_come_first_by_rate() -> None:
    confusion = np.array([[90, 10, 0], [1, 1, 0], [0, 3, 7]])
    found = worst_confusions(confusion, ["cat", "dog", "eel"])
    assert found == [("50 %", "dog → cat"), ("30 %", "eel → dog"), ("10 %", "cat → dog")]


def test_names_and_matrix_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 classes"):
        draw_confusion(np.eye(2, dtype=int), ["a", "b", "c"], tmp_path / "c.png", title="t")


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    import matplotlib as mpl

    before: dict[str, Any] = dict(mpl.rcParams)
    draw_curves(history(3), tmp_path / "curve.png", title="t")
    draw_confusion(np.eye(3, dtype=int), ["a", "b", "c"], tmp_path / "c.png", title="t")
    assert dict(mpl.rcParams) == before


def test_thousands_of_classes_have_words_and_no_matrix(tmp_path: Path) -> None:
    n_classes, random = 8142, np.random.default_rng(0)
    labels = np.arange(n_classes)
    predicted = np.where(random.random(n_classes) < 0.5, labels, 7)
    pairs = confused_pairs(predicted, labels, n_classes)
    tracemalloc.start()
    draw_confusion(pairs, [f"class {k}" for k in labels], tmp_path / "c.png", title="many")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 300
    assert peak < 100e6  # the matrix alone would be 530 MB
