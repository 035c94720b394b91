"""How far predicted boxes are from the annotated ones."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from heads.box_coder import BoxCoder
from heads.box_overlap import OverlapLoss, overlap_loss

BoxLoss = Literal["l1", "smooth_l1", "giou"]


def box_loss_sum(
    kind: BoxLoss, coder: BoxCoder, deltas: Tensor, references: Tensor, boxes: Tensor, weight: Tensor
) -> Tensor:
    """Weighted sum of box losses, (), float32; zero, and still connected to `deltas`, where no weight is above zero.

    Args:
        kind: `l1` and `smooth_l1` (quadratic below 1/9) compare offsets; `giou` (https://arxiv.org/abs/1902.09630)
            compares the boxes that the offsets give.
        coder: translates between boxes and offsets.
        deltas: (..., 4) predicted offsets.
        references: (..., 4) anchors or proposals that the offsets start from.
        boxes: (..., 4) the annotated boxes.
        weight: (...) bool, or float32 from 0; entries without weight may hold anything finite.
    """
    # Entries that are not used may be empty boxes; a logarithm of zero would turn their zero gradient into NaN.
    unit = (torch.arange(4, device=deltas.device) >= 2).float()
    used = (weight > 0)[..., None]
    references = torch.where(used, references.float(), unit)
    boxes = torch.where(used, boxes.float(), unit)
    deltas = torch.where(used, deltas.float(), 0.0)
    if kind == "giou":
        return overlap_loss_sum(kind, coder.decode(deltas, references), boxes, weight.float())
    # Beside the entries in use both sides are zero.
    wanted = coder.encode(boxes, references)
    if kind == "l1":
        loss = F.l1_loss(deltas, wanted, reduction="none")
    else:
        loss = F.smooth_l1_loss(deltas, wanted, beta=1 / 9, reduction="none")
    return (loss * weight[..., None]).sum()


def overlap_loss_sum(kind: OverlapLoss, found: Tensor, boxes: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of `overlap_loss`, (), float32; zero, and still connected to `found`, where no weight is above zero.

    Args:
        found: (..., 4) predicted boxes.
        boxes: (..., 4) the annotated boxes; those without weight may hold anything finite.
        weight: (...) float32, 0 .. .
    """
    unit = (torch.arange(4, device=found.device) >= 2).float()
    used = (weight > 0)[..., None]
    loss = overlap_loss(kind, torch.where(used, found.float(), unit), torch.where(used, boxes.float(), unit))
    return (loss * weight).sum()
