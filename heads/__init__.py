"""Feature maps in, losses or predictions out. `from heads import Head, register_head`."""

from heads.cascade_rcnn import CascadeMaskRCNN, CascadeRCNN
from heads.classification import Classification
from heads.contract import (
    IGNORED,
    BoxTargets,
    Detections,
    Explainable,
    Head,
    ImageLabels,
    ImageSizes,
    LabelTargets,
    MaskTargets,
    Outlines,
    Prediction,
    ScoringHead,
    SemanticMasks,
    Targets,
    heads,
    register_head,
)
from heads.faster_rcnn import FasterRCNN
from heads.fcos import FCOS
from heads.mask_rcnn import MaskRCNN
from heads.retinanet import RetinaNet
from heads.segmentation import SegmentationHead
from heads.segmentation_decoders import DeepLabV3, DeepLabV3Plus, PSPNet, SegmentationFPN, UNet, UNetPlusPlus
from heads.yolo import YOLO

__all__ = [
    "FCOS",
    "IGNORED",
    "YOLO",
    "BoxTargets",
    "CascadeMaskRCNN",
    "CascadeRCNN",
    "Classification",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Detections",
    "Explainable",
    "FasterRCNN",
    "Head",
    "ImageLabels",
    "ImageSizes",
    "LabelTargets",
    "MaskRCNN",
    "MaskTargets",
    "Outlines",
    "PSPNet",
    "Prediction",
    "RetinaNet",
    "ScoringHead",
    "SegmentationFPN",
    "SegmentationHead",
    "SemanticMasks",
    "Targets",
    "UNet",
    "UNetPlusPlus",
    "heads",
    "register_head",
]
