"""Starts and ends the server of `tools/serve.py`."""

import os
import socket

import numpy as np

from backbones.errors import UserError
from tasks.data.files.limits import ARRAY_BYTES, PIXELS
from tasks.prediction.loaded_model import LoadedModel, load_model
from tasks.progress import Reporter
from tasks.serving.arguments import ServeArguments

MISSING = 'serving needs FastAPI and uvicorn; expected them to be installed: pip install "polyhead[serve]"'
BYTES_A_PIXEL = 8  # of arrays and volumes, at the most
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(arguments: ServeArguments) -> None:
    """Serve until the process is told to stop (Ctrl-C, SIGTERM); what is being looked at is answered first.

    Raises:
        UserError: the model cannot be loaded, an option is out of range, or the address is taken.
    """
    _require(arguments)
    try:
        import uvicorn

        from tasks.serving.app import Limits, create_app
    except ImportError as error:
        if error.name not in ("uvicorn", "fastapi", "starlette", "python_multipart"):
            raise
        raise UserError(MISSING) from None

    # Where files are read, the environment decides; see `tasks.data.files.limits`.
    os.environ[PIXELS] = str(arguments.max_pixels)
    os.environ[ARRAY_BYTES] = str(arguments.max_pixels * BYTES_A_PIXEL)
    reporter = Reporter()
    model = load_model(arguments.model, arguments.device, arguments.only)
    for note in model.engine.notes():
        reporter.say(note)
    _warm_up(model)
    limits = Limits(
        upload_bytes=round(arguments.max_megabytes * 1e6),
        pixels=arguments.max_pixels,
        rate=arguments.rate,
        queue=arguments.queue,
        seconds=arguments.seconds,
    )
    listener = _listen(arguments.host, arguments.port)
    host, port = listener.getsockname()[:2]
    if arguments.host not in LOCAL:
        reporter.say(f"open to everybody who can reach {host}:{port}; there are no passwords")
    reporter.say(f"{model.description.name} at http://{'localhost' if host in LOCAL else host}:{port} (Ctrl-C stops)")
    config = uvicorn.Config(
        create_app(model, limits),
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # a client could claim any address
        server_header=False,
        limit_concurrency=max(64, 2 * arguments.queue),
        timeout_keep_alive=10,
        timeout_graceful_shutdown=max(1, round(arguments.seconds)),
    )
    uvicorn.Server(config).run(sockets=[listener])


def _require(arguments: ServeArguments) -> None:
    for name, value, least in (
        ("max_megabytes", arguments.max_megabytes, 0.001),
        ("max_pixels", arguments.max_pixels, 1),
        ("rate", arguments.rate, 0),
        ("queue", arguments.queue, 0),
        ("seconds", arguments.seconds, 0.001),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; expected at least {least}")
    if not 0 <= arguments.port < 65536:
        raise UserError(f"port is {arguments.port}; expected 1 to 65535, or 0 for a free one")


def _warm_up(model: LoadedModel) -> None:
    """Look at an empty image, so that the first person does not wait for what happens but once."""
    spec = model.description.image
    kind = np.float32 if spec.stores_real_numbers else np.uint8 if spec.bit_depth == 8 else np.uint16
    model(np.full((64, 64, spec.stored_channels), spec.black, kind))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: only by such sockets asyncio sends at once; else each answer waits 40 ms to be acknowledged.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # who comes before the server is up waits for it
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another --port, or 0"
        ) from None
    return listener
