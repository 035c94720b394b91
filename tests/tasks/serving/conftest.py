"""A served model without a network: requests go to the application itself."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from tasks import load_model
from tasks.serving.app import Limits, create_app

LIMITS: dict[str, Any] = {"upload_bytes": 200_000, "pixels": 1_000_000, "rate": 0, "queue": 4, "seconds": 30.0}
Serve = Callable[..., TestClient]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """`served(run, rate=5)`: a client of that run's model, with other limits than above where some are given."""
    monkeypatch.setenv("POLYHEAD_MAX_PIXELS", str(LIMITS["pixels"]))
    with ExitStack() as stack:

        def serve(run: Path, **limits: Any) -> TestClient:
            app = create_app(load_model(run, device="cpu"), Limits(**{**LIMITS, **limits}))
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield serve


@pytest.fixture
def image(tiny_data: Path) -> Path:
    return sorted((tiny_data / "val").glob("*.png"))[0]


def encoded(height: int, width: int, suffix: str = ".png") -> bytes:
    """A file of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1])
