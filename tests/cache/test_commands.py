"""`probe cache ...` as a user meets it: a real network, a folder of images."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from probe.cli.app import app
from probe.errors import ProbeError
from tests.cache.toy import flip

BASE = ("--backbone", "squeezenet1_1", "--weights", "random:0", "--size", "32", "--dataset", "pics")


def probe(*arguments: str, cwd: Path, code: int | None = 0) -> Result:
    """Run a command in this process; `tests/cli` runs real ones. A code of None is any."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, arguments, env={"PROBE_CACHE": "my cache", "NO_COLOR": "1"})
    if isinstance(done.exception, ProbeError):
        assert code in (2, None), done.exception
        assert "\n" not in str(done.exception)
        return done
    assert done.exit_code == code or code is None, done.output
    return done


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, (1e9, 1e9))


def pictures(folder: Path, count: int) -> None:
    """Write images of two classes."""
    for number in range(count):
        picture(folder / "pics" / "ab"[number % 2] / f"{number}.png", number)


def extracted(folder: Path, *options: str) -> Path:
    """Run `probe extract`; return the path of the entry."""
    done = probe("extract", *BASE, *options, "--json", cwd=folder)
    return folder / str(json.loads(done.stdout)["entries"][0]["path"])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a working folder")
    pictures(folder, 24)
    probe("extract", *BASE, cwd=folder)
    return folder


def test_a_day_with_the_cache(work: Path) -> None:
    """One test, for each step starts from what the one before left."""
    found = probe("cache", "explain", *BASE, cwd=work).stdout
    assert "is reused as it is" in found
    other = json.loads(
        probe("cache", "explain", *BASE, "--dtype", "float16", "--json", cwd=work).stdout
    )
    assert other["cuts"][0]["forwarded"] == 24
    assert other["cuts"][0]["near"][0]["recipe"] == [
        "stored dtype is float32 there and float16 here"
    ]
    checked = probe("cache", "verify", "--sample", "7", cwd=work).stdout
    assert "7 rows again" in checked
    assert "onnx made them, onnx checks them" in checked
    assert "within 1e-05" in checked

    picture(work / "pics" / "a" / "new.png", 99)
    (work / "pics" / "a" / "0.png").unlink()
    planned = probe("cache", "sync", "--dry-run", cwd=work).stdout
    assert "would be written anew, 1 image forwarded" in planned
    done = json.loads(probe("cache", "sync", "--json", cwd=work).stdout)
    assert (done["kept"], done["new"], done["gone"], done["forwarded"]) == (23, 1, 1, 1)
    assert "nothing to do" in probe("cache", "sync", "--strict", cwd=work).stdout
    (work / "pics").rename(work / "moved")
    lost = probe("cache", "sync", cwd=work, code=2).exception
    assert "say where they are now by --dataset-root" in str(lost)
    (work / "moved").rename(work / "pics")
    listed = json.loads(probe("cache", "list", "--json", cwd=work).stdout)["entries"]
    assert [one["name"] for one in listed] == [done["name"]]

    used = json.loads(probe("cache", "du", "--json", cwd=work).stdout)
    assert used["total"] == listed[0]["bytes"]
    assert "last used" in probe("cache", "du", cwd=work).stdout
    kept = probe("cache", "prune", "--older-than", "1", "--max-size", "1GB", cwd=work).stdout
    assert "removed 0 files" in kept
    going = probe("cache", "prune", "--max-size", "1kB", "--dry-run", cwd=work).stdout
    assert "would remove 1 file, " in going

    pytest.importorskip("hdf5plugin")
    assert "every bit is as it was" in probe("cache", "pack", cwd=work).stdout
    assert "packed" in probe("cache", "list", cwd=work).stdout
    result = probe("head", "--head", "logistic", "--val-size", "0", "--json", cwd=work)
    assert json.loads(result.stdout)["n_train"] == 24
    probe("cache", "export", "out.npz", cwd=work)
    assert "unknown" in probe("cache", "import", "out.npz", "-d", "again", cwd=work).stdout
    refused = probe("cache", "sync", "again", cwd=work, code=2).exception
    assert "features were imported: there is no network" in str(refused)
    # the head's entry stays while the run does
    probe("cache", "prune", "--max-size", "0", cwd=work)
    (left,) = json.loads(probe("cache", "list", "--json", cwd=work).stdout)["entries"]
    assert left["name"] == done["name"]
    probe("cache", "prune", "--max-size", "0", "--force", cwd=work)
    assert json.loads(probe("cache", "list", "--json", cwd=work).stdout)["entries"] == []


def test_verify_all_goes_on_after_a_damaged_entry_and_exits_1(tmp_path: Path) -> None:
    pictures(tmp_path, 6)
    paths = [extracted(tmp_path, "--limit", limit) for limit in ("2", "4")]
    flip(paths[0], -5)
    done = probe("cache", "verify", "--all", cwd=tmp_path, code=1)
    assert "2 entries, 1 of them not as they should be" in done.stdout
    assert "damaged; 1 bad row, in 1 block of rows" in done.stdout
    assert re.search(r"train row 1 \([ab]/\d.png\)", done.stdout)
    assert paths[1].name in done.stdout
    said = json.loads(probe("cache", "verify", "--all", "--json", cwd=tmp_path, code=1).stdout)
    assert [one["good"] for one in said["entries"]].count(True) == 1
    (bad,) = (one for one in said["entries"] if not one["good"])
    assert [(one["start"], one["stop"]) for one in bad["damage"]] == [(0, 2)]
    assert [one["row"] for one in bad["damage"][0]["rows"]] == [1]
    mended = json.loads(
        probe("cache", "sync", "--repair", "--json", bad["name"], cwd=tmp_path).stdout
    )
    assert mended["forwarded"] == 2
    assert "match their checksums" in probe("cache", "verify", bad["name"], cwd=tmp_path).stdout
    done = probe("cache", "sync", "--repair", bad["name"], cwd=tmp_path)
    assert "nothing to do" in done.stdout


def test_an_entry_is_removed_by_its_whole_name_or_after_a_question(tmp_path: Path) -> None:
    pictures(tmp_path, 4)
    name = extracted(tmp_path).stem
    refused = probe("cache", "rm", name[:-2], cwd=tmp_path, code=2)
    assert f"remove {name}? give its whole name" in str(refused.exception)
    probe("cache", "rm", name[:-2], "--yes", cwd=tmp_path)
    probe("extract", *BASE, cwd=tmp_path)
    gone = json.loads(probe("cache", "rm", name, "--json", cwd=tmp_path).stdout)
    assert Path(gone["removed"]).stem == name
    assert json.loads(probe("cache", "list", "--json", cwd=tmp_path).stdout)["entries"] == []


def test_views_are_extracted_found_and_explained(work: Path, tmp_path: Path) -> None:
    (tmp_path / "pics").symlink_to(work / "pics")
    done = json.loads(
        probe("extract", *BASE, "--limit", "4", "--views", "flip", "--json", cwd=tmp_path).stdout
    )
    assert done["entries"][0]["row_shape"] == [2, 512]
    assert done["forwarded"] == 4
    again = probe("extract", *BASE, "--limit", "4", "--views", "flip", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["forwarded"] == 0
    over = probe("extract", *BASE, "--limit", "4", "--views", "flip", "--overwrite", "--json",
                 cwd=tmp_path)  # fmt: skip
    assert json.loads(over.stdout)["forwarded"] == 4
    fitted = probe("head", "--head", "logistic", "--val-size", "0", "--json", cwd=tmp_path)
    assert json.loads(fitted.stdout)["n_train"] == 4  # images: both views of each are fitted on
    text = probe("cache", "explain", *BASE, "--limit", "4", cwd=tmp_path).stdout
    assert "views is flip there and none here" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cache", "prune"), "--max-size, --older-than, --unused or --partial"),
        (("cache", "prune", "--max-size", "much"), "500MB or 20GB"),
        (("cache", "sync"), "no entries yet"),
        (("cache", "pack", "--codec", "zip"), "--codec zip: 'zip' is not one of 'blosc-lz4', "),
        (("cache", "pack"), "no entries yet"),
        (("cache", "import", "a.csv"), "expected one of"),
        (("cache", "export", "a.csv"), "no entries yet"),
        (
            ("extract", *BASE, "--views", "rotate"),
            "--views rotate: 'rotate' is not one of 'none', 'flip', 'crops5'",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = probe(*arguments, cwd=tmp_path, code=2)
    assert message in str(done.exception)


def test_swapped_entries_are_said_by_every_command_that_opens_one(tmp_path: Path) -> None:
    pictures(tmp_path, 8)
    paths = [extracted(tmp_path, "--limit", limit) for limit in ("6", "8")]
    names = [path.stem for path in paths]
    data = [path.read_bytes() for path in paths]
    paths[0].write_bytes(data[1])
    paths[1].write_bytes(data[0])
    said = f"{names[0]}.h5: holds the entry {names[1]}"
    done = probe("cache", "verify", "--all", "--json", cwd=tmp_path, code=1)
    errors = [one["error"] for one in json.loads(done.stdout)["entries"]]
    assert len(errors) == 2
    assert any(said in one for one in errors)
    for command in (
        ("head", names[0]), ("audit", names[0]), ("cache", "sync", names[0]),
        ("cache", "sync", "--repair", names[0]), ("cache", "pack", names[0]),
        ("cache", "export", "out.npz", names[0]),
    ):  # fmt: skip
        assert said in str(probe(*command, cwd=tmp_path, code=2).exception), command
    assert not (tmp_path / "out.npz").exists()
    for path, whole in zip(paths, data, strict=True):
        path.write_bytes(whole)
    assert "0 of them" in probe("cache", "verify", "--all", cwd=tmp_path).stdout


def test_what_a_kept_run_was_made_from_stays_or_goes_by_name(tmp_path: Path) -> None:
    pictures(tmp_path, 12)
    old = extracted(tmp_path).stem
    probe("head", "--head", "prototype", "--val-size", "0", cwd=tmp_path)
    (run,) = (path.name for path in (tmp_path / "my cache" / "runs").iterdir())

    refused = str(probe("cache", "rm", old, cwd=tmp_path, code=2).exception)
    assert f"{old} is needed by runs/{run}" in refused
    assert "--force" in refused
    for limit in (("--max-size", "0"), ("--unused", "0"), ("--older-than", "0")):
        kept = json.loads(probe("cache", "prune", *limit, "--json", cwd=tmp_path).stdout)
        assert (kept["files"], kept["needed"]) == ([], {old: [f"runs/{run}"]})

    picture(tmp_path / "pics" / "a" / "new.png", 99)
    said = json.loads(probe("cache", "sync", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert said["needed_by"] == [f"runs/{run}"]
    made = json.loads(probe("cache", "sync", "--json", cwd=tmp_path).stdout)
    assert made["forwarded"] == 1
    listed = json.loads(probe("cache", "list", "--json", cwd=tmp_path).stdout)["entries"]
    assert {one["name"] for one in listed} == {old, made["name"]}

    probe("cache", "rm", made["name"], cwd=tmp_path)  # no run was made from that one
    shutil.rmtree(tmp_path / "my cache" / "runs" / run)
    # a run kept elsewhere counts, too, as long as it is there
    probe("head", "--head", "prototype", "--val-size", "0", "--out", "mine/1", cwd=tmp_path)
    kept = json.loads(probe("cache", "prune", "--max-size", "0", "--json", cwd=tmp_path).stdout)
    assert kept["needed"] == {old: [str(tmp_path / "mine" / "1")]}
    assert "mine/1" in str(probe("cache", "rm", old, cwd=tmp_path, code=2).exception)
    (tmp_path / "mine").rename(tmp_path / "theirs")
    probe("cache", "rm", old, cwd=tmp_path)
    assert json.loads(probe("cache", "list", "--json", cwd=tmp_path).stdout)["entries"] == []
