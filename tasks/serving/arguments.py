"""What `tools/serve.py` takes; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class ServeArguments:
    """Serve a model over HTTP: a page to drop images on, and an API that answers with JSON (docs/serving.md)."""

    model: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint), a checkpoint, the folder of a cross-validation, or a file that
    tools/export.py wrote."""
    host: str = "127.0.0.1"
    """Address to listen on. The default answers this machine alone; 0.0.0.0 answers everybody who can reach it: there
    are no passwords."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to run the model."""
    only: tuple[str, ...] = ()
    """Heads to predict with; by default all."""
    max_megabytes: float = 32
    """Uploads of more are refused."""
    max_pixels: int = 50_000_000
    """Images of more pixels are refused before they are decoded."""
    rate: int = 120
    """Images a minute that each client may send; 0 for any number."""
    queue: int = 16
    """Images that may wait for the model; more are asked to come back later."""
    seconds: float = 60
    """Longest time that an upload, and then a prediction, may take."""
