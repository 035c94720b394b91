"""Suppression and choice of boxes in tensors whose shapes do not depend on what is found: what an exported graph needs.

The results are those of `torchvision.ops.batched_nms` on each image, whose loops and boolean indices no exporter keeps.
"""

from typing import cast

import torch
from torch import Tensor
from torchvision.ops import nms

from heads.contract import PaddedDetections

COLUMNS = 32  # of the grid that groups are moved apart on


@torch.no_grad()
def survivors(boxes: Tensor, scores: Tensor, groups: Tensor, candidates: Tensor, iou: float) -> Tensor:
    """(B, N) bool: which candidates are left after suppression among those of one image and one group.

    As in `batched_nms`, boxes of different groups are moved apart and suppressed together. They are moved along both
    axes, since the further out a coordinate is, the fewer digits are left for it.

    Args:
        boxes: (B, N, 4) x1 y1 x2 y2, no coordinate below 0.
        scores: (B, N).
        groups: (B, N) int64: classes, or levels.
        candidates: (B, N) bool, the others neither survive nor suppress.
        iou: of two with a larger IoU the worse is dropped.
    """
    batch, count = scores.shape
    image = torch.arange(batch, device=boxes.device)[:, None].expand(batch, count)
    (index,) = torch.where(candidates.flatten())
    own = boxes.flatten(0, 1)[index]
    step = boxes.max() + 1
    column, row = groups % COLUMNS, image * (groups.max() // COLUMNS + 1) + groups // COLUMNS
    offset = torch.stack((column, row), dim=-1).flatten(0, 1)[index].to(boxes.dtype) * step
    kept = index[nms(own + offset.repeat(1, 2), scores.flatten()[index], iou)]
    left = torch.zeros(batch * count, dtype=torch.bool, device=boxes.device)
    return left.index_fill(0, kept, True).view(batch, count)


@torch.no_grad()
def best_survivors(
    boxes: Tensor, scores: Tensor, labels: Tensor, candidates: Tensor, iou: float, most: int
) -> PaddedDetections:
    """The best `most` detections of each image after suppression within each class; arguments as in `survivors`."""
    left = survivors(boxes, scores, labels, candidates, iou)
    best = torch.where(left, scores, -1.0).topk(at_most(most, scores.shape[1]), dim=1)
    found = best.values >= 0
    return PaddedDetections(
        boxes=torch.where(found[..., None], boxes.gather(1, best.indices[..., None].expand(-1, -1, 4)), 0.0),
        scores=best.values.clamp(min=0),
        labels=torch.where(found, labels.gather(1, best.indices), 0),
    )


def at_most(most: int, count: int) -> int:
    """The smaller of two numbers, of which the second may be symbolic."""
    return cast(int, torch.sym_min(most, count))
