"""`python -m probe` is `probe`."""

from probe.cli.app import main

main()
