"""A bundle behind HTTP: a small page for people, an endpoint for programs.

limits.py   what a request may cost: bytes, pixels, how often, from where
worker.py   the one thread that runs the network, and its bounded queue
app.py      routes and errors
page/       the page, without anything from the network
"""

from probe.serve.app import create_app
from probe.serve.limits import Limits, is_loopback

__all__ = ["Limits", "create_app", "is_loopback"]
