"""Which cells learn to find a box: those that classify and localise it best (TOOD, https://arxiv.org/abs/2108.07755)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from heads.box_overlap import aligned_iou
from heads.contract import BoxTargets
from heads.matcher import MAX_PAIRS, Matches


@dataclass(frozen=True, slots=True)
class Alignment:
    """How cells are ranked.

    Attributes:
        per_box: cells a box, at most.
        score_power: of the probability of the box's class in the product that they are ranked by.
        iou_power: of the IoU of their box with it.
    """

    per_box: int
    score_power: float
    iou_power: float


@torch.no_grad()
def assign_aligned(
    logits: Tensor,
    found: Tensor,
    points: Tensor,
    candidates: Tensor,
    targets: BoxTargets,
    alignment: Alignment,
    max_pairs: int = MAX_PAIRS,
) -> tuple[Matches, Tensor]:
    """Assign cells to boxes, in chunks of boxes so that memory stays bounded (TOOD, section 3.2).

    Of the cells inside a box the `per_box` largest products `score ** score_power * iou ** iou_power` are positive, if
    above zero. A cell that several boxes want goes to the one that its own box overlaps most. Negative are the others,
    unless they lie in a crowd region. Crowd regions and padding match nothing, and neither does a box so small that the
    middle of no cell lies in it.

    Args:
        logits: (B, A, K) float32, of the classes.
        found: (B, A, 4) float32, the boxes that the cells find.
        points: (A, 2) x and y, pixels.
        candidates: (B, A) bool; the others are neither positive nor negative.
        targets: of B images, N at least 1.
        max_pairs: largest B * A * chunk.

    Returns:
        the matches, and (B, A) float32 how well each positive cell is aligned with its box: the product, scaled such
        that the best one of a box has the largest IoU that a cell of this box has; zero elsewhere.
    """
    images, cells, _ = logits.shape
    boxes, labels = targets.boxes.float(), targets.labels
    matchable = ((labels >= 0) & ~targets.crowd)[..., None]
    chunk = max(1, max_pairs // (images * cells))
    best, index, overlap = [], [], []
    crowded = torch.zeros_like(candidates)
    for start in range(0, labels.shape[1], chunk):
        part = slice(start, start + chunk)
        own = boxes[:, part, None]
        inside = ((points > own[..., :2]) & (points < own[..., 2:])).all(dim=-1)
        crowded |= (inside & targets.crowd[:, part, None]).any(dim=1)
        iou, _ = aligned_iou(found[:, None], own)
        of_class = labels[:, part, None].clamp(min=0).expand(-1, -1, cells)
        score = logits.transpose(1, 2).gather(1, of_class).sigmoid()
        product = score**alignment.score_power * iou**alignment.iou_power
        product = torch.where(inside & matchable[:, part] & candidates[:, None], product, 0.0)
        top = product.topk(min(alignment.per_box, cells), dim=2)
        best.append(top.values)
        index.append(top.indices)
        overlap.append(iou.gather(2, top.indices))
    return _resolve(torch.cat(best, 1), torch.cat(index, 1), torch.cat(overlap, 1), candidates, crowded)


def _resolve(
    product: Tensor, cell: Tensor, overlap: Tensor, candidates: Tensor, crowded: Tensor
) -> tuple[Matches, Tensor]:
    """Give each cell to one box at most; of the T best cells of each box (B, N, T) the products, numbers and IoU."""
    images, boxes, count = product.shape
    number = torch.arange(boxes, device=cell.device)[:, None].expand_as(cell).flatten(1)
    flat, wanted = cell.flatten(1), product.flatten(1) > 0
    claim = torch.where(wanted, overlap.flatten(1), -1.0)
    largest = torch.full_like(candidates, -1.0, dtype=claim.dtype).scatter_reduce(1, flat, claim, "amax")
    winner = wanted & (claim == largest.gather(1, flat))
    # Of equal claims the first box's counts.
    first = torch.full_like(candidates, boxes, dtype=torch.int64)
    first = first.scatter_reduce(1, flat, torch.where(winner, number, boxes), "amin")
    won = (winner & (first.gather(1, flat) == number)).view(images, boxes, count)
    most = torch.where(won, product, 0.0).amax(dim=2, keepdim=True)
    scale = torch.where(won, overlap, 0.0).amax(dim=2, keepdim=True) / most.clamp(min=torch.finfo(most.dtype).tiny)
    aligned = torch.where(won, product * scale, 0.0).flatten(1)
    quality = torch.zeros_like(largest).scatter_reduce(1, flat, aligned, "amax")
    positive = first < boxes
    matches = Matches(first.clamp(max=boxes - 1), positive, candidates & ~positive & ~crowded)
    return matches, quality
