"""Serve a bundle over HTTP: a small page, and an endpoint for programs.

limits.py        limits of requests: bytes, pixels, rate, origin
guard.py         middleware that enforces them before every route
worker.py        the one thread that runs the network, and its bounded queue
schema.py        the endpoint's requests and replies
app.py           routes and errors
connections.py   how uvicorn runs and stops
page/            the page, which loads nothing from other hosts
"""

from probe.serve.app import create_app
from probe.serve.limits import Limits, is_loopback

__all__ = ["Limits", "create_app", "is_loopback"]
