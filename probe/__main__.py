"""`python -m probe` is `probe`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C is one line while it is imported, too."""
    try:
        from probe.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("probe: interrupted\n")
        sys.exit(130)
    try:
        run()
    finally:
        gc.freeze()  # at its end Python would search all objects for garbage, which takes 0.1 s


if __name__ == "__main__":
    main()
