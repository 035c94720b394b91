"""Feature maps in, losses or predictions out. `from heads import Head, register_head`."""

from heads.contract import BoxTargets, Detections, Head, ImageSizes, Prediction, Targets, heads, register_head
from heads.faster_rcnn import FasterRCNN

__all__ = [
    "BoxTargets",
    "Detections",
    "FasterRCNN",
    "Head",
    "ImageSizes",
    "Prediction",
    "Targets",
    "heads",
    "register_head",
]
