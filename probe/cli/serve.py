"""`probe serve`: serve a bundle as a page and an endpoint on this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from probe.cli.pass_options import Device, EngineName
from probe.errors import UsageError

WARNING = (
    "WARNING: {host} can be reached from other machines. Whoever reaches it may send images and "
    "see what the bundle says, names of training images included where it keeps them. There is no "
    "password and no encryption here: put a proxy in front that has both."
)


def serve(
    bundle: Annotated[Path, typer.Argument(help="What `probe bundle` made.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback others can reach it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    max_megabytes: Annotated[float, typer.Option(help="Largest size of a request.")] = 20.0,
    max_megapixels: Annotated[float, typer.Option(help="Largest size of an image.")] = 40.0,
    rate: Annotated[
        str, typer.Option(help="Images that one client may ask about in a time.")
    ] = "120/minute",
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Images that may wait, sent or being sent; more are refused with status 503.",
        ),
    ] = 16,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy in front, whose X-Forwarded-For says who asks; "
            "repeat it.",
            show_default="none is believed",
        ),
    ] = None,
    engine: EngineName = "auto",
    device: Device = "auto",
) -> None:
    """Serve a page where images can be dropped, and an endpoint for programs.

    \b
    Open http://127.0.0.1:8000/ in a browser, or send an image file:
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/api/predict?top_k=3'

    The answer is JSON; /openapi.json describes it, /healthz tells whether the server is well.
    """
    from probe.bundle import Bundle
    from probe.screen import console

    try:
        from probe.serve import Limits, create_app, is_loopback
        from probe.serve.connections import server_of
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed; run `pip install 'frozen-probe[serve]'`"
        ) from error
    limits = Limits(megabytes=max_megabytes, megapixels=max_megapixels, rate=rate, queue=queue)
    name = bundle.resolve().name.removesuffix(".probe")
    err = console.stderr()
    with _listen(host, port) as listening:
        loaded = Bundle.load(bundle, engine=engine, device=device)
        if any(one.engine.devices > 1 for one in loaded.networks):
            raise UsageError(f"--device {device}: images are answered one by one; name one device")
        app = create_app(loaded, name=name, limits=limits, host=host)
        if not is_loopback(host):
            err.print(WARNING.format(host=host))
        shown = f"[{host}]" if ":" in host else host
        err.print(f"{name}: http://{shown}:{listening.getsockname()[1]}/  (Ctrl-C stops it)")
        try:
            server_of(app, proxy or ()).run(sockets=[listening])
        except KeyboardInterrupt:  # as the line above has it; uvicorn raises it when all is closed
            raise typer.Exit(130) from None


def _listen(host: str, port: int) -> Any:
    """Return a listening socket, so that a port that is taken is known before the model loads."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)  # who connects before the server runs waits instead of failing
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port} ({error.strerror}); name others with --host "
            "and --port, 0 for any free port"
        ) from error
    return listening
