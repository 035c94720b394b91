"""Detections of several models of one image, put together (Solovyev et al., "Weighted boxes fusion", 2021, section 3).

Unlike non-maximum suppression it drops nothing: boxes that mean the same object become their mean, weighted by score,
and an object that only some of the models found loses score in proportion.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
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
    fused: list[tuple[Tensor, Tensor, int]] = []
    for label in sorted(set(labels.tolist())):
        own = labels == label
        fused += [
            (box, score, label)
            for box, score in _fuse_class(boxes[own].double(), scores[own].double(), len(found), iou)
        ]
    fused.sort(key=lambda row: -float(row[1]))
    device = found[0].boxes.device
    return Detections(
        torch.stack([row[0] for row in fused]).float().to(device) if fused else boxes.to(device),
        torch.stack([row[1] for row in fused]).float().to(device) if fused else scores.to(device),
        torch.tensor([row[2] for row in fused], dtype=torch.int64, device=device),
    )


def _fuse_class(boxes: Tensor, scores: Tensor, models: int, iou: float) -> list[tuple[Tensor, Tensor]]:
    """Clusters of boxes (N, 4) of one class, as (box, score)."""
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
        (mean, scores[own].mean() * min(len(own), models) / models) for mean, own in zip(means, members, strict=True)
    ]
