"""A trained model, or the models of a cross-validation together, made ready for images that need no annotations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.accelerator import Accelerator
from torch.nn import functional as F

from backbones.errors import UserError
from heads.contract import ImageSizes
from tasks.checkpoint import Checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import DataConfig, Experiment, InferenceConfig, RunnerConfig
from tasks.data.augmentation.augment import fit_for_evaluation
from tasks.data.augmentation.geometry import Annotated
from tasks.data.batches import collate
from tasks.data.files.image_file import Pixels
from tasks.data.sample import Batch, Sample
from tasks.device import build_accelerator
from tasks.inference import Predictor
from tasks.model import build_model


def fold_runs(folder: Path) -> list[Path]:
    """The runs of a cross-validation, in order; none if the folder is something else."""
    if (folder / "checkpoints").exists():
        return []
    return sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name))  # fold_2 before fold_10


def accelerator_for(config: Experiment, device: str) -> Accelerator:
    """Device and precision to use a trained model with: those it was evaluated in."""
    # But fp16 is a choice for training on CUDA.
    precision = "auto" if config.runner.precision == "fp16" else config.runner.precision
    return build_accelerator(RunnerConfig.model_validate({"device": device, "precision": precision}))


def load_predictor(
    checkpoints: Sequence[Checkpoint], accelerator: Accelerator, inference: InferenceConfig | None = None
) -> tuple[Predictor, int]:
    """The models of some checkpoints together, and what their batches are padded to multiples of.

    Args:
        checkpoints: one a model.
        accelerator: the device.
        inference: how to predict; None is as the first checkpoint's config says.

    Raises:
        UserError: they have other classes or another input than the first, or a checkpoint is damaged.
    """
    first = checkpoints[0]
    models = []
    for checkpoint in checkpoints:
        if checkpoint.labels != first.labels or checkpoint.image != first.image:
            raise UserError(f"{checkpoint.folder}: its classes or images are not those of {first.folder}")
        model = build_model(checkpoint.config, checkpoint.labels)
        load_weights_strictly(model, checkpoint.weights(), checkpoint.folder)
        models.append(model.to(accelerator.device).to(memory_format=torch.channels_last))
    return Predictor(models, inference or first.config.inference), models[0].divisor


def batch_of(images: Sequence[Pixels], data: DataConfig, divisor: int, padded: tuple[int, int] | None = None) -> Batch:
    """Images (H, W, C) as they are evaluated, padded to a multiple of `divisor`, or to `padded`; numbered from 1."""
    boxes, none = np.zeros((0, 4)), np.zeros(0, np.int64)
    samples = []
    for image_id, image in enumerate(images, start=1):
        # Its own memory in one block, as torch wants it; a part of a larger image has neither.
        item = Annotated(np.require(image, requirements=["C", "W"]), boxes, none)
        size = image.shape[0], image.shape[1]
        fit_for_evaluation(item, data)
        samples.append(Sample(item.image, image_id, "", 0, size, boxes.astype(np.float32), none, none.astype(np.bool_)))
    batch = collate(samples, divisor)
    if padded is None:
        return batch
    height, width = batch.sizes.padded
    pixels = F.pad(batch.images, (0, padded[1] - width, 0, padded[0] - height))
    return replace(batch, images=pixels, sizes=ImageSizes(padded, batch.sizes.valid, batch.sizes.original))
