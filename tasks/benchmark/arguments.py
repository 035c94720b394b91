"""What `tools/benchmark.py` takes; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

Activity = Literal["train", "infer", "startup"]
WorkloadName = Literal["detection", "unet", "deeplabv3plus", "classification", "cifar"]


@dataclass
class BenchmarkArguments:
    """Time Polyhead beside other libraries, in one process and in turn. Leave the machine alone meanwhile."""

    what: tyro.conf.Positional[Activity]
    """train: a whole step of the optimizer; infer: a batch of predictions; startup: what commands and imports take."""
    workload: WorkloadName = "detection"
    """detection: Faster R-CNN R50-FPN, torchvision's. unet: R34; deeplabv3plus: R50 at stride 16, both of
    segmentation-models-pytorch. classification: R50, timm's. cifar: ResNet-20, a plain loop of torchvision's blocks."""
    only: tuple[str, ...] = ()
    """Contestants to time, as the table names them, ours included; by default all."""
    runs: int = 7
    """Timed runs of each contestant."""
    warmup: int = 2
    """Runs before those."""
    batch: int | None = None
    """Images a batch; by default the workload's."""
    side: int | None = None
    """Height and width in pixels; by default the workload's."""
    memory: bool = True
    """Also measure the peak memory of each contestant, in a process of its own."""
    out: Path | None = None
    """Also write the figures to this json file."""
