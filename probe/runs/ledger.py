"""Count evaluations on test rows: one line each, in the cache folder's `ledger/`.

Entries of the cache are immutable, so this lies beside them. It goes by the images' content: the
same test images under another backbone, dataset name or head are the same test. The line is
written before the score is known, so that no evaluation can be taken back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import reason_of
from probe.core.records import loads_json
from probe.core.regular import append_regular, read_regular
from probe.errors import UsageError
from probe.runs.results import now


def record_test_evaluation(
    ledger: Path, content: NDArray[np.uint8], *, command: str, entry: str, count: int = 1
) -> int:
    """Write down that test rows are about to be scored; return how many evaluations that makes.

    Of two runs at once each is told its own number, that of its line.

    Parameters
    ----------
    ledger : Path
        The folder; made if it is not there.
    content : uint8, (n_rows, 16)
        Hash of each test image; their order does not matter.
    command, entry : str
        What was typed, and the features.
    count : int
        Heads that are about to be scored, a line each.

    Raises
    ------
    UsageError
        The ledger cannot be written: an evaluation that is not counted is refused.
    """
    path = ledger / f"{_digest(content)}.jsonl"
    line = {"time": now(), "rows": len(content), "entry": entry, "command": command}
    try:
        ledger.mkdir(parents=True, exist_ok=True)
        lines = count * (json.dumps(line, ensure_ascii=False) + "\n")
        end = append_regular(path, lines.encode(), sync=True)
        return len(read_regular(path)[:end].splitlines())
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({reason_of(error)}); the test split stays closed"
        ) from error


def read_test_evaluations(ledger: Path, content: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the evaluations on these test rows, oldest first; a damaged line still counts."""
    path = ledger / f"{_digest(content)}.jsonl"
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}), so that nobody knows how often this test "
            "split was scored; mend it"
        ) from error
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            found.append(dict(loads_json(line)))
        except (ValueError, TypeError):
            found.append({})
    return found


def _digest(content: NDArray[np.uint8]) -> str:
    import hashlib

    hashes = sorted(row.tobytes() for row in content)
    return hashlib.sha256(b"".join(hashes)).hexdigest()[:32]
