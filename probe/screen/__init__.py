"""What is shown while something runs: the same for the command line and for Python.

Messages and bars go to stderr, or into a notebook; `probe.screen.console.quiet` silences them.
"""
