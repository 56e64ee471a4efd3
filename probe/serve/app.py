"""The server's routes and error replies."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from probe.bundle import Bundle
from probe.core.text import visible
from probe.core.version import __version__
from probe.errors import ImageError
from probe.serve.guard import Guard
from probe.serve.limits import Limits, Pace, RefusedError
from probe.serve.schema import (
    REQUEST_BODY,
    BundleFacts,
    Health,
    Reply,
    failures,
    reply_of,
)
from probe.serve.worker import Worker

log = logging.getLogger(__name__)

# the last one is the default of `curl --data-binary @FILE`
RAW = ("", "application/octet-stream", "application/x-www-form-urlencoded")
ASSETS = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}


def create_app(
    bundle: Bundle, *, name: str, limits: Limits | None = None, host: str = "127.0.0.1"
) -> FastAPI:
    """Return the server for a bundle, which nothing else may use from now on.

    Parameters
    ----------
    name : str
        The bundle's name on the page.
    host : str
        The address on which it will listen.

    Raises
    ------
    UsageError
        The rate is not valid.
    """
    limits = limits or Limits()
    worker, pace, receiving = Worker(bundle, limits), Pace(limits.rate), set[asyncio.Task[Any]]()
    name = visible(name)  # a file's name may be no text, which a reply could not hold

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(
        title="probe",
        version=__version__,
        description=f"Predictions of {name} for images. Every failure of a valid HTTP request has "
        'a body of the form {"error": {"code": ..., "message": ...}}.',
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_page(app)
    _add_facts(app, bundle, name, worker)
    _add_predict(app, worker, pace)
    app.add_middleware(Guard, limits=limits, bound_to=host, receiving=receiving)
    # for `probe.serve.connections`, when the server stops
    app.state.stop, app.state.receiving, app.state.close = worker.stop, receiving, worker.close
    return app


def _add_predict(app: FastAPI, worker: Worker, pace: Pace) -> None:
    @app.post(
        "/api/predict",
        summary="The most probable classes of one image, or its labels",
        response_model_exclude_none=True,
        responses=failures(400, 403, 408, 413, 415, 421, 422, 429, 503),
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=1000)] = 5,
        neighbours: Annotated[int, Query(ge=0, le=50)] = 0,
    ) -> Reply:
        """The body is the image file itself, or a form with the field `image`."""
        pace.count(request.client.host if request.client else "")
        data = await _image_of(request)
        task = worker.submit(data, top_k=top_k, neighbours=neighbours)
        return reply_of(await asyncio.wrap_future(task))


async def _image_of(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=1) as form:
            field = form.get("image")
            if not isinstance(field, UploadFile):
                raise RefusedError(
                    422, "no_image", "the form has no file in a field called `image`"
                )
            return await field.read()
    if kind in RAW or kind.startswith("image/"):
        data = io.BytesIO()  # `request.body` has all its parts and the whole at once
        async for part in request.stream():
            data.write(part)
        return data.getvalue()
    raise RefusedError(
        415,
        "unsupported_media_type",
        "send the image file as application/octet-stream or image/*, or in a form as `image`",
    )


def _add_facts(app: FastAPI, bundle: Bundle, name: str, worker: Worker) -> None:
    about, rejection = bundle.about, bundle.about.rejection
    flags = [] if rejection is None else [
        word
        for word, threshold in (
            ("low-confidence", rejection.confidence), ("out-of-distribution", rejection.distance)
        )
        if threshold is not None
    ]  # fmt: skip
    facts = BundleFacts(
        name=name,
        backbone=about.backbone,
        dataset=about.dataset,
        classes=list(about.classes),
        several=about.several,
        sizes=[spec.size for spec in bundle.inputs],
        calibrated=about.temperature is not None,
        flags=flags,
        weights=about.weights,
        licence=about.licence,
    )

    @app.get("/api/bundle", summary="Facts about the bundle", responses=failures(403, 421))
    async def bundle_facts() -> BundleFacts:
        return facts

    @app.get(
        "/healthz", summary="Whether the server answers images", responses=failures(403, 421, 503)
    )
    async def health() -> Health:
        if not worker.alive:
            raise RefusedError(
                503, "stopped", "the network's thread has stopped; start the server again"
            )
        return Health(status="ok", waiting=worker.waiting)


def _add_page(app: FastAPI) -> None:
    folder = files("probe.serve").joinpath("page")
    contents = {name: folder.joinpath(name).read_bytes() for name in ASSETS}

    def add(route: str, name: str) -> None:
        @app.get(route, include_in_schema=False)
        async def asset() -> Response:
            return Response(contents[name], media_type=ASSETS[name])

    add("/", "index.html")
    for name in ("page.js", "page.css"):
        add(f"/{name}", name)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return _refused(error)

    @app.exception_handler(ImageError)
    async def unreadable(_: Request, error: ImageError) -> Response:
        return _refused(RefusedError(422, "unreadable_image", f"the image {error.reason}"))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _refused(RefusedError(422, "invalid_parameter", f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def standard(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        response = _refused(RefusedError(error.status_code, code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        raise error  # the guard knows whether the client is still there

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return _refused(RefusedError(500, "internal", "internal error; see the server's log"))


def _refused(refusal: RefusedError) -> JSONResponse:
    headers: dict[str, Any] = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    return JSONResponse(refusal.to_json(), refusal.status, headers=headers)
