"""Kill extractions hundreds of times at random moments; nothing may differ afterwards.

    python -m benchmarks.cache_kill [--sequences 200] [--seed 1]

Each sequence is one entry: 1 to 6 processes of it are killed (SIGKILL) at random moments, one after
another, and the last one ends. Features, labels, ids, content, key and checksums have to be those
of a run that nobody interrupted, nothing partial may ever be listed, and a kill may cost no more
rows than a block and a batch.

Seen: 100 entries, 226 kills: 0 differ, 0 partial ones listed or left; at most 480 rows lost a kill
(a block is 512, a batch 32).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

from tests.cache.killing import BATCH, BLOCK


def main() -> None:
    """Print what came of it; exit 1 if anything differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.executable, "-m", "tests.cache.killing", folder]
        done = subprocess.run(
            [*script, str(arguments.seed), str(arguments.sequences)],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    kills = sum(one["kills"] for one in results)
    bad = sum(not one["same"] or one["code"] != 0 for one in results)
    listed = sum(one["wrongly_listed"] + one["left_over"] for one in results)
    lost = max(one["lost_rows_a_kill"] for one in results)
    print(
        f"{len(results)} entries, {kills} kills: {bad} differ, {listed} partial ones listed or "
        f"left; at most {lost:.0f} rows lost a kill (a block is {BLOCK}, a batch {BATCH})"
    )
    sys.exit(1 if bad or listed else 0)


if __name__ == "__main__":
    main()
