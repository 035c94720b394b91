"""Detections of several models of one image, put together (Solovyev et al., "Weighted boxes fusion", 2021, section 3).

Unlike non-maximum suppression it drops nothing: boxes that mean the same object become their mean, weighted by score,
and an object that only some of the models found loses score in proportion. Masks become their mean, weighted alike.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from heads.contract import Detections


def fuse_detections(found: Sequence[Detections], iou: float = 0.55) -> Detections:
    """The detections of all models as one, best first.

    Args:
        found: of the same image, one a model.
        iou: boxes of one class that overlap more than this mean the same object.
    """
    boxes, scores, labels = (
        torch.cat([getattr(own, name) for own in found]).cpu() for name in ("boxes", "scores", "labels")
    )
    drawn = [own.masks for own in found if own.masks is not None]
    masks = torch.cat(drawn).cpu() if len(drawn) == len(found) else None
    fused: list[tuple[Tensor, Tensor, int, Tensor]] = []
    for label in sorted(set(labels.tolist())):
        (own,) = torch.where(labels == label)
        fused += [
            (box, score, label, own[members])
            for box, score, members in _fuse_class(boxes[own].double(), scores[own].double(), len(found), iou)
        ]
    fused.sort(key=lambda row: -float(row[1]))
    device = found[0].boxes.device
    if masks is not None and fused:
        masks = torch.stack([_fuse_masks(masks[own], boxes[own], scores[own], box.float()) for box, _, _, own in fused])
    return Detections(
        torch.stack([row[0] for row in fused]).float().to(device) if fused else boxes.to(device),
        torch.stack([row[1] for row in fused]).float().to(device) if fused else scores.to(device),
        torch.tensor([row[2] for row in fused], dtype=torch.int64, device=device),
        None if masks is None else masks.to(device),
        found[0].image_size,
    )


def _fuse_class(boxes: Tensor, scores: Tensor, models: int, iou: float) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Clusters of boxes (N, 4) of one class, as (box, score, members)."""
    members: list[list[int]] = []
    means = boxes.new_zeros((0, 4))
    for index in scores.argsort(descending=True, stable=True).tolist():
        overlaps = box_iou(boxes[index][None], means)[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best >= 0 and overlaps[best] > iou:
            members[best].append(index)
        else:
            members.append([index])
            means = torch.cat([means, boxes[index][None]])
            best = len(members) - 1
        weights = scores[members[best]]
        means[best] = (boxes[members[best]] * weights[:, None]).sum(0) / weights.sum()
    return [
        (mean, scores[own].mean() * min(len(own), models) / models, own)
        for mean, own in zip(means, members, strict=True)
    ]


def _fuse_masks(masks: Tensor, boxes: Tensor, scores: Tensor, fused: Tensor) -> Tensor:
    """(M, M), the mean of masks (N, M, M) of boxes (N, 4), each read where the cells of the box `fused` lie in it."""
    size = masks.shape[-1]
    cells = (torch.arange(size) + 0.5) / size
    places = fused[:2, None] + cells * (fused[2:] - fused[:2])[:, None]  # (2, M), x and y
    # -1 and 1 are the sides of a box; beyond them there is nothing.
    x, y = (2 * (places - boxes[:, :2, None]) / (boxes[:, 2:] - boxes[:, :2])[:, :, None] - 1).unbind(1)
    grid = torch.stack((x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)), dim=-1)
    moved = F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
    return (moved * scores[:, None, None]).sum(dim=0) / scores.sum()
