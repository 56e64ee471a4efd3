"""Many processes and users, one folder."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.cache import locks
from probe.cache.features import FeatureSet
from probe.cache.locks import Holder
from probe.cache.store import Store
from probe.errors import CacheMismatchError
from tests.cache.toy import everything, extract, relabel, small_entry
from tests.fakes import make_dataset, make_job

ROOT = Path(__file__).parents[2]
NOBODY = 65534

EXTRACT = """
import sys
from pathlib import Path
from probe.cache.store import Store
from tests.cache.toy import extract
from tests.fakes import make_dataset
entry, seen = extract(make_dataset(train=int(sys.argv[2])), Store(Path(sys.argv[1])))
print(seen.forwarded, entry.key.digest)
"""

HOLD = """
import sys
from pathlib import Path
from probe.cache.store import Store
from tests.fakes import make_dataset, make_job
with Store(Path(sys.argv[1])).lock(make_job(make_dataset(train=40, test=10)).cuts[0].key):
    print("held", flush=True)
    sys.stdin.read()
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_four_processes_compute_one_entry_once_and_another_one_beside_it(tmp_path: Path) -> None:
    folder = str(tmp_path / "a folder with spaces")
    running = [python(EXTRACT, folder, count) for count in ("700", "700", "700", "701")]
    outputs = [one.communicate()[0].split() for one in running]
    assert [one.returncode for one in running] == [0] * 4
    *same, other = (int(forwarded) for forwarded, _ in outputs)
    assert sorted(same)[:2] == [0, 0]
    # whichever entry is ahead gives the rows of its finished blocks to the other
    assert max(same) <= 830
    assert other <= 831
    assert max(same) + other >= 831
    assert len({digest for _, digest in outputs}) == 2
    store = Store(Path(folder))
    assert len(store.entries()) == 2
    assert store.partials() == []
    for entry in store.entries():
        FeatureSet.open(entry.path).verify()


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    store, dataset = Store(tmp_path), make_dataset(train=40, test=10)
    key = make_job(dataset).cuts[0].key
    holder = python(HOLD, str(tmp_path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    (lock,) = store.locks_of(store.path_of(key, dataset.name))
    assert locks.is_held(lock)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not locks.is_held(lock)
    _, observer = extract(dataset, store)
    assert observer.waits == 0
    assert observer.forwarded == 50


def test_whoever_waits_says_so_and_a_reader_never_waits(tmp_path: Path) -> None:
    entry = small_entry(tmp_path)
    holder = python(HOLD, str(tmp_path))
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    FeatureSet.open(entry.path).verify()  # neither lock stops a reader
    assert len(Store(tmp_path).entries()) == 1
    waited: list[int] = []

    def let_go(who: Holder | None) -> None:
        assert who is not None
        waited.append(who.pid == holder.pid)
        assert holder.stdin is not None
        holder.stdin.close()

    with Store(tmp_path).lock(entry.key, on_wait=let_go):
        assert waited == [True]
    holder.wait()
    holder.stdout.close()


def test_an_entry_that_is_being_read_can_be_removed_or_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    reading = small_entry(tmp_path)
    before = everything(FeatureSet.open(reading.path))
    store.discard(store.named(reading.name))
    assert store.entries() == []
    assert everything(reading) == before  # every block is touched for the first time here
    dataset = make_dataset(train=40, test=10)
    again, _ = extract(dataset, store)
    replaced, _ = extract(relabel(dataset), store)
    assert replaced.path == again.path
    assert everything(again) == before
    assert everything(replaced) != before


def test_a_split_opens_the_file_for_itself_in_another_process(tmp_path: Path) -> None:
    entry = small_entry(tmp_path)
    again = pickle.loads(pickle.dumps(entry["test"]))
    np.testing.assert_array_equal(again.features, entry["test"].features)
    other, _ = extract(make_dataset(train=41, test=10), Store(tmp_path))
    sent = pickle.dumps(entry["test"])
    other.path.replace(entry.path)
    with pytest.raises(CacheMismatchError):
        pickle.loads(sent)


TOGETHER = """
import os, sys
from pathlib import Path
from probe.cache.prune import plan_prune, prune
from probe.cache.store import Store
from probe.errors import DataError
from probe.extraction.extract import extract_features
from probe.core.memo import Memo
from tests.cache.toy import extract
from tests.fakes import FakeEngine, MemoryImages, Silent, make_dataset, make_job

folder, user, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.umask(0o022)  # the usual one, which shuts the group out
os.setgroups([]); os.setgid(2000); os.setuid(user)
store, memo = Store(folder), Memo(folder / "memo.sqlite")
memo.put_many("kind", [(f"/image of {user}", (1, 1, 1, 1), b"x")])

class Stop(MemoryImages):
    def image(self, row):
        if row == 600:
            raise DataError("stopped")
        return super().image(row)

if what == "begin":
    dataset = make_dataset(train=700)
    job = make_job(dataset)
    train = dataset.splits["train"]
    object.__setattr__(train, "images", Stop(train.images.pixels))
    try:
        extract_features(job, store, FakeEngine, Silent(), workers=1)
    except DataError:
        print("stopped")
elif what == "finish":
    entry, seen = extract(make_dataset(train=700), store)
    known = memo.get_many("kind", {f"/image of {one}": (1, 1, 1, 1) for one in (1001, 1002)})
    print(seen.taken, len(known))
else:
    print(len(prune(store, plan_prune(store, max_size=0))), len(store.entries()))
"""


def test_users_of_one_group_go_on_with_and_remove_each_others_work(open_folder: Path) -> None:
    folder = open_folder / "shared"
    folder.mkdir()
    os.chown(folder, 0, 2000)
    folder.chmod(0o2775)

    def run(user: int, what: str) -> str:
        done = subprocess.run(
            [sys.executable, "-B", "-c", TOGETHER, str(folder), str(user), what],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()

    assert run(1001, "begin") == "stopped"
    assert run(1002, "finish") == "512 2"  # the finished block of the other, and its memo
    assert run(1001, "finish") == "0 2"
    assert run(1001, "prune") == "1 0"
    private = open_folder / "private"
    private.mkdir(mode=0o700)
    extract(make_dataset(train=40, test=10), Store(private))
    open_to_others = [path for path in private.rglob("*") if path.stat().st_mode & 0o022]
    assert [path for path in open_to_others if path.parent.name not in (".locks", ".used")] == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; what pytest makes is shut, again at each session."""
    if os.geteuid() != 0:
        pytest.skip("only root can become other users")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


READ_ONLY = f"""
import os, sys
from pathlib import Path
from PIL import Image

from probe.cache import locks
from probe.cache.features import FeatureSet
from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import CacheError
from tests.cache.toy import extract
from tests.fakes import make_dataset
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
folder = Path(sys.argv[1])
try:
    (folder / "features" / "x").touch()
    sys.exit("the folder can be written")
except PermissionError:
    pass
store = Store(folder)
(found,) = store.entries()
join(store, found)
FeatureSet.open(found.path).verify()
entry, seen = extract(make_dataset(train=40, test=10), store)
print(seen.forwarded, len(entry["train"].features))
try:
    extract(make_dataset(train=30, test=10), store)
except CacheError as error:
    print(error)
"""


def test_a_folder_that_is_read_only_for_the_reader_is_still_a_cache(open_folder: Path) -> None:
    small_entry(open_folder / "cache dir")
    done = subprocess.run(
        [sys.executable, "-B", "-c", READ_ONLY, str(open_folder / "cache dir")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "0 40"
    assert "cannot be written" in second
    assert "--cache-dir" in second


def test_whoever_waits_can_be_interrupted_and_is_told_for_whom(tmp_path: Path) -> None:
    images = tmp_path / "pics" / "a"
    images.mkdir(parents=True)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images / "1.png")
    asked = ["--backbone", "squeezenet1_1", "--weights", "random:0", "--size", "32"]
    asked += ["--dataset", str(tmp_path / "pics"), "--cache-dir", str(tmp_path / "cache")]
    script = [sys.executable, "-m", "probe"]
    explained = subprocess.run(
        [*script, "cache", "explain", *asked, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    digest = json.loads(explained.stdout)["cuts"][0]["digest"]
    with locks.hold(tmp_path / "cache" / "features" / ".locks" / f"{digest}.lock", None):
        waiting = subprocess.Popen(
            [*script, "extract", *asked], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr is not None
        said = next(line for line in waiting.stderr if "waiting for it" in line)
        assert said.startswith(f"process {os.getpid()} of ")
        waiting.send_signal(signal.SIGINT)
        rest = waiting.communicate()[1]
    assert waiting.returncode == 130
    assert "the same command goes on from there" in rest
    assert "Traceback" not in rest
    assert Store(tmp_path / "cache").entries() == []
