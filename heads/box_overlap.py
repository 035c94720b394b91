"""Losses that compare boxes by how much they overlap.

As in `torchvision.ops`, but without the look at which boxes overlap, for which the host waits for the device.
"""

import math
from typing import Literal

import torch
from torch import Tensor

OverlapLoss = Literal["giou", "ciou"]
EPSILON = 1e-7


def overlap_loss(kind: OverlapLoss, boxes: Tensor, others: Tensor) -> Tensor:
    """One minus the generalised IoU (https://arxiv.org/abs/1902.09630) or complete IoU (https://arxiv.org/abs/1911.08287).

    Args:
        kind: `giou`, which also falls with the part of the smallest enclosing box that neither covers; `ciou`, also
            with the distance of the centres and the difference of the aspect ratios.
        boxes: (..., 4) float32, x1 y1 x2 y2.
        others: (..., 4) float32.

    Returns:
        (...) float32, 0 where they are equal.
    """
    iou, union = aligned_iou(boxes, others)
    low = torch.minimum(boxes[..., :2], others[..., :2])
    width, height = (torch.maximum(boxes[..., 2:], others[..., 2:]) - low).unbind(-1)
    if kind == "giou":
        enclosing = width * height
        return 1 - iou + (enclosing - union) / (enclosing + EPSILON)
    apart = ((boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2).square().sum(-1)
    shape = (4 / math.pi**2) * (_angle(boxes) - _angle(others)).square()
    with torch.no_grad():
        weight = shape / (1 - iou + shape + EPSILON)
    return 1 - iou + apart / (width.square() + height.square() + EPSILON) + weight * shape


def aligned_iou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and area of the union, both (...), of boxes (..., 4) with others (..., 4); shapes broadcast."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    width, height = (torch.minimum(boxes[..., 2:], others[..., 2:]) - low).clamp(min=0).unbind(-1)
    both = width * height
    union = area(boxes) + area(others) - both
    return both / (union + EPSILON), union


def area(boxes: Tensor) -> Tensor:
    """(...) of boxes (..., 4)."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return width * height


def _angle(boxes: Tensor) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan2(width, height + EPSILON)
