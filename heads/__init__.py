"""Feature maps in, losses or predictions out. `from heads import Head, register_head`."""

from heads.classification import Classification
from heads.contract import (
    IGNORED,
    BoxTargets,
    Detections,
    Head,
    ImageLabels,
    ImageSizes,
    LabelTargets,
    MaskTargets,
    Prediction,
    ScoringHead,
    SemanticMasks,
    Targets,
    heads,
    register_head,
)
from heads.faster_rcnn import FasterRCNN

__all__ = [
    "IGNORED",
    "BoxTargets",
    "Classification",
    "Detections",
    "FasterRCNN",
    "Head",
    "ImageLabels",
    "ImageSizes",
    "LabelTargets",
    "MaskTargets",
    "Prediction",
    "ScoringHead",
    "SemanticMasks",
    "Targets",
    "heads",
    "register_head",
]
