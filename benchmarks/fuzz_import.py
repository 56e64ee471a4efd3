"""Thousands of feature files that are whole and make no sense: each is imported or refused.

    nice python -m benchmarks.fuzz_import [--count 4000] [--seed 1]

What is in every array is drawn from seventy values (ragged lists, None, dictionaries, text that is
not UTF-8, no rows, numbers beyond 64 bits, ...), its name and the format, too; some files are cut
short or have another format's ending. `benchmarks/fuzz_readers.py` damages bytes instead.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

from tests.strange_features import attack_import


def main() -> int:
    """Attack `probe cache import` and print what ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        taken, wrong = attack_import(Path(folder), asked.count, asked.seed)
    for one in sorted(set(wrong)):
        print(one)
    print(f"{asked.count:,} files, {taken:,} imported, {len(wrong)} that ended otherwise")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
