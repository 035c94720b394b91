"""Our side of a benchmark: the runner as tools/train.py puts it together, and a batch for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch.nn import functional as F

from backbones.errors import UserError
from heads import BoxTargets, ImageSizes, LabelTargets, MaskTargets, Targets
from tasks.benchmark.accelerator import device
from tasks.config import BackboneConfig, DataConfig, Experiment, HeadConfig, ModelConfig, OptimizerConfig, RunnerConfig
from tasks.data.formats.cells import CLASSES, write_cells
from tasks.data.sample import Batch
from tasks.experiment_file import read_experiment
from tasks.runner import Runner
from tasks.training import build_runner

BOXES = 8  # an image
LABELS = 10
LOOKED_AT = 16  # batches of a config, for the largest


@dataclass(frozen=True, slots=True)
class Ours:
    """A runner and what it is given.

    Attributes:
        runner: before its first step.
        batch: on the CPU, as loaders give it.
    """

    runner: Runner
    batch: Batch

    def train(self) -> None:
        """One step of the optimizer."""
        self.runner.stepper.take([self.batch])

    def infer(self) -> object:
        """Predictions of the batch, as in an evaluation."""
        with torch.inference_mode(), self.runner.accelerator.autocast():
            return self.runner.predictor(self.batch.to(self.runner.accelerator.device))

    @torch.no_grad()
    def loss(self) -> float:
        """Of the batch, without a step."""
        batch = self.batch.to(self.runner.accelerator.device)
        return float(torch.stack(list(self.runner.stepper.model.train()(batch).values())).sum())


def from_workload(
    head: tuple[str, HeadConfig],
    backbone: BackboneConfig,
    batch: Batch,
    folder: Path,
    *,
    precision: str = "auto",
    weights: Path | None = None,
) -> Ours:
    """A network by its parts, which trains on a given batch.

    Args:
        head: by the name of what it learns.
        backbone: below it.
        batch: from `make_batch`.
        folder: to write to.
        precision: as in a config.
        weights: initial ones, a file as for `model.weights`.
    """
    kind = head[0]
    if kind == "labels":
        root = folder / "data.npz"
        np.savez(root, images=np.zeros((4 * LABELS, 8, 8, 3), np.uint8), labels=np.arange(4 * LABELS) % LABELS)
    else:
        root = write_cells(folder, train=40, val=4, size=64)
    config = Experiment(
        name="benchmark",
        backbone=backbone,
        heads={kind: head[1]},
        model=ModelConfig(weights=weights),
        data=DataConfig(root=root, batch_size=1, workers=0),
        optimizer=OptimizerConfig(lr=1e-4),
        runner=RunnerConfig(device=device().type, precision=precision),  # type: ignore[arg-type]
    )
    return Ours(_runner(config, folder), batch)


def from_config(
    path: Path, root: Path | None, images: int | None, folder: Path, change: Callable[[Experiment], object]
) -> Ours:
    """A config as `tools/train.py` would train it, from random weights, on the largest of its first batches.

    Args:
        path: of the config, or of a run's config.json.
        root: its data; None takes what the config names, or else its generated sample.
        images: a batch, repeated or cut to so many; None is the config's.
        folder: to write to.
        change: is given the experiment before anything is built.

    Raises:
        UserError: the config or its data cannot be used.
    """
    source = read_experiment(path)
    config = source.experiment
    if root is not None:
        config.data.root = root
    elif config.data.root is not None and not config.data.root.exists():
        if source.sample is None:
            raise UserError(f"{path}: data.root is {config.data.root}, which does not exist; give its data with --root")
        config = source.sample()
    config.backbone.weights = config.model.weights = None  # Which weights they are changes neither time nor memory.
    config.data.workers, config.runner.accumulate = 0, 1
    config.runner.device = "cuda" if device().type == "cuda" else "cpu"
    change(config)
    runner = _runner(config, folder)
    batches = [passes[0] for passes in islice(runner.loader.steps(0), LOOKED_AT)]
    largest = max(batches, key=lambda batch: batch.images.numel())
    index = torch.arange(images or config.data.batch_size) % len(largest)
    return Ours(runner, largest.take(index))


def make_batch(kind: str, images: int, side: int) -> Batch:
    """Random images with targets of one kind, the same ones each time: "boxes", "masks" or "labels"."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    size, annotated = torch.full((images, 2), side), torch.ones(images, dtype=torch.bool)
    targets = Targets(torch.arange(images))
    match kind:
        case "boxes":
            corner = torch.rand(images, BOXES, 2, generator=generator) * side * 0.6
            extent = (0.1 + 0.3 * torch.rand(images, BOXES, 2, generator=generator)) * side
            labels = torch.randint(0, len(CLASSES), (images, BOXES), generator=generator)
            boxes = torch.cat((corner, corner + extent), dim=2)
            crowd = torch.zeros(images, BOXES, dtype=torch.bool)
            targets = replace(targets, boxes=BoxTargets(boxes, labels, crowd, annotated))
        case "masks":
            masks = torch.randint(0, len(CLASSES) + 1, (images, 1, side, side), dtype=torch.uint8, generator=generator)
            targets = replace(targets, masks=MaskTargets(masks, annotated))
        case _:
            labels = torch.randint(0, LABELS, (images,), generator=generator)
            targets = replace(targets, labels=LabelTargets(F.one_hot(labels, LABELS).float(), annotated))
    return Batch(pixels, ImageSizes((side, side), size, size), targets, tuple(range(images)), ("random",) * images)


def _runner(config: Experiment, folder: Path) -> Runner:
    AcceleratorState._reset_state()  # it holds the precision of the one before
    return build_runner(config, out=folder / "run")
