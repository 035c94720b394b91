"""Annotated boxes in the form that all detectors assume."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from heads.contract import BoxTargets


def at_least_one_box(boxes: BoxTargets | None, images: int, device: torch.device) -> BoxTargets:
    """The same targets with room for one box, which spares all that follows the case of none.

    Args:
        boxes: of a batch; None stands for one that nobody annotated.
        images: B.
        device: of targets that are made here.
    """
    if boxes is None:
        boxes = BoxTargets(
            boxes=torch.zeros(images, 0, 4, device=device),
            labels=torch.zeros(images, 0, dtype=torch.int64, device=device),
            crowd=torch.zeros(images, 0, dtype=torch.bool, device=device),
            annotated=torch.zeros(images, dtype=torch.bool, device=device),
        )
    if boxes.labels.shape[1]:
        return boxes
    return replace(
        boxes,
        boxes=F.pad(boxes.boxes, (0, 0, 0, 1)),
        labels=F.pad(boxes.labels, (0, 1), value=-1),
        crowd=F.pad(boxes.crowd, (0, 1)),
        outlines=None,  # without a box there is none
    )


def chosen_boxes(boxes: Tensor, index: Tensor) -> Tensor:
    """Of boxes (B, N, 4) those with these indices (B, M), as (B, M, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
