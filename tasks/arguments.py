"""What the commands take; nothing heavy is imported here. Explaining and the study of depth have theirs beside them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tasks.config import Experiment

Flattened = tyro.conf.arg(name="")


@dataclass
class TrainArguments:
    """Train an experiment: CONFIG is a Python config or the config.json of a run; any field can be given here."""

    config: tyro.conf.Positional[Path | None] = None
    """configs/det/faster_rcnn_r50_fpn.py, say; not needed with --resume."""
    resume: Path | None = None
    """A run folder to go on with, exactly where it stopped."""
    init: Path | None = None
    """A run or checkpoint whose weights to start from; layers that do not fit, such as other classes, start anew."""
    out: Path | None = None
    """Folder of the new run; by default runs/<name>."""
    only: tuple[str, ...] = ()
    """Heads of the config to train, without the others."""
    check: bool = False
    """Look for mistakes first, as tools/check.py does, and do not begin if there is an error."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)


@dataclass
class TrainOnRayArguments:
    """Train on a Ray cluster, or on this machine if RAY_ADDRESS names none. What tools/train.py would be given follows
    a `--`: a config, --out with a folder that all hosts see, and any field."""

    processes: int = 2
    """How many; each takes a part of every batch."""
    gpus: bool = False
    """Give each a GPU."""
    cpus: int = 1
    """Cores that each is given."""
    max_failures: int = 0
    """Start all again, from the last checkpoint, so many times when one is lost."""


@dataclass
class CrossValidateArguments:
    """Train an experiment fold by fold and score every image by the model that has not seen it."""

    config: tyro.conf.Positional[Path | None] = None
    """configs/med/unet_r18_isbi2012.py, say."""
    out: Path | None = None
    """Folder of the runs; by default runs/<name>-<folds>-fold. The same command goes on where it was stopped."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)


@dataclass
class EvaluateArguments:
    """Score a run on its validation data, or a COCO results file on its annotations."""

    run: tyro.conf.Positional[Path | None] = None
    """A run folder (its best checkpoint) or a checkpoint."""
    annotations: Path | None = None
    """With --results: COCO annotations."""
    results: Path | None = None
    """COCO results json to score instead of a run."""
    kind: Literal["bbox", "segm"] = "bbox"
    """What the results file holds."""
    out: Path | None = None
    """Also write the metrics to this json file."""
    only: tuple[str, ...] = ()
    """Heads to score; by default all that learned in this run."""
    experiment: Annotated[Experiment, Flattened] = field(default_factory=Experiment)


@dataclass
class PredictArguments:
    """Run a trained model on images and videos: writes predictions.json, masks, and the images with what was found
    drawn. The exit code is 1 where a file could not be read and was left out, 2 where nothing could be done."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint), a checkpoint, the folder of a cross-validation (all its models), or a file
    that tools/export.py wrote."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, videos, folders of them, or glob patterns."""
    out: Path = Path("predictions")
    """Folder to write to."""
    threshold: float = 0.5
    """Boxes and labels that score less are not drawn, and such boxes are not in coco, yolo and voc; json and csv hold
    all."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to run."""
    only: tuple[str, ...] = ()
    """Heads to predict with; by default all."""
    formats: tuple[Literal["json", "masks", "drawn", "csv", "coco", "yolo", "voc"], ...] = ("json", "masks", "drawn")
    """What to write: rows as json, masks as PNG, drawn images or videos, a table, or annotations of a data set."""
    tile: int | None = None
    """Look at large images in tiles of so many pixels a side, and merge their boxes; for boxes."""
    overlap: float = 0.2
    """Share of a tile that the next one covers again."""


@dataclass
class ReplayArguments:
    """Take one step of a run again, exactly as it was, and show its images, losses, gradients and times."""

    run: tyro.conf.Positional[Path]
    """A run folder; nothing in it is changed."""
    step: int
    """Which, counted from 1 as in metrics.jsonl."""
    out: Path | None = None
    """Also write what is shown to this json file."""


@dataclass
class ListArguments:
    """Name the registered backbones, heads and configs with their size."""

    what: tyro.conf.Positional[str] = "all"
    """all, backbones, heads or configs; or the backbones of a pattern, such as 'resnet*' or 'timm/convnext_*'."""


@dataclass
class PlanArguments:
    """Measure a data set and write a config for it, with the reason for each choice, to be edited and trained."""

    data: tyro.conf.Positional[Path]
    """Folder (or CSV or npz file) with the data."""
    task: Literal["boxes", "masks", "labels"] | None = None
    """What to learn; None looks for boxes, then masks, then labels of images."""
    out: Path | None = None
    """The config to write; by default <data>_plan.py."""


@dataclass
class ExportWeightsArguments:
    """Write the weights of a run by the names of another library, which then loads them as its own."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint) or a checkpoint."""
    layout: Literal["torchvision", "timm", "smp", "detectron2", "mmdetection"]
    """Whose names."""
    out: Path
    """The file, .pth or .safetensors."""
    head: str | None = None
    """Which head, where a run has several."""
