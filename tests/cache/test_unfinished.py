"""What an interrupted run leaves: seen, never an entry, its rows taken, removed if abandoned."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from probe.cache.features import FeatureSet
from probe.cache.file import read_header
from probe.cache.prune import SECONDS_A_DAY, plan_prune, prune
from probe.cache.store import Store
from probe.cache.unfinished import list_unfinished
from probe.core.files import replacing
from tests.cache.toy import everything, extract, flip, interrupted, relabel
from tests.commands import invoke
from tests.fakes import make_dataset, make_job

ROOT = Path(__file__).parents[2]
BLOCK = 512


def test_another_command_of_the_recipe_copies_the_finished_rows(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    interrupted(make_dataset(train=1500), store, batches=40)  # 1280 rows: two blocks of 512
    entry, observer = extract(make_dataset(train=1501), store)
    assert observer.taken == 2 * BLOCK
    assert observer.forwarded == 1501 + 130 - 2 * BLOCK
    fresh, _ = extract(make_dataset(train=1501), Store(tmp_path / "b"))
    assert everything(entry) == everything(fresh)
    (left,) = list_unfinished(store)  # nobody said that it is not wanted any more
    assert (left.done, left.rows, left.writing) == (2 * BLOCK, 1630, False)
    assert [one.name for one in store.entries()] == [entry.name]


def test_the_list_of_entries_says_what_is_unfinished_and_what_becomes_of_it(
    tmp_path: Path,
) -> None:
    interrupted(make_dataset(train=1500), Store(tmp_path), batches=40)
    listed = invoke("cache", "list", "--cache-dir", tmp_path)
    assert "1,024 of 1,630" in listed.stdout
    (said,) = [line for line in listed.stderr.splitlines() if line]
    assert said.startswith("the command that made one goes on from there, others of its recipe")


def test_rows_are_kept_where_only_labels_changed_since(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    interrupted(make_dataset(train=1500), store, batches=40)
    entry, observer = extract(relabel(make_dataset(train=1500)), store)
    assert observer.taken == 2 * BLOCK
    fresh, _ = extract(relabel(make_dataset(train=1500)), Store(tmp_path / "b"))
    assert everything(entry) == everything(fresh)
    assert list_unfinished(store) == []


@pytest.mark.parametrize("what", ["rows", "content", "journal"])
def test_damage_in_what_is_unfinished_is_not_copied(tmp_path: Path, what: str) -> None:
    store = Store(tmp_path / "a")
    interrupted(make_dataset(train=1500), store, batches=40)
    (left,) = list_unfinished(store)
    header = read_header(left.path)
    path, at = {
        "rows": (left.path, header.features["train"].start + 5),
        "content": (left.path, header.content["train"].start + 5),
        "journal": (left.path.with_suffix(".journal"), 12),
    }[what]
    flip(path, at, bit=2)
    entry, observer = extract(make_dataset(train=1501), store)
    fresh, _ = extract(make_dataset(train=1501), Store(tmp_path / "b"))
    assert everything(entry) == everything(fresh)
    lost = {"rows": 512, "content": 1024, "journal": 512}[what]
    assert observer.forwarded == 1631 - 1024 + lost


def test_unfinished_ones_go_by_age_or_all_and_never_under_a_writer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    interrupted(make_dataset(train=1500), store, batches=20)
    key = make_job(make_dataset(train=1500)).cuts[0].key
    (left,) = list_unfinished(store)
    stray = store.folder / ".toy-x-0123456789ab.journal"
    stray.write_bytes(b"")
    packing = store.folder / f".{left.name}.h5.abc.tmp"
    packing.write_bytes(b"1")
    now = time.time() + 9 * SECONDS_A_DAY
    ours = {left.path, packing}
    # a temporary file is of no use to anybody: it goes without being asked for
    assert [one.path for one in plan_prune(store, max_size=0)] == [packing]
    assert [one.path for one in plan_prune(store, older_than=10, now=now)] == [packing]
    assert {one.path for one in plan_prune(store, unused=5, now=now)} > ours
    plan = plan_prune(store, partial=True)
    assert len(plan) == 3
    with store.lock(key):
        assert not ours & {one.path for one in plan_prune(store, partial=True)}
        assert len(prune(store, plan)) == 1  # decided before, begun since
        assert left.path.exists()
        assert not stray.exists()
    assert len(prune(store, plan_prune(store, partial=True))) == 2
    assert [path for path in store.folder.iterdir() if path.is_file()] == []


EXTRACT = """
import sys
from pathlib import Path
from probe.cache.store import Store
from probe.extraction.extract import extract_features
from tests.fakes import FakeEngine, Silent, make_dataset, make_job

class Telling(Silent):
    def waiting(self, holder, done, rows):
        print("waits for", holder.pid, done, rows, flush=True)
    def advanced(self, rows):
        super().advanced(rows)
        if self.forwarded == 640 and sys.argv[2] == "stop":
            print("640", flush=True)
            sys.stdin.read()

seen = Telling()
job = make_job(make_dataset(train=1500))
extract_features(job, Store(Path(sys.argv[1])), FakeEngine, seen, workers=1)
print(seen.forwarded)
"""


def start(folder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EXTRACT, str(folder), what],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_of_two_that_wait_for_a_killed_process_one_goes_on_from_there(tmp_path: Path) -> None:
    with start(tmp_path, "stop") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "640\n"
        with start(tmp_path, "go") as second, start(tmp_path, "go") as third:
            for one in (second, third):
                assert one.stdout is not None
                assert one.stdout.readline() == f"waits for {first.pid} 512 1630\n"
            (left,) = list_unfinished(Store(tmp_path))
            assert left.writing
            assert plan_prune(Store(tmp_path), partial=True) == []
            first.kill()
            # one goes on, and the other finds what it made
            forwarded = {int(one.communicate()[0].splitlines()[-1]) for one in (second, third)}
            assert forwarded == {1630 - 512, 0}
    entry = FeatureSet.open(Store(tmp_path).choose(None).path)
    fresh, _ = extract(make_dataset(train=1500), Store(tmp_path / "b"))
    assert everything(entry) == everything(fresh)


def test_downloads_and_runs_of_killed_commands_go(tmp_path: Path) -> None:
    store, name = Store(tmp_path), "20260131-235959-001"
    extract(make_dataset(), store)
    at_once = ["datasets/toy/.download.x1.unfinished/a.zip", "bundles/.b.y2.unfinished/c"]
    asked = [
        "weights/.vgg.h5.part", "datasets/toy/.a.zip.part", "remote/.parts/.a-b.part",
        f"runs/{name}/head.safetensors", f"benches/{name}/results.csv",
    ]  # fmt: skip
    theirs = [
        "weights/vgg.h5", "runs/mine/head.safetensors", "datasets/toy/a.unfinished",
        "remote/https/h/.a.tmp",
        *(f"runs/20260131-235959-002/{one}" for one in ("head.safetensors", "result.json")),
        *(f"runs/20260131-235959-003/{one}" for one in ("head.safetensors", "promote.json")),
        *(f"benches/20260131-235959-002/{one}" for one in ("results.csv", "bench.json")),
        "runs/20260131-235959-004/audit.json",
    ]  # fmt: skip
    for one in (*at_once, *asked, *theirs):
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).write_text("half")

    def planned(**limits: Any) -> set[str]:
        plan = plan_prune(store, **limits)
        return {str(one.path.relative_to(tmp_path)) for one in plan}

    away = tmp_path.with_name("away")  # what a link leads to is not ours
    (away / "a").mkdir(parents=True)
    (away / ".a.tmp").write_text("x")
    (away / "a" / "head.safetensors").write_text("x")
    (tmp_path / "linked").symlink_to(away)
    (tmp_path / "runs" / "20260131-235959-005").symlink_to(away / "a")
    (tmp_path / "weights" / ".lost.part").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "weights" / ".pipe.part")
    killed = {str(Path(one).parent) for one in at_once}
    begun = {*asked[:3], *(str(Path(one).parent) for one in asked[3:])}
    assert planned(max_size=10**9) == killed
    assert planned(older_than=1) == killed
    assert planned(older_than=1, now=time.time() + 2 * SECONDS_A_DAY) > killed | begun
    living = os.open(tmp_path / "runs" / name, os.O_RDONLY)
    fcntl.flock(living, fcntl.LOCK_EX)
    assert planned(partial=True) == killed | begun - {f"runs/{name}"}
    os.close(living)
    plan = plan_prune(store, partial=True)
    assert {one.size for one in plan} == {4}
    assert len(prune(store, plan)) == 7
    assert not any((tmp_path / one).exists() for one in (*at_once, *asked))
    assert all((tmp_path / one).exists() for one in theirs)


def test_temporary_files_of_killed_commands_go_from_the_whole_state_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    extract(make_dataset(), store)
    left = [tmp_path / name for name in ("runs/a/.head.safetensors.x1.tmp", "bundles/.b.y.tmp")]
    theirs = [tmp_path / "datasets/toy/.a.tmp", tmp_path / "runs/a/notes.tmp"]
    for path in (*left, *theirs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with replacing(tmp_path / "runs" / "a" / "result.json") as living:
        plan = plan_prune(store, max_size=10**9)
        assert {one.path for one in plan} == set(left)
        assert len(prune(store, plan)) == 2
        assert living.exists()
        living.write_text("{}")
    assert [path.exists() for path in (*left, *theirs)] == [False, False, True, True]
