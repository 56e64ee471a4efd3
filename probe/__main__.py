"""`python -m probe` is `probe`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C is one line while it is imported, too."""
    try:
        from probe.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("probe: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
