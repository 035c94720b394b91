"""Which annotated box a point of a pyramid learns to find (FCOS, https://arxiv.org/abs/1904.01355, section 3.2)."""

import torch
from torch import Tensor

from heads.box_overlap import area
from heads.contract import BoxTargets
from heads.matcher import MAX_PAIRS, Matches


@torch.no_grad()
def assign_points(
    points: Tensor,
    reach: Tensor,
    limits: Tensor,
    candidates: Tensor,
    targets: BoxTargets,
    max_pairs: int = MAX_PAIRS,
) -> Matches:
    """Assign points to boxes, in chunks of points so that memory stays bounded.

    Positive is a point that lies inside a box and near its centre (centre sampling, https://arxiv.org/abs/2006.09214,
    section 3.1), if the farthest side is at a distance its level is there for. Of several such boxes it takes the one
    of least area. Negative are the others, unless they lie in a crowd region. Crowd regions and padding match nothing.

    Args:
        points: (A, 2) x and y, pixels.
        reach: (A,) largest distance from the centre of a box, along either axis, pixels.
        limits: (A, 2) distances from the farthest side, pixels: more than the first, less than the second.
        candidates: (B, A) bool; the others are neither positive nor negative.
        targets: of B images, N at least 1.
        max_pairs: largest B * N * chunk.
    """
    images, count = targets.labels.shape
    chunk = max(1, max_pairs // (images * count))
    boxes = targets.boxes.float()[:, None]  # (B, 1, N, 4)
    matchable = ((targets.labels >= 0) & ~targets.crowd)[:, None]
    size = area(boxes)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2

    index, positive, crowded = [], [], []
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        own = points[part][:, None]  # (chunk, 1, 2)
        sides = torch.cat((own - boxes[..., :2], boxes[..., 2:] - own), dim=-1)
        inside = sides.amin(dim=-1) > 0
        farthest = sides.amax(dim=-1)
        near = (own - centres).abs().amax(dim=-1) < reach[part][:, None]
        fits = (farthest > limits[part, :1]) & (farthest < limits[part, 1:])
        least, which = torch.where(inside & near & fits & matchable, size, torch.inf).min(dim=-1)
        index.append(which)
        positive.append(least.isfinite())
        crowded.append((inside & targets.crowd[:, None]).any(dim=-1))
    found = torch.cat(positive, dim=1) & candidates
    return Matches(torch.cat(index, dim=1), found, candidates & ~found & ~torch.cat(crowded, dim=1))
