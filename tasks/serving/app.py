"""The HTTP interface: routes, limits and errors. FastAPI writes its schema, `/openapi.json`, from the types here."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from tasks.prediction.loaded_model import LoadedModel
from tasks.serving.answers import (
    ErrorAnswer,
    HealthAnswer,
    LimitsAnswer,
    ModelAnswer,
    PredictionAnswer,
    head_answers,
)
from tasks.serving.rate_limit import RateLimit
from tasks.serving.refusal import Refusal
from tasks.serving.upload import KINDS
from tasks.serving.worker import Wish, Worker

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
# The page needs nothing from elsewhere, and nothing else may frame it or be loaded by it.
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": what}
    for status, what in {
        400: "The form is none.",
        408: "The upload took too long.",
        413: "The upload or the image is too large.",
        415: "The upload is no image of a known kind.",
        422: "The image or an option cannot be used.",
        429: "The client sends too many images; see Retry-After.",
        503: "Too many images wait; see Retry-After.",
        504: "The prediction took too long.",
    }.items()
}
log = logging.getLogger("polyhead.serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused.

    Attributes:
        upload_bytes: uploads of more.
        pixels: images of more; told here, but looked after where files are read (`tasks.data.files.limits`).
        rate: images a minute of each client; 0 for any number.
        queue: images that may wait.
        seconds: longest time of an upload, and then of a prediction.
    """

    upload_bytes: int
    pixels: int
    rate: int
    queue: int
    seconds: float


@dataclass(slots=True)
class Counts:
    """Requests so far."""

    answered: int = 0
    refused: int = 0
    failed: int = 0


def create_app(model: LoadedModel, limits: Limits) -> FastAPI:
    """The application that serves a model."""
    worker, rate, counts, begun = (
        Worker(model, limits.queue, limits.seconds),
        RateLimit(limits.rate),
        Counts(),
        time.time(),
    )
    description = model.description

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(
        title=f"Polyhead: {description.name}",
        version=version("polyhead"),
        description=f"Predictions of one model. Images are files of the kinds {KINDS}.",
        docs_url=None,  # these pages are loaded from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )

    @app.middleware("http")
    async def finish(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await respond(request)
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it; as nginx logs it
        except Exception:
            # The server lives on, whatever one image does to the model.
            log.exception("%s %s", request.method, request.url.path)
            response = _error(500, "the model failed on this image; the log of the server says how", "server")
        counts.failed += response.status_code in (500, 504)
        counts.refused += 400 <= response.status_code < 500 or response.status_code == 503
        for name, value in SAFE_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Refusal)
    async def refuse(_: Request, error: Refusal) -> Response:
        return _error(error.status, str(error), error.field, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_option(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return _error(422, f"{field} is {first.get('input')!r}: {first['msg']}"[:300], field)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            message = "there is nothing at this address; expected /, /predict, /model, /health or /openapi.json"
            return _error(404, message, "path")
        return _error(error.status_code, str(error.detail), "request", error.headers)

    @app.get("/health")
    async def health() -> HealthAnswer:
        """Whether the server works; answers while the model is at work, too."""
        return HealthAnswer(
            status="busy" if worker.full else "ok",
            uptime=time.time() - begun,
            waiting=worker.waiting,
            answered=counts.answered,
            refused=counts.refused,
            failed=counts.failed,
        )

    @app.get("/model")
    async def served() -> ModelAnswer:
        """What is served: heads with their classes, what images become, and what is refused."""
        return ModelAnswer(
            name=description.name,
            version=app.version,
            channels=description.image.channels,
            bit_depth=description.image.bit_depth,
            heads=head_answers(description),
            limits=LimitsAnswer(
                bytes=limits.upload_bytes,
                pixels=limits.pixels,
                images_a_minute=limits.rate,
                waiting=limits.queue,
                seconds=limits.seconds,
            ),
        )

    @app.post("/predict", responses=REFUSALS, openapi_extra=IMAGE_BODY, response_model_exclude_none=True)
    async def predict(
        request: Request,
        threshold: Annotated[float, Query(ge=0, le=1, description="boxes that score less are left out")] = 0.0,
        head: Annotated[list[str], Query(description="heads to answer; none given: all")] = [],  # noqa: B006
        frame: Annotated[int, Query(ge=0, description="of a file that holds several images")] = 0,
        picture: Annotated[bool, Query(description="send the image back, as a browser can show it")] = False,
    ) -> PredictionAnswer:
        """What the model finds in one image, the body of the request or the file of a form."""
        rate.take(request.client.host if request.client else "")
        heads = list(description.heads)
        if odd := [name for name in head if name not in heads]:
            raise Refusal(422, f"head is {odd[0]!r}; expected one of {', '.join(heads)}", "head")
        content = await _uploaded(request, limits)
        wish = Wish([name for name in heads if not head or name in head], threshold, frame, picture)
        answer = await worker.answer(content, wish)
        counts.answered += 1
        return answer

    for path, file in PAGE_FILES.items():
        app.add_api_route(path, _page(file), include_in_schema=False)
    return app


def _page(file: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(PAGE / file)

    return send


def _error(status: int, message: str, field: str, headers: Any = None) -> JSONResponse:
    return JSONResponse(ErrorAnswer(error=message, field=field).model_dump(), status, headers)


async def _uploaded(request: Request, limits: Limits) -> bytes:
    """The body of a request, or the file of a form in it.

    Raises:
        Refusal: 400, there is none; 408, it took too long; 413, it is too large.
    """
    bounded = Request(request.scope, _bounded(request.receive, limits.upload_bytes))
    try:
        async with asyncio.timeout(limits.seconds):
            if not request.headers.get("content-type", "").startswith("multipart/form-data"):
                content = await bounded.body()
            else:
                async with bounded.form(max_files=1, max_fields=8) as form:
                    files = [value for value in form.values() if not isinstance(value, str)]
                    if not files:
                        raise Refusal(400, "the form holds no file; expected one, in the field file", "file")
                    content = await files[0].read()
    except TimeoutError:
        message = f"the upload did not end within {limits.seconds:g} s; expected it to, or a smaller file"
        raise Refusal(408, message, "body") from None
    if not content:
        raise Refusal(400, "the body is empty; expected an image file", "body")
    return content


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive`, until more than `most` bytes of a body have come."""
    come = 0

    async def receive_some() -> Message:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > most:
            raise Refusal(
                413, f"the upload has more than {most} bytes; expected at most that: send a smaller image", "body"
            )
        return message

    return receive_some
