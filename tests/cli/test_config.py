"""Defaults of options out of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe.errors import UsageError
from tests.commands import invoke


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROBE_CONFIG", raising=False)
    return tmp_path


def explain(*words: str) -> tuple[dict[str, object], str]:
    done = invoke("cache", "explain", *words, "--json")
    return json.loads(done.stdout), done.stderr


def test_options_come_out_of_the_file_and_are_said_and_what_is_typed_comes_first(
    here: Path,
) -> None:
    (here / "probe.toml").write_text(
        'seed = 7\ndataset = "digits"\n'
        "[cache.explain]\nbackbone = 'resnet18'\nweights = 'random:0'\nsize = 64\n"
        "layer = ['gap', 'stage3']\nskip-bad = true\n"
    )
    told, said = explain()
    assert [one["layer"] for one in told["cuts"]] == ["gap", "stage3"]
    assert "probe.toml:" in said
    assert "--size 64" in said
    assert "--layer gap,stage3" in said
    assert "--skip-bad" in said
    _, said = explain("--size", "32")
    assert "--size" not in said


def test_a_file_may_be_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "mine.toml").write_text("[bench]\nfolds = 5\n")
    with pytest.raises(UsageError, match=r"nothing\.toml: there is no such file"):
        invoke("--config", "nothing.toml", "doctor")
    invoke("--config", "mine.toml", "doctor")
    monkeypatch.setenv("PROBE_CONFIG", "mine.toml")
    invoke("doctor")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[extrct]\nsize = 3\n", r"\[extrct\] is no command; did you mean 'extract'\?"),
        ("[doctor]\nsize = 3\n", r"\[doctor\] size is no option of `probe doctor`"),
        ("size = \n", "cannot be read as TOML"),
        ("[doctor]\ncache-dir = 2026-01-01\n", "cache-dir: give a text"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(here: Path, text: str, said: str) -> None:
    (here / "probe.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        invoke("doctor")


def test_a_value_of_the_wrong_type_is_refused_as_if_typed(here: Path) -> None:
    (here / "probe.toml").write_text("[extract]\nsize = 'large'\nbackbone = 'a'\ndataset = 'b'\n")
    with pytest.raises(UsageError, match="--size"):
        invoke("extract")


def test_a_record_keeps_what_came_out_of_the_file(here: Path) -> None:
    (here / "probe.toml").write_text("[extract]\nbackbone = 'resnet18'\nweights = 'random:0'\n")
    invoke("extract", "--dataset", "digits", "--size", "32", "--per-class", "2")
    told = json.loads(invoke("cache", "show", "digits", "--json").stdout)
    assert "--backbone resnet18 --weights random:0" in told["provenance"]["command"]
