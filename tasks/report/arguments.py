"""What the pages take on the command line; nothing heavy is imported here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tasks.arguments import Flattened
from tasks.config import Experiment

Device = Literal["auto", "cuda", "mps", "cpu"]


@dataclass
class ReportArguments:
    """Write what a run has come to as one HTML page: curves, metrics with intervals, errors, the worst images."""

    run: tyro.conf.Positional[Path]
    """A run folder."""
    out: Path | None = None
    """The page to write; by default report.html in the run folder."""
    data: Path | None = None
    """Where the data lie now, if that is not what the config says."""
    images: int = 6
    """Worst images to show of each head; 0 shows none, and needs neither data nor model."""
    draws: int = 500
    """Of images with repetition, for intervals; 0 leaves intervals out."""
    device: Device = "auto"
    """Where to run the model."""


@dataclass
class CompareArguments:
    """Tell whether runs differ by more than chance: a paired bootstrap over the images that all were scored on."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Two to eight run folders; the others are compared with the first."""
    out: Path = Path("comparison.html")
    """The page to write."""
    data: Path | None = None
    """Where the data lie now, if that is not what the configs say; for runs whose results are not kept with them."""
    draws: int = 2000
    """Of images with repetition."""
    device: Device = "auto"
    """Where to run a model, for runs whose results are not kept with them."""


@dataclass
class BrowseArguments:
    """Show what a model is given to learn from: images of an experiment, augmented, with their targets, as a page."""

    config: tyro.conf.Positional[Path | None] = None
    """The config, as for tools/train.py; any field can be given here."""
    split: Literal["train", "val"] = "train"
    """Which split; images to validate on are resized alone."""
    images: int = 24
    """How many, spread evenly over the split."""
    epochs: int = 4
    """The first so many, each with its own random changes."""
    classes: tuple[str, ...] = ()
    """Only images with one of these classes; empty is all."""
    out: Path = Path("data.html")
    """The page to write."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)
