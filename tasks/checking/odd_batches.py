"""Batches that chance may bring: one without annotations, one of a single image."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from heads.contract import IGNORED, BoxTargets, Outlines, Targets
from tasks.checking.batch import passed_at_once
from tasks.checking.finding import Finding, Kind, some
from tasks.checking.network import Network
from tasks.data.sample import Batch

EMPTY_BATCH_FAILS = Kind(
    "empty-batch-fails",
    "error",
    "The loss of a batch without any annotation cannot be computed, or is not finite.",
    "Training would stop when chance brings such a batch.",
)
SINGLE_IMAGE_FAILS = Kind(
    "single-image-fails",
    "error",
    "A single image cannot be predicted; or, where a forward pass of training has one image, not be trained on.",
    "Training or evaluation would stop.",
)
BATCH_NORM_ALONE = Kind(
    "batch-norm-alone",
    "warning",
    "A forward pass of training has one image (`data.batch_size` over `runner.accumulate`), and batch norms take their "
    "statistics from it.",
    "Each image is normalised by itself in training and by the average of all in evaluation: the two differ.",
)


def odd_batches(network: Network) -> Iterator[Finding]:
    """A batch without annotations, and one of a single image."""
    if network.batch is None or network.start.problem:
        return
    batch = network.batch.to(network.accelerator.device)
    model = copy.deepcopy(network.model).train()
    problem = _loss_problem(network, model, _emptied(batch))
    if problem:
        yield Finding(
            EMPTY_BATCH_FAILS,
            problem,
            "finite losses, zero or those of background alone",
            "let the head add zero for images without annotations; see heads.testing.check_head",
        )
    alone = batch.take(torch.tensor([0], device=batch.images.device))
    problem = _loss_problem(network, model, alone) if passed_at_once(network.subject) == 1 else ""
    if not problem:
        try:
            with torch.inference_mode(), network.accelerator.autocast():
                model.eval().predict(alone)
        except Exception as error:  # of a plug-in, as a rule
            problem = f"prediction: {type(error).__name__}: {error}"
    if problem:
        yield Finding(
            SINGLE_IMAGE_FAILS,
            problem,
            "losses and predictions of one image",
            "a batch norm behind a global pooling needs two images: raise data.batch_size, lower runner.accumulate",
        )


@torch.no_grad()
def _loss_problem(network: Network, model: nn.Module, batch: Batch) -> str:
    try:
        with network.accelerator.autocast():
            values = {name: float(value) for name, value in model(batch).items()}
    except Exception as error:  # of a plug-in, as a rule
        return f"{type(error).__name__}: {error}"
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    return f"{', '.join(broken)} is not finite" if broken else ""


def _emptied(batch: Batch) -> Batch:
    """The same images without annotations: no boxes, masks of background, labels unknown."""
    given = batch.targets
    boxes, masks, labels = given.boxes, given.masks, given.labels
    if boxes is not None:
        count, device = len(batch), boxes.boxes.device
        boxes = BoxTargets(
            torch.zeros(count, 0, 4, device=device),
            torch.zeros(count, 0, dtype=torch.int64, device=device),
            torch.zeros(count, 0, dtype=torch.bool, device=device),
            torch.ones(count, dtype=torch.bool, device=device),
            None if boxes.outlines is None else Outlines(boxes.outlines.bits[:, :0], boxes.outlines.known[:, :0]),
        )
    if masks is not None:
        masks = replace(masks, masks=torch.where(masks.masks == IGNORED, masks.masks, 0))
    if labels is not None:
        labels = replace(labels, annotated=torch.zeros_like(labels.annotated))
    return replace(batch, targets=Targets(given.seeds, boxes, labels, masks))


def batch_norms(network: Network) -> Iterator[Finding]:
    """Batch norms that see one image at a time."""
    if passed_at_once(network.subject) > 1:
        return
    model = copy.deepcopy(network.model).train()
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    if norms:
        data, accumulate = network.config.data, network.config.runner.accumulate
        yield Finding(
            BATCH_NORM_ALONE,
            f"{len(norms)} batch norms ({some(norms)}); data.batch_size is {data.batch_size}, runner.accumulate "
            f"{accumulate}",
            "several images in each pass, or another norm",
            "set backbone.norm to gn, or to frozen_bn with published weights; or raise data.batch_size or lower "
            "runner.accumulate",
        )
