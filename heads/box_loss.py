"""How far predicted boxes are from the annotated ones."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from heads.box_coder import BoxCoder

BoxLoss = Literal["l1", "smooth_l1", "giou"]


def box_loss_sum(
    kind: BoxLoss, coder: BoxCoder, deltas: Tensor, references: Tensor, boxes: Tensor, used: Tensor
) -> Tensor:
    """Sum of the box losses of the entries in use, float32; zero, and still connected to `deltas`, when none is.

    Args:
        kind: `l1` and `smooth_l1` (quadratic below 1/9) compare offsets; `giou` (https://arxiv.org/abs/1902.09630)
            compares the boxes that the offsets give.
        coder: translates between boxes and offsets.
        deltas: (..., 4) predicted offsets.
        references: (..., 4) anchors or proposals that the offsets start from.
        boxes: (..., 4) the annotated boxes.
        used: (...) bool; the others may hold anything finite.
    """
    # Entries that are not used may be empty boxes; a logarithm of zero would turn their zero gradient into NaN.
    unit = (torch.arange(4, device=deltas.device) >= 2).float()
    used = used[..., None]
    references = torch.where(used, references.float(), unit)
    boxes = torch.where(used, boxes.float(), unit)
    deltas = torch.where(used, deltas.float(), 0.0)
    if kind == "giou":
        loss = generalized_box_iou_loss(coder.decode(deltas, references), boxes)
        return torch.where(used[..., 0], loss, 0.0).sum()
    # Beside the entries in use both sides are zero.
    wanted = coder.encode(boxes, references)
    if kind == "l1":
        return F.l1_loss(deltas, wanted, reduction="sum")
    return F.smooth_l1_loss(deltas, wanted, beta=1 / 9, reduction="sum")
