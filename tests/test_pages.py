"""What README and the pages say of commands, Python and files is so: their examples are run.

Each page's examples run in order, in a folder with what they speak of (`tests/materials.py`) and
an empty state folder. What `tests/examples.py` takes for an example is written there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer

from probe.cli.config import NAME as CONFIG
from probe.cli.config import defaults_of, read_config
from probe.engines import engine_is_installed
from probe.errors import ProbeError, UsageError
from tests.cli.test_commands import commands as every_command
from tests.commands import invoke
from tests.examples import NEEDS, OTHERS, ROOT, Code, Command, File, Page, read_page, read_pages
from tests.materials import VGG16, Photos, make
from tests.needs import NO_MXNET

PAGES = read_pages()
MOST_NOT_RUN = 20  # of our commands and blocks of Python

# where `photos/` has another form than three classes of twelve images without splits
PHOTOS = {
    "start": Photos(each=16, classes=("airplane", "cat", "dog", "frog"), splits=True),
    "racing": Photos(each=200),  # a race needs 600
    "howto": Photos(each=64),  # a forecast needs 128 training images
}
# what the reader of a page has done before
A_HEAD = ("probe extract --backbone efficientnet_lite0 --size 32 --dataset photos/", "probe head")
BEFORE = {
    "datasets": (*A_HEAD, "probe bundle --out photos.probe"),
    "formats": A_HEAD,
    "howto": A_HEAD,
}
# defaults of options, where a page's own take longer than a test has
QUICK = {"howto": "[promote]\nepochs = 1\n"}
# what is so after a page, by the names that its Python has
CLAIMS = {
    "api": "X.shape == (12, 32, 32, 3) and early.key.layer == 'block3' and len(bench.rows) == 4"
    " and tuned.parent == bench.run(best).name and 0 <= scores.figures['top1'] <= 1"
    " and all(path.is_file() for path in files) and audit.record.n_train == 36",
}
EVERYWHERE = {
    "--config",
    "--help",
    "--version",
    "--verbose",
    "--install-completion",
    "--show-completion",
    "-h",
    "-v",
}


def words_of(command: str, folder: Path) -> list[list[str]]:
    """Return the words of each `probe` in some lines, as the shell of a reader splits them."""
    script = f"exec 3>&1\nprobe() {{ printf '%s\\0' \"$@\" $'\\n' >&3; }}\n{command}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    return [one.split("\0")[:-1] for one in done.stdout.split("\n\0")[:-1]]


def run_command(one: Command, folder: Path) -> None:
    """Run the `probe` of a line, and compare what it says with what the page shows.

    What is shown is of other images. The label of a line, its first word before two blanks, and a
    line without a number have to be those of some lines, in their order.
    """
    told = "".join(invoke(*words).output for words in words_of(one.text, folder))
    lines = (re.sub(" {2,}", "  ", line).strip() for line in told.splitlines())
    for shown in one.shown:
        start = re.sub(" {2,}", "  ", shown).strip()
        label = re.match(r"[a-z][\w-]*  ", start)
        if re.search(r"\d", start.replace("95 %", "")):
            start = label[0] if label else ""
        if start not in ("", "..."):
            assert any(line.startswith(start) for line in lines), f"no {start!r} in\n{told}"


def run_code(one: Code, names: dict[str, Any]) -> None:
    """Run Python. What stands in a comment behind a `print` is printed."""
    printed = StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(one.text, "the page", "exec"), names)
    for said in re.findall(r"^ *print\(.*\)  # (.+)$", one.text, re.MULTILINE):
        assert said in printed.getvalue()


@cache
def written_before() -> set[str]:
    """Return the names of the pages of which one with more examples has all."""
    texts = {page.name: [shlex.split(one.text, comments=True) if isinstance(one, Command)
                         else [one.text] for one in page.run] for page in PAGES}  # fmt: skip
    order = sorted(texts, key=lambda name: -len(texts[name]))  # of equals the first is run
    return {name for place, name in enumerate(order)
            if any(all(one in texts[larger] for one in texts[name])
                   for larger in order[:place])}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with its state in it, and no browser."""
    made = tmp_path / "a reader's"
    (made / "cache").mkdir(parents=True)
    monkeypatch.chdir(made)
    monkeypatch.setattr(typer, "launch", lambda _: 0)
    return made


def write_file(one: File, folder: Path) -> None:
    """Write a file that the page shows; in `probe.toml` every name has to be an option."""
    path = folder / one.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(one.text)
    if one.name == CONFIG:
        there = dict(every_command())
        values = read_config(path, [name.partition(" ")[0] for name in there])
        for name, command in there.items():
            defaults_of(path, values, name, command.params)


def runnable() -> Iterator[Any]:
    """Yield the pages with examples that no other page has all of."""
    for page in PAGES:
        if page.run and page.name not in written_before():
            yield pytest.param(page, id=page.path.name)


@pytest.mark.parametrize("page", [*runnable()])
def test_the_examples_of_a_page_run(page: Page, folder: Path) -> None:
    text = "\n".join(one.text for one in page.run)
    if "promote" in text and not engine_is_installed("mxnet"):
        pytest.skip(NO_MXNET)
    if VGG16 in text and not os.environ.get("PROBE_TEST_DATA"):
        pytest.skip("PROBE_TEST_DATA is not set, so VGG16's weights are not here")
    before = [Command(0, line) for line in BEFORE.get(page.name, ())]
    make(folder, "\n".join([text, *(one.text for one in before)]), PHOTOS.get(page.name, Photos()))
    files = [one for one in page.run if isinstance(one, File) and one.name != CONFIG]
    if page.name in QUICK:
        (folder / CONFIG).write_text(QUICK[page.name])
    names: dict[str, Any] = {}
    for one in (*files, *before, *(one for one in page.run if one not in files)):
        try:
            if isinstance(one, Command):
                run_command(one, folder)
            elif isinstance(one, Code):
                run_code(one, names)
            elif isinstance(one, File):
                write_file(one, folder)
        except Exception as error:
            error.add_note(f"{page.path.name}, line {one.line}: {one.text.strip()}")
            raise
    assert eval(CLAIMS.get(page.name, "True"), names)


def test_what_is_not_run_is_little_and_says_why() -> None:
    left_out = [one for page in PAGES for one in page.examples if one.needs]
    assert {one.needs for one in left_out} | {"pandas"} == set(NEEDS)  # pandas: of one line
    assert len(left_out) <= MOST_NOT_RUN, "run what can be run, or raise this with a reason"
    run = [one for page in PAGES for one in page.run if not isinstance(one, File)]
    assert len(run) > 4 * len(left_out)
    of_others = {one.program for page in PAGES for one in page.examples
                 if isinstance(one, Command) and one.program in OTHERS}  # fmt: skip
    assert of_others == set(OTHERS)


def test_a_script_of_ours_that_a_page_runs_is_there() -> None:
    commands = [one.text for page in PAGES for one in page.examples if isinstance(one, Command)]
    scripts = re.findall(r"python -m (\S+)", "\n".join(commands))
    assert len(scripts) > 1
    assert all((ROOT / f"{one.replace('.', '/')}.py").is_file() for one in scripts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    $ proob head\n", "no program of ours"),
        ("    probe head\n    a line that looks like nothing\n", "stands among commands"),
        ("    import probe\n    probe.extract('photos/', 'vgg16')\n", "belongs into a block"),
        ("    probe head  # needs luck\n", "needs 'luck' is none of"),
        ("```python\n# needs luck\nimport probe\n```\n", "needs 'luck' is none of"),
    ],
)
def test_what_could_be_an_example_and_is_none_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_page(ROOT / "new.md", text)


def test_a_new_page_is_run_and_one_that_fails_is_found(folder: Path) -> None:
    text = (
        "# T\n\n    # my.csv\n    path,label\n\n```sh\nprobe cache list  # none\n```\n\n"
        "    $ probe cache list \\\n        --json && probe cache du\n    {}\n    $ probe runs\n\n"
        "```python\nx = 1\nprint(x)  # 1\ny = z  # needs torch: more\n```\n"
    )
    page = read_page(ROOT / "new.md", text)
    listed, both, _, code = page.run[1:]
    assert page.run[0] == File(3, "path,label\n", name="my.csv")
    assert isinstance(both, Command)
    assert both.shown == ("{}",)
    assert words_of(both.text, folder) == [["cache", "list", "--json"], ["cache", "du"]]
    names: dict[str, Any] = {}
    assert isinstance(code, Code)
    run_code(code, names)
    assert names["x"] == 1
    assert "y" not in names
    assert isinstance(listed, Command)
    run_command(listed, folder)
    with pytest.raises(AssertionError, match="no 'entry  photos'"):
        run_command(Command(1, "probe cache list", shown=("entry   photos",)), folder)
    with pytest.raises(ProbeError, match="no runs yet"):
        run_command(Command(1, "probe report"), folder)
    with pytest.raises(AssertionError):
        run_code(Code(1, "print(1)  # 2"), {})


def sentences(page: Page) -> list[str]:
    """Return the commands within a page's sentences and tables, without dots and brackets."""
    text = re.sub(r"^```.*?^```", "", page.text, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`(probe [^`]+)`", text)
    return [re.sub(r" \.\.\.|[][]", "", " ".join(one.split())) for one in spans]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_commands_that_are_not_run_can_be_read(page: Page, tmp_path: Path) -> None:
    there = dict(every_command())
    groups = {name.rpartition(" ")[0] for name in there}
    typed = [one.text for one in page.examples if isinstance(one, Command) and one.needs]
    lines = [*typed, *sentences(page)]
    read = words_of("\n".join(lines), tmp_path)
    assert len(read) >= len(lines)
    for words in read:
        if words[0] in ("COMMAND", *EVERYWHERE) or " ".join(words) in groups:
            continue
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in there), None)
        assert name, f"{page.path.name}: no command as in `probe {' '.join(words)}`"
        try:
            there[name].make_context(name, words[len(name.split()) :])
        except UsageError as error:  # a sentence may leave out the rest
            if not re.match(rf"{name}: missing (argument|option)", str(error)):
                raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_options_in_sentences_exist_in_some_command(page: Page) -> None:
    every = {name for _, command in every_command() for one in command.params
             for name in (*one.opts, *one.secondary_opts)} | EVERYWHERE  # fmt: skip
    spans = re.findall(r"`(--[a-z-]+)", page.text)
    assert not set(spans) - every


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_links_lead_to_files(page: Page) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.text)
    for link in links + re.findall(r'src="([^"]+)"', page.text):
        if "://" not in link:
            assert (page.path.parent / link).exists(), f"{page.path.name}: {link}"
