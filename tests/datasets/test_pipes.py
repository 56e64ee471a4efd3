"""A pipe or a device that is called like a dataset is refused, and never waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from probe.datasets.forms.formats import FORMATS
from probe.datasets.images.packed import ByteFile
from probe.errors import DataError

LOAD = """
import sys
from probe.datasets import load_dataset
from probe.errors import ProbeError
for place in sys.argv[1:]:
    print(place, flush=True)
    try:
        load_dataset(place)
    except ProbeError:
        continue
    raise SystemExit("was read")
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")


def test_no_form_opens_one(tmp_path: Path) -> None:
    places = []
    for ending in sorted({ending for one in FORMATS for ending in one.endings}):
        for kind in ("pipe", "device"):
            place = tmp_path / f"{kind} {ending}" / f"train{ending}"
            place.parent.mkdir()
            if kind == "pipe":
                os.mkfifo(place)
            else:
                place.symlink_to("/dev/zero")
            places += [str(place), str(place.parent)]  # the file, and a folder of such files
    command = [sys.executable, "-c", LOAD, *places]
    process = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE)
    try:
        said = process.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0]
    assert process.returncode == 0, said.splitlines()[-1]
    assert said.splitlines() == places


def test_a_file_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match="is not a regular file but a pipe"):
        ByteFile(tmp_path / "a.tar")
