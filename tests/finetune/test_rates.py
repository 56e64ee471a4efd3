"""Several learning rates: each is trained, validation images choose, test images see one."""

from __future__ import annotations

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import probe
from probe.errors import DivergedError, UsageError
from probe.evaluation.predictions import load_predictions
from probe.figures import canvas
from probe.finetune import compare
from probe.finetune.choice import train_rates
from probe.finetune.compare import Course, draw_courses
from probe.finetune.options import Options, parse_rates
from probe.finetune.promotion import begin
from probe.finetune.request import PromoteRequest
from probe.heads.history import Epoch, load_history
from probe.runs.results import read_run
from tests.finetune.data import Silent, source_of
from tests.finetune.test_longer import assert_same_training, killed, newest, tuned
from tests.finetune.test_promote import promote
from tests.finetune.test_several_labels import cache as several_labels  # noqa: F401

TOO_HIGH, GOOD = "0.1", "1e-05"
QUICK = ("--epochs", "2", "--augment", "none", "--seed", "3")


def test_a_run_killed_in_the_second_of_two_rates_is_the_better_one_alone(
    cache: Path, tmp_path: Path
) -> None:
    both = ("--lr", f"{TOO_HIGH},{GOOD}", *QUICK)
    killed(cache, 3, *both)  # two epochs of the first, and one
    folder = newest(cache)
    assert [one.name for one in (folder / "rates").iterdir() if load_history(one)[1:]] == ["0.1"]
    done = promote(cache, "--resume")
    said = " ".join(done.stdout.split())
    assert "lr 1e-05 of 0.1, 1e-05, chosen on validation images" in said
    assert "lr 0.1" not in done.stderr.partition("advice")[2].replace("lr 0.1 and", "")
    alone = tuned(cache, "--lr", GOOD, *QUICK, "--out", str(tmp_path / "alone"))
    assert_same_training(folder, alone)
    result = read_run(folder)
    assert (result.params["lr"], result.params["rates"]) == (1e-5, "0.1, 1e-05")
    spent = [sum(epoch.seconds for epoch in load_history(one)) for one in places(folder)]
    assert result.seconds >= sum(spent)
    assert not list((folder / "rates").rglob("*.safetensors"))
    assert (folder / "comparison.png").stat().st_size
    with (folder / "comparison.csv").open() as file:
        names = list(dict.fromkeys(row["run"] for row in csv.DictReader(file)))
    assert names == ["this run, lr 1e-05", "lr 0.1"]
    longer = probe.promote(folder.name, resume=True, epochs=3, cache_dir=cache, quiet=True)
    assert longer.result.params["lr"] == 1e-5  # it goes on with the one that was chosen
    assert "rates" not in longer.result.params


def test_a_rate_with_which_training_diverges_is_left_out(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(made)
    options = Options(lr=1e12, clip=0.0, augment="none", epochs=2, optimizer="sgd", warmup=0)
    begun = begin(source, options, tmp_path)
    asked = PromoteRequest.of(source.folder, options, lr="1e12,1e-5")
    chosen, others = train_rates(begun, asked, lambda *_: nullcontext(Silent()))
    assert chosen.training.options.lr == 1e-5
    assert chosen.training.done
    assert others == []
    assert "lr 1e+12 is left out: epoch 1" in caplog.text
    again = begin(source, options, tmp_path / "again")
    asked = PromoteRequest.of(source.folder, options, lr="1e12,2e12")
    with pytest.raises(DivergedError, match="a smaller --lr than 2e"):
        train_rates(again, asked, lambda *_: nullcontext(Silent()))


def places(folder: Path) -> list[Path]:
    return sorted((folder / "rates").iterdir())


def test_test_images_are_scored_for_the_chosen_rate_alone(several_labels: Path) -> None:  # noqa: F811
    found = probe.promote(
        None, lr=[1e-12, 1e-3], epochs=1, compare="last-layer", cache_dir=several_labels, quiet=True
    )
    assert found.result.test_looks == 1
    assert len(list((several_labels / "ledger").glob("*"))) == 1
    assert "test" in load_predictions(found.folder)
    of = {one.name: load_history(one)[0] for one in places(found.folder)}
    best = max(of, key=lambda name: of[name].rank)
    assert found.result.params["lr"] == float(best)
    for place in places(found.folder):
        assert {one.name for one in place.iterdir()} <= {
            "comparison.json",
            "history.csv",
            "steps.csv",
        }
    assert json.loads((found.folder / "promotion.json").read_text())["rates"] == [1e-12, 1e-3]
    assert (found.folder / "compare" / "last-layer").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lr", "0.1,many"), "--lr 0.1,many: give numbers above 0"),
        (("--lr", "0.1,0"), "--lr 0.1,0: give numbers above 0"),
        (("--lr", "0.1,inf"), "give numbers above 0"),
        (("--lr", "1,2,3,4,5", "--compare", "fresh,scratch"), "7 trainings are more than the 6"),
        (("--lr", "0.1,0.2", "--forecast"), "one recipe: give one --lr"),
    ],
)
def test_rates_that_make_no_sense_are_refused(
    made: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        promote(made, *arguments)


def test_rates_are_text_or_numbers() -> None:
    assert parse_rates("0.001, 0.01") == parse_rates([0.001, 0.01]) == (0.001, 0.01)
    assert parse_rates("0.1,0.1") == parse_rates(0.1) == (0.1,)
    assert parse_rates(None) == ()


def test_a_dry_run_counts_every_rate(made: Path) -> None:
    told = promote(made, "--lr", "0.1,0.01", "--dry-run", "--augment", "none").stderr
    assert "lr 0.1 and 0.01, cosine" in " ".join(told.split())


@pytest.mark.parametrize("recorded", [True, False])
def test_training_accuracy_is_drawn_where_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    history = tuple(
        Epoch(
            epoch=number, train_loss=1.0, val_loss=1.0, val_top1=0.5 + 0.1 * number,
            train_top1=0.6 + 0.1 * number if recorded else None,
        )
        for number in (1, 2)
    )  # fmt: skip
    course = Course(
        name="a", metric="top1", loss=1.0, score=0.5, history=history,
        batches=np.ones((5, 2), np.float32), per_epoch=3,
    )  # fmt: skip
    drawn = []
    monkeypatch.setattr(compare, "save", lambda figure, path: drawn.append(figure))
    draw_courses({"a": course, "b": course}, tmp_path / "x.png", title="two")
    lower = drawn[0].axes[1]
    lines = {tuple(np.round(line.get_ydata(), 6)) for line in lower.lines}
    assert lines == {(50, 60, 70)} | ({(70, 80)} if recorded else set())
    assert {tuple(line.get_xdata()) for line in lower.lines} <= {(0, 3, 5), (3, 5)}
    assert ("dashed" in lower.get_title(loc="left")) == recorded
    canvas.save(drawn[0], tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size
