"""Controls change one thing, and one rule says which epoch is the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import UsageError
from probe.finetune.advice import other_recipes, tried
from probe.finetune.checkpoint import Progress
from probe.finetune.compare import Course, control_options
from probe.finetune.options import Options
from probe.finetune.planning import memory_words
from probe.finetune.rates import Schedule
from probe.heads.history import Epoch
from tests.finetune.data import Silent, training_of


def epoch(number: int, top1: float, loss: float) -> Epoch:
    return Epoch(epoch=number, train_loss=1.0, train_top1=0.5, val_loss=loss, val_top1=top1)


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([(0.8, 0.9), (0.8, 0.4), (0.7, 0.1)], 2),  # of equals the lowest loss
        ([(0.8, 0.4), (0.8, 0.4)], 1),  # of equals in both the first
        ([(0.7, 0.1), (0.8, 0.9)], 2),
    ],
)
def test_table_picture_and_kept_weights_have_one_best(
    figures: list[tuple[float, float]], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    from probe.figures.curves import draw_curves

    history = tuple(epoch(place + 1, *one) for place, one in enumerate(figures))
    progress = Progress()
    for one in history:
        progress = progress.with_epoch(one, 0)
    course = Course(
        name="run", metric="top1", loss=1.0, score=0.5, history=history,
        batches=np.zeros((0, 2), np.float32), per_epoch=1,
    )  # fmt: skip
    said: list[str] = []
    plain = Axes.set_title

    def heard(self: Axes, label: str, *arguments: Any, **options: Any) -> Any:
        said.append(label)
        return plain(self, label, *arguments, **options)

    monkeypatch.setattr(Axes, "set_title", heard)
    draw_curves(history, tmp_path / "curves.png", title="a run")
    assert progress.best_epoch == course.best.epoch == best
    shown = f"best on validation: {100 * figures[best - 1][0]:.1f} % at epoch {best}"
    assert shown in said


@pytest.mark.parametrize(
    ("own", "control", "start"),
    [
        ("probe", "last-layer", "probe"), ("fresh", "last-layer", "fresh"),
        ("scratch", "last-layer", "fresh"), ("probe", "fresh", "fresh"),
        ("fresh", "scratch", "scratch"), ("scratch", "fresh", "fresh"),
        ("zeros", "last-layer", "zeros"), ("probe", "zeros", "zeros"),
    ],
)  # fmt: skip
def test_a_control_starts_from_the_head_that_the_run_starts_from(
    own: Any, control: str, start: str
) -> None:
    made = control_options(control, Options(start=own, bn="moving"))
    assert made.start == start
    assert made.freeze == ("backbone" if control == "last-layer" else "none")


@pytest.mark.parametrize(
    ("options", "control"),
    [
        ({"freeze": "backbone", "bn": "frozen"}, "last-layer"),
        ({"freeze": "backbone", "start": "fresh"}, "last-layer"),
        ({"start": "scratch", "bn": "moving"}, "scratch"),
        ({"start": "fresh", "bn": "frozen"}, "fresh"),
        ({"start": "zeros"}, "zeros"),
    ],
)
def test_a_control_that_is_the_run_itself_is_refused(options: Any, control: str) -> None:
    with pytest.raises(UsageError, match="the run itself does"):
        control_options(control, Options(**options))


def test_advice_after_a_training_names_other_recipes_than_the_one_tried() -> None:
    fell = [epoch(1, 0.725, 0.9), epoch(2, 0.8458, 0.5)]
    asked = Options(optimizer="sgd", lr=1e-3, epochs=2)
    found = other_recipes(asked, fell, 0.8559)
    assert found[0].startswith("--lr 0.0001 --warmup 1 (the first epoch lost 13.09 points")
    assert any(one.startswith("--optimizer adamw --lr 0.0001") for one in found)
    assert any(one.startswith("--epochs 4") for one in found)
    assert "one recipe: sgd, lr 0.001" in tried(asked)
    again = Options(optimizer="adamw", lr=1e-4, augment="flip", freeze="stage1", warmup=2.0)
    found = other_recipes(again, [epoch(1, 0.9, 0.5)], 0.8)
    assert [one.split(" (")[0] for one in found] == [
        "--lr 1e-05 --warmup 2", "--optimizer sgd --lr 0.001", "--augment light"
    ]  # fmt: skip


def test_advice_names_no_learning_rate_that_was_tried() -> None:
    history = [epoch(1, 0.9, 0.5)]
    found = other_recipes(Options(lr=1e-4), history, 0.8, (1e-5, 1e-4))
    assert not any(one.startswith("--lr 1e-05") for one in found)
    assert any(
        one.startswith("--lr 1e-05") for one in other_recipes(Options(lr=1e-4), history, 0.8)
    )


def test_a_need_of_much_memory_names_what_takes_less() -> None:
    words = memory_words(8_600_000_000, Options(accumulate=2), 32)
    assert words == (
        "about 8.6 GB at the peak; --max-memory 4.3GB takes the same steps within less"
    )
    limited = memory_words(2_900_000_000, Options(), 32, limit=4 * 10**9, part=8, whole=8 * 10**9)
    assert limited == (
        "about 2.9 GB at the peak, within --max-memory 4GB: batches of 32 are computed 8 images at "
        "a time (whole ones would take up to 8GB)"
    )
    assert "MORE than --max-memory 4GB" in memory_words(5 * 10**9, Options(), 32, limit=4 * 10**9)
    assert "another training" in memory_words(8_600_000_000, Options(bn="moving"), 32)
    assert memory_words(600_000_000, Options(), 32) == "about 0.6 GB at the peak"
    assert "--batch-size" not in memory_words(8_600_000_000, Options(), 1)


def test_the_step_size_shown_is_the_mean_of_those_that_were_taken(
    made: Path, tmp_path: Path
) -> None:
    watcher = Silent()
    training = training_of(made, tmp_path, epochs=2, warmup=1.0, accumulate=2, lr=1e-5)
    training.run(watcher)
    # 3 batches an epoch, two of them a step, the third one of its own: 2 steps an epoch
    factor = Schedule(name="cosine", warmup=2, total=4).factor
    taken = [1e-5 * factor(step) for step in (1, 1, 2, 3, 3, 4)]
    np.testing.assert_allclose(training.log[:, 2], taken, rtol=1e-6)
    means = [float(np.mean(taken[:3])), float(np.mean(taken[3:]))]
    assert [one.lr for one in watcher.epochs] == pytest.approx(means)
