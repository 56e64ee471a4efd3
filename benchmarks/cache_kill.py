"""Kill commands that write entries hundreds of times at random moments; nothing may differ after.

    python -m benchmarks.cache_kill [--kills 150] [--seed 1]

Kinds: `extract`, `extract --views flip`, `sync` (images replaced and added), `pack`, `pack --dtype
float16` and `import`, each until that many processes were killed. In each sequence up to 6 of them
are killed (SIGKILL) at random moments, one after another, and the last one ends. What a listing
shows must be whole at any time: bytes of the entry before, or of the one after. In the end
features, labels, ids, content, key and checksums have to be those of a run that nobody interrupted,
with nothing left but what `probe cache prune --partial` removes; and a kill may cost no more rows
than a block and a batch.

Seen on two cores: 323 entries, 904 kills (extract 151, with views 150, sync 150, pack 153, pack to
float16 150, import 150): 0 differ, 0 partial ones listed or left; a kill cost at most 384 rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

from tests.cache.killing import BATCH, BLOCK, KINDS


def main() -> None:
    """Print what came of it; exit 1 if anything differed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.executable, "-m", "tests.cache.killing", folder]
        done = subprocess.run(
            [*script, str(arguments.seed), str(arguments.kills)],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    bad = [report(kind, [one for one in results if one["kind"] == kind]) for kind in KINDS]
    print(f"{len(results)} entries, {sum(one['kills'] for one in results)} kills")
    sys.exit(1 if any(bad) else 0)


def report(kind: str, results: list[dict[str, Any]]) -> int:
    """Print one line of a kind and return how much went wrong."""
    kills = sum(one["kills"] for one in results)
    bad = sum(not one["same"] or one["code"] != 0 for one in results)
    listed = sum(one["wrongly_listed"] + one["left_over"] for one in results)
    lost = max(one["lost_rows_a_kill"] for one in results)
    print(
        f"{kind}: {len(results)} entries, {kills} kills: {bad} differ, {listed} partial ones "
        f"listed or left; at most {lost:.0f} rows lost a kill (a block is {BLOCK}, a batch {BATCH})"
    )
    return bad + listed + (lost > BLOCK + BATCH)


if __name__ == "__main__":
    main()
