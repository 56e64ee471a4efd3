"""A few damaged inputs for every reader; `benchmarks/fuzz_readers.py` has thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.strange_features import attack_import

SCRIPT = """
import logging, sys
from pathlib import Path
from tests.fuzzing import READERS, attack
logging.disable(logging.CRITICAL)
for number, (name, reader) in enumerate(READERS.items()):
    found = attack(reader, Path(sys.argv[1]) / str(number), int(sys.argv[2]), seed=7)
    for _, error in found:
        print(name, error)
"""


NO_FILES = """
import logging, resource, sys
from pathlib import Path
from tests.fuzzing import READERS, read_no_file
logging.disable(logging.CRITICAL)
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for number, (name, reader) in enumerate(READERS.items()):
    if not reader.opens:
        continue
    for kind in ("pipe", "device", "folder", "sparse"):
        print(name, kind, flush=True, file=sys.stderr)
        wrong = read_no_file(reader, Path(sys.argv[1]) / f"{number} {kind}", kind)
        if wrong:
            print(name, kind, wrong)
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_no_reader_waits_for_a_pipe_or_reads_without_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_FILES, str(tmp_path)]
    process = subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        said, last = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        said, last = process.communicate()
    assert (process.returncode, said) == (0, ""), last[-2000:]


@pytest.mark.filterwarnings("default")
def test_damaged_inputs_end_in_one_kind_of_error(tmp_path: Path) -> None:
    """In a process of its own, since some readers are C and not ours."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "4"],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.filterwarnings("ignore")
def test_feature_files_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    taken, wrong = attack_import(tmp_path, 150, seed=7)
    assert wrong == []
    assert taken > 5
