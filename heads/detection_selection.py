"""Which of the boxes that a one-stage detector finds at every cell are returned, and what it thinks of given boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.box_overlap import aligned_iou
from heads.contract import Detections, ImageSizes, PaddedDetections, Prediction
from heads.padded_selection import at_most, best_survivors
from heads.rpn import clip
from heads.suppression import best_detections, large_enough


@dataclass(frozen=True, slots=True)
class Selection:
    """How detections are chosen.

    Attributes:
        score_threshold: those that score no more are dropped.
        pre_nms: at most so many of a level, each a box and a class, are kept before suppression.
        nms_iou: of two of one class with a larger IoU the worse is dropped.
        detections_per_image: at most so many are returned.
    """

    score_threshold: float
    pre_nms: int
    nms_iou: float
    detections_per_image: int


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The best entries of every level, M an image.

    Attributes:
        boxes: (B, M, 4) x1 y1 x2 y2 in pixels of the padded batch.
        scores: (B, M).
        labels: (B, M) int64.
        kept: (B, M) bool, they score enough and have an area.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    kept: Tensor


@torch.no_grad()
def select_detections(
    scores: Tensor,
    counts: Sequence[int],
    boxes_at: Callable[[Tensor], Tensor],
    images: ImageSizes,
    settings: Selection,
) -> list[Detections]:
    """The best detections of each image.

    Args:
        scores: (B, A, K) float32, 0 .. 1.
        counts: entries a level; they sum to A.
        boxes_at: the boxes (B, M, 4), in pixels of the padded batch, of entries (B, M): only few are looked at.
        images: their sizes.
        settings: how to choose.
    """
    found = _candidates(scores, counts, boxes_at, images, settings)
    rows = zip(found.boxes, found.scores, found.labels, found.kept, images.to_original, strict=True)
    return [
        best_detections(own[valid], score[valid], label[valid], ratio, settings.nms_iou, settings.detections_per_image)
        for own, score, label, valid, ratio in rows
    ]


@torch.no_grad()
def select_padded(
    scores: Tensor,
    counts: Sequence[int],
    boxes_at: Callable[[Tensor], Tensor],
    images: ImageSizes,
    settings: Selection,
) -> PaddedDetections:
    """The same detections, padded; arguments as in `select_detections`."""
    found = _candidates(scores, counts, boxes_at, images, settings)
    return best_survivors(
        found.boxes, found.scores, found.labels, found.kept, settings.nms_iou, settings.detections_per_image
    )


def _candidates(
    scores: Tensor,
    counts: Sequence[int],
    boxes_at: Callable[[Tensor], Tensor],
    images: ImageSizes,
    settings: Selection,
) -> _Candidates:
    classes = scores.shape[2]
    found, index, start = [], [], 0
    for level in scores.split_with_sizes(list(counts), dim=1):
        best = level.flatten(1).topk(at_most(settings.pre_nms, level.shape[1] * classes), dim=1)
        found.append(best.values)
        index.append(best.indices + start * classes)
        start += level.shape[1]
    chosen, flat = torch.cat(found, dim=1), torch.cat(index, dim=1)
    boxes, labels = clip(boxes_at(flat // classes), images.valid), flat % classes
    kept = (chosen > settings.score_threshold) & large_enough(boxes)
    return _Candidates(boxes, chosen, labels, kept)


def logits_of_boxes(
    logits: Tensor, boxes: Tensor, centres: Tensor, images: ImageSizes, predictions: Sequence[Prediction]
) -> list[Tensor]:
    """The logits of each predicted box: those of the entry that finds it, or comes nearest to it.

    That is the entry whose own box overlaps it most, and if none does, the one whose centre is nearest. So for the
    image that was predicted these are the logits that the score was made of.

    Args:
        logits: (B, A, K) float32.
        boxes: (B, A, 4) the boxes that all entries find, in pixels of the padded batch.
        centres: (A, 2) x and y of the entries.
        images: their sizes.
        predictions: one an image.

    Returns:
        (N, K) an image.
    """
    found = [one for one in predictions if isinstance(one, Detections)]
    with torch.no_grad():
        boxes = clip(boxes, images.valid)
        index = [
            _entries(one.boxes / ratio, own, centres)
            for one, own, ratio in zip(found, boxes, images.to_original, strict=True)
        ]
    return [own[chosen] for own, chosen in zip(logits, index, strict=True)]


def _entries(given: Tensor, boxes: Tensor, centres: Tensor) -> Tensor:
    """(N,) which of A entries stands for each of the boxes (N, 4)."""
    overlap, _ = aligned_iou(boxes, given[:, None])
    most = overlap.max(dim=1)
    apart = (centres - (given[:, None, :2] + given[:, None, 2:]) / 2).square().sum(dim=-1)
    return torch.where(most.values > 0, most.indices, apart.argmin(dim=1))
