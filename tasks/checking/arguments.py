"""What the check takes on the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tasks.config import Experiment

Flattened = tyro.conf.arg(name="")
Part = Literal["data", "training"]


@dataclass
class CheckArguments:
    """Look for mistakes in the data and the training of an experiment before it is trained; docs/checking.md."""

    config: tyro.conf.Positional[Path | None] = None
    """The config, as for tools/train.py; any field can be given here."""
    only: tuple[Part, ...] = ("data", "training")
    """Which half of the checks to make."""
    seconds: Annotated[float, tyro.conf.arg(metavar="FLOAT")] = 40.0
    """About how long it may take; samples of images and steps of training shrink to fit."""
    json: Path | None = None
    """Also write the findings to this file."""
    out: Path | None = None
    """Folder for pictures of what was found; by default checks/<name>."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)
