"""A few damaged inputs for every reader; `benchmarks/fuzz_readers.py` has thousands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.filterwarnings("default")
def test_damaged_inputs_end_in_one_kind_of_error(tmp_path: Path) -> None:
    """In a process of its own, since some readers are C and not ours."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "4"],
        capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
