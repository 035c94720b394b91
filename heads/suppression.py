"""What every detector does with the boxes of an image in the end: of those that overlap it keeps the best."""

from torch import Tensor
from torchvision.ops import batched_nms

from heads.contract import Detections

# Detections with a shorter side, in pixels, are dropped.
MIN_SIDE = 1e-2


def large_enough(boxes: Tensor) -> Tensor:
    """(...) bool: which of the boxes (..., 4), x1 y1 x2 y2, have no side shorter than `MIN_SIDE`."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(dim=-1)


def best_detections(
    boxes: Tensor, scores: Tensor, labels: Tensor, ratio: Tensor, nms_iou: float, most: int
) -> Detections:
    """The best `most` of the boxes of one image after suppression within each class.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the padded batch.
        scores: (N,).
        labels: (N,) int64.
        ratio: (4,) leads to pixels of the original image.
        nms_iou: of two of one class with a larger IoU the worse is dropped.
        most: of all classes together.
    """
    best = batched_nms(boxes, scores, labels, nms_iou)[:most]
    return Detections(boxes[best] * ratio, scores[best], labels[best])
