"""Which annotated box an anchor or proposal stands for (Faster R-CNN, arXiv:1506.01497, section 3.1.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.contract import BoxTargets

# Pairs of box and target held at once: 64 MiB a float32 matrix, however large the batch.
MAX_PAIRS = 1 << 24
# A box with this share of its own area inside a crowd region cannot be called background.
CROWD_COVER = 0.5


@dataclass(frozen=True, slots=True)
class Matches:
    """What each of A boxes of B images is matched to. A box that is neither positive nor negative is to be ignored.

    Attributes:
        index: (B, A) int64, the target that overlaps it most; meaningful where positive.
        positive: (B, A) bool.
        negative: (B, A) bool, background.
    """

    index: Tensor
    positive: Tensor
    negative: Tensor


@torch.no_grad()
def match(
    boxes: Tensor,
    candidates: Tensor,
    targets: BoxTargets,
    positive_iou: float,
    negative_iou: float,
    low_quality: bool,
    max_pairs: int = MAX_PAIRS,
) -> Matches:
    """Assign boxes to the targets they overlap most, in chunks of boxes so that memory stays bounded.

    Positive is a box whose best IoU is at least `positive_iou`; with `low_quality` also every box that is the best of
    some target (ties included, an IoU of 0 excluded), though assigned to the target *it* overlaps most. Negative is a
    box whose best IoU is below `negative_iou`, unless half of it or more lies in a crowd region. Crowd regions and
    padding match nothing; without targets all candidates are negative.

    Args:
        boxes: (A, 4) shared by all images, or (B, A, 4).
        candidates: (B, A) bool; the others are neither positive nor negative, and never the best of a target.
        targets: of B images, N at least 1.
        max_pairs: largest B * N * chunk.
    """
    images, count = targets.labels.shape
    chunk = max(1, max_pairs // (images * count))
    matchable = ((targets.labels >= 0) & ~targets.crowd)[:, :, None]
    boxes = boxes.float().expand(images, -1, 4)

    def chunks() -> Iterator[tuple[slice, Tensor, Tensor]]:
        for start in range(0, boxes.shape[1], chunk):
            part = slice(start, start + chunk)
            iou, cover = _overlaps(targets.boxes, boxes[:, part])
            crowded = ((cover >= CROWD_COVER) & targets.crowd[:, :, None]).any(dim=1)
            yield part, iou.masked_fill_(~(matchable & candidates[:, None, part]), -1.0), crowded

    best = boxes.new_empty(candidates.shape)
    index = torch.empty_like(candidates, dtype=torch.int64)
    crowded = torch.empty_like(candidates)
    best_of_target = boxes.new_zeros(images, count)
    whole = chunk >= boxes.shape[1]
    matrices = list(chunks()) if whole else chunks()
    for part, iou, in_crowd in matrices:
        best[:, part], index[:, part] = iou.max(dim=1)
        crowded[:, part] = in_crowd
        best_of_target = torch.maximum(best_of_target, iou.amax(dim=2))

    positive = best >= positive_iou
    if low_quality:
        # Equality needs the same bits: an IoU that is computed anew, from the same numbers, has them.
        wanted = torch.where(best_of_target > 0, best_of_target, torch.inf)[:, :, None]
        for part, iou, _ in matrices if whole else chunks():
            positive[:, part] |= (iou == wanted).any(dim=1)
    return Matches(index, positive, candidates & (best < negative_iou) & ~positive & ~crowded)


def _overlaps(targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and the share of each box's own area inside each target, both (B, N, A), of (B, N, 4) and (B, A, 4)."""
    tx1, ty1, tx2, ty2 = targets[:, :, None].unbind(-1)
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)
    width = (torch.minimum(tx2, x2) - torch.maximum(tx1, x1)).clamp_(min=0)
    height = (torch.minimum(ty2, y2) - torch.maximum(ty1, y1)).clamp_(min=0)
    intersection = width.mul_(height)
    area = (x2 - x1) * (y2 - y1)
    union = (tx2 - tx1) * (ty2 - ty1) + area - intersection
    return intersection / union, intersection / area
