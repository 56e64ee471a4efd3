"""Memory of fine-tuning over the epochs: flat.

    python -m benchmarks.promote_memory [--epochs 12]

ResNet-18 at 32 pixels on 600 of scikit-learn's digits, with the strongest augmentation. The
resident size of the process is read when each epoch is told.

Showed: 536 to 538 MB after epochs 1 to 11, 548 MB after the last, whose best weights are scored.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.common import PROBE

EPOCH = re.compile(r"\s+(\d+)\s+\d\.\d+")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as folder:
        cache = ("--cache-dir", folder)
        for arguments in (
            ("extract", "--backbone", "resnet18", "--dataset", "digits", "--weights", "random:0",
             "--size", "32", "--limit", "600"),
            ("head", "--head", "path"),
        ):  # fmt: skip
            subprocess.run([*PROBE, *arguments, *cache], check=True, capture_output=True)
        asked = ("promote", "--epochs", str(epochs), "--optimizer", "sgd", "--augment", "strong")
        with subprocess.Popen(
            [*PROBE, *asked, *cache], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                if found := EPOCH.match(line):
                    print(f"epoch {found[1]:>3}  {resident(running.pid):.0f} MB", flush=True)
    if running.returncode:
        raise SystemExit(f"probe promote exited {running.returncode}")


def resident(pid: int) -> float:
    """Return the resident size of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


if __name__ == "__main__":
    main()
