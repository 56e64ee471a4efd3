"""Many processes and users, one folder."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.locks import Holder
from probe.cache.store import Store
from probe.errors import CacheMismatchError
from tests.cache.toy import everything, extract, small_entry
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
    same = sorted(int(forwarded) for forwarded, _ in outputs[:3])
    # the one of 701 may have been first, and then gives its rows to the others
    assert same[:2] == [0, 0]
    assert same[2] in (0, 830)
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
    assert store.is_locked(key)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not store.is_locked(key)
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
    train = dataset.splits["train"]
    object.__setattr__(train, "labels", train.labels[::-1].copy())
    replaced, _ = extract(dataset, store)
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


READ_ONLY = f"""
import os, sys
from pathlib import Path
from probe.cache.features import FeatureSet
from probe.cache.store import Store, join
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


def test_a_folder_that_is_read_only_for_the_reader_is_still_a_cache(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who may read and not write")
    entry = small_entry(tmp_path / "cache dir")
    for path in [entry.path, *entry.path.parents]:
        if path == Path("/tmp") or path == Path("/"):
            break
        path.chmod(0o755 if path.is_dir() else 0o644)
    done = subprocess.run(
        [sys.executable, "-B", "-c", READ_ONLY, str(tmp_path / "cache dir")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "0 40"
    assert "cannot be written" in second
    assert "--cache-dir" in second
