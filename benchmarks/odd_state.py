"""Commands on a state folder in which something is damaged or no file: one line each, no traceback.

    nice python -m benchmarks.odd_state [--rounds 3] [--seed 0] [--only runs | names]

A small state folder is made (digits through EfficientNet-Lite0, two heads, a bench, an audit, a
bundle). Each of its records and arrays is damaged in turn, by the mutations of `tests/fuzzing.py`,
or is replaced by a folder, a pipe, a device, a link to itself or a link to nothing; and every
option that takes a path is given a name of 300 letters, of 6,000, and one that is not UTF-8. After
each the commands that may read it are run as `main` runs them. A finding is any other exception
than their exit, or a command that takes longer than two minutes. All of it takes an hour.

Seen, with `--only memo --rounds 1` (111 commands), `--only names` (117) and `--only result --rounds
2` (126): no finding. Before they were mended, a state folder and a tag whose names are not UTF-8
ended in tracebacks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.cli.command import probe
from tests.finished import save_digits
from tests.fuzzing import mutated

LIMIT, MOST = 120, 400_000  # seconds a command; bytes of a file that is damaged
NETWORK = "--backbone efficientnet_lite0 --dataset digits --limit 200 --size 32"
BENCH = "bench --backbones efficientnet_lite0@32 --dataset digits --limit 200 --heads ridge"
COMMANDS = (
    "runs list", "runs show RUN", "runs compare RUN OTHER", "runs tag RUN x", "cache list",
    "cache verify --all", "cache prune --older-than 900d --dry-run", "report --out r.html",
    "report RUN --out r.html", "head --head ridge", "bundle RUN --out made", f"extract {NETWORK}",
    BENCH, "cache sync", "audit", "promote RUN --dry-run", "predict digits 00.png",
    "evaluate digits --dataset digits",
)  # fmt: skip
PLACES = (
    "memo.sqlite", "runs", "ledger", "benches", "benches/.scores", "runs/.elsewhere",
    "features", "features/.used", "features/.locks", "weights", "splits", "datasets",
)  # fmt: skip
NAMED = (
    f"extract {NETWORK} --cache-dir", f"extract {NETWORK} --weights", "head --out",
    f"extract {NETWORK} --preprocess", f"extract {NETWORK} --mean", "head --sample-weight",
    "extract --backbone efficientnet_lite0 --dataset", "extract --dataset digits --backbone",
    "head", "report --out", "report", "runs show", "runs tag RUN", "runs show RUN --csv",
    "runs compare RUN", "audit --out", "bundle RUN --out", "bundle", "predict digits", "predict",
    "explain digits", "explain digits 00.png --out", "export digits --to onnx", "evaluate",
    "cache list --cache-dir", "cache verify", "cache export", "cache import", "cache pack",
    "cache sync", "dataset show", "dataset pack digits", "dataset index", "dataset split",
    "weights check", "weights show", "backbones show", f"{BENCH} --dataset-root",
    "promote RUN --out",
)  # fmt: skip
INSTEAD: dict[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "nothing": lambda path: path.symlink_to("/nonexistent/file"),
    "rubbish": lambda path: path.write_bytes(b"\xff[1e999") and None,
}


class HangError(Exception):
    """A command took too long."""


class State:
    """A folder with state in ``my cache`` and a bundle, made once and copied back as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, list[str]()
        self.cache, self._whole = folder / "my cache", folder / "whole"
        save_digits(folder, 1)
        for command in (f"extract {NETWORK}", "head --head ridge", BENCH, "audit"):
            probe(command, cwd=folder)
        self.runs = sorted(path.parent.name for path in self.cache.glob("runs/*/result.json"))
        probe("bundle", self.runs[0], "--out", "digits", cwd=folder)
        shutil.copytree(self.cache, self._whole)
        self.tried = 0

    def again(self) -> None:
        """Make the state what it was."""
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.copytree(self._whole, self.cache)
        shutil.rmtree(self.folder / "made", ignore_errors=True)

    def run(self, what: str, command: str, *more: str) -> None:
        """Run a command and keep what it raised."""
        words = command.replace("RUN", self.runs[0]).replace("OTHER", self.runs[-1])
        self.tried += 1
        signal.alarm(LIMIT)
        try:
            probe(words, *more, cwd=self.folder)
        except AssertionError:  # a line and an exit code
            pass
        except Exception as error:  # what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            said = f"{what}; probe {command}: {where}: {error!s:.120}"
            self.found.append(said.encode("utf-8", "backslashreplace").decode())
            print(self.found[-1], flush=True)
        finally:
            signal.alarm(0)


def places(state: State) -> Iterator[Path]:
    """Yield what a state folder has in files that are not large."""
    for path in sorted(state.cache.rglob("*")):
        if path.is_file() and path.stat().st_size < MOST and path.suffix not in (".png", ".lock"):
            yield path


def main() -> int:
    """Attack the state and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="damaged copies of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a path, or `names`")
    asked = parser.parse_args()

    def stop(*_: object) -> None:
        raise HangError(f"more than {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    random = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder))
        for path in [one for one in places(state) if asked.only in str(one)]:
            name, whole = str(path.relative_to(state.cache)), path.read_bytes()
            for _ in range(asked.rounds):
                for command in random.choice(COMMANDS, 3, replace=False).tolist():
                    state.again()
                    path.write_bytes(mutated(whole, random))
                    state.run(f"{name} damaged", command)
        records = sorted(one.name for one in state.cache.glob(f"runs/{state.runs[0]}/*"))
        inside = [f"runs/{state.runs[0]}/{one}" for one in records]
        for name in (one for one in (*PLACES, *inside) if asked.only in one):
            for kind, make in INSTEAD.items():
                for command in COMMANDS:
                    state.again()
                    place = state.cache / name
                    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    make(place)
                    state.run(f"{name} is {kind}", command)
        state.again()
        for name in ("x" * 300, "/".join(["y" * 200] * 30), os.fsdecode(b"caf\xe9")):
            for command in NAMED if asked.only in "names" else ():
                state.run(f"a name of {len(name)} letters", command, name)
    print(f"{state.tried:,} commands, {len(state.found)} findings")
    return bool(state.found)


if __name__ == "__main__":
    sys.exit(main())
