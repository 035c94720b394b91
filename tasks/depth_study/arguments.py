"""What `tools/study_depth.py` takes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tasks.config import Experiment

NETWORKS = (
    *(f"cifar_plain{depth}" for depth in (20, 32, 44, 56)),
    *(f"cifar_resnet{depth}" for depth in (20, 32, 44, 56)),
    "cifar_highway19",
    "cifar_highway32",
    "cifar_densenet40",
)


@dataclass
class StudyDepthArguments:
    """Train networks of growing depth by the recipe of CONFIG, and write a page on what depth did to each family."""

    config: tyro.conf.Positional[Path | None] = None
    """configs/cls/cifar_resnet20.py, say."""
    networks: tuple[str, ...] = NETWORKS
    """Registered networks with their depth in their names; those of one family are joined by a line."""
    out: Path | None = None
    """Folder of the runs; by default runs/study_depth. The same command goes on where it was stopped."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = field(default_factory=Experiment)
