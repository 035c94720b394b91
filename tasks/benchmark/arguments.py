"""What `tools/benchmark.py` takes; nothing heavy is imported here."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from backbones.errors import UserError

Activity = Literal["train", "infer", "profile", "fit", "eval", "data", "heads", "startup"]
WorkloadName = Literal["detection", "unet", "deeplabv3plus", "classification", "cifar"]


@dataclass
class BenchmarkArguments:
    """Time Polyhead beside other libraries, in turn, or look where its own time and memory go. Leave the machine alone
    meanwhile."""

    what: tyro.conf.Positional[Activity]
    """train: a whole step of the optimizer. infer: a batch of predictions. profile: stages and operators of both, ours
    alone. fit: the largest batch that memory holds, ours alone. eval: the COCO metric on generated detections. data:
    images read and prepared. heads: predictions of all heads of a config at once, and one after another. startup: what
    commands and imports take."""
    peer: tuple[str, ...] = ()
    """train, infer, eval, data, startup: libraries to compare with, such as torchvision, smp, timm, pycocotools; by
    default all there are."""
    only: tuple[str, ...] = ()
    """The same: contestants to time, as the table names them, ours included; by default all of those libraries."""
    workload: WorkloadName | None = None
    """train, infer, profile, fit. detection: Faster R-CNN R50-FPN, torchvision's. unet: R34; deeplabv3plus: R50 at
    stride 16, both of smp. classification: R50, timm's. cifar: ResNet-20, a plain loop of torchvision's blocks. By
    default all in which a named --peer takes part, or else detection."""
    config: Path | None = None
    """profile, fit, heads: a config or the config.json of a run, in place of a workload, on the largest of its first
    batches."""
    root: Path | None = None
    """profile, fit, heads with --config: its data. data: a folder of images. startup: the data of the command that
    trains, with Pascal VOC's splits. By default generated ones."""
    runs: int | None = None
    """Timed runs of each contestant; by default 7, and 3 of eval and of commands that train."""
    warmup: int = 2
    """Runs before those; eval has a small one of its own."""
    batch: int | None = None
    """train, infer, profile, heads: images a batch; by default the workload's. fit: the first to try, 1."""
    side: int | None = None
    """train, infer, profile, fit: height and width in pixels; by default the workload's."""
    images: int | None = None
    """eval: images; by default 5,000 of boxes and 500 of masks."""
    workers: int = 2
    """data: processes that load."""
    memory_limit: str | None = None
    """fit: bytes that a process may hold, such as 8GiB; by default the memory that is available now. On a GPU, of its
    memory."""
    memory: bool = True
    """train, infer, heads: also measure the peak memory of each contestant, in a process of its own."""
    out: Path | None = None
    """Also write the figures to this json file."""
    markdown: Path | None = None
    """Also write the tables to this file, as markdown."""


MODELS: tuple[Activity, ...] = ("train", "infer", "profile", "fit")
COMPARED: tuple[Activity, ...] = ("train", "infer", "eval", "data", "startup")
TAKEN_BY: dict[str, tuple[Activity, ...]] = {
    "peer": COMPARED,
    "only": COMPARED,
    "workload": MODELS,
    "config": ("profile", "fit", "heads"),
    "root": ("profile", "fit", "data", "heads", "startup"),
    "warmup": ("train", "infer", "profile", "data", "heads", "startup"),
    "batch": (*MODELS, "heads"),
    "side": MODELS,
    "images": ("eval",),
    "workers": ("data",),
    "memory_limit": ("fit",),
    "memory": ("train", "infer", "heads"),
}


def require_sense(arguments: BenchmarkArguments) -> None:
    """Raise `UserError` for a number too small, or for an option without effect on what is measured."""
    least = {"runs": 1, "warmup": 0, "batch": 1, "side": 1, "images": 1, "workers": 0}
    for option, lowest in least.items():
        value = getattr(arguments, option)
        if value is not None and value < lowest:
            raise UserError(f"--{option} is {value}; expected at least {lowest}")
    for field in fields(arguments):
        activities = TAKEN_BY.get(field.name)
        if activities and arguments.what not in activities and getattr(arguments, field.name) != field.default:
            option = field.name.replace("_", "-")
            raise UserError(f"--{option} means nothing to {arguments.what}; it is for {', '.join(activities)}")
    for option in ("workload", "side"):
        if arguments.config is not None and getattr(arguments, option) is not None:
            raise UserError(f"--{option} and --config are both given; expected one: a config has its own")
    if arguments.what in ("profile", "fit") and arguments.root is not None and arguments.config is None:
        raise UserError("--root is given without --config; a workload has random images: leave it out")
