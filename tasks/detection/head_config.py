"""What an experiment says about heads that find boxes or instances."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config_section import Count, HeadSection, Natural, NotNegative, Positive, Share


class TwoStageConfig(HeadSection):
    """What heads of two stages share; the fields are keywords of `heads.faster_rcnn.FasterRCNN`, explained there."""

    fpn_channels: Count = 256
    extra_level: Literal["pool", "c5", "p5"] = "pool"
    anchor_sizes: tuple[Positive, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    rpn_pre_nms: Count = 2000
    rpn_post_nms: Count = 2000
    rpn_pre_nms_test: Count = 1000
    rpn_post_nms_test: Count = 1000
    rpn_nms_iou: Share = 0.7
    rpn_positive_iou: Share = 0.7
    rpn_negative_iou: Share = 0.3
    rpn_samples: Count = 256
    rpn_positive_fraction: Share = 0.5
    roi_samples: Count = 512
    roi_positive_fraction: Share = 0.25
    roi_size: Count = 7
    roi_sampling_ratio: Natural = 2
    roi_aligned: bool = False
    exact_anchors: bool = False
    box_head_channels: Count = 1024
    box_loss: Literal["l1", "smooth_l1", "giou"] = "smooth_l1"
    box_loss_weight: NotNegative = 1.0
    score_threshold: Share = 0.05
    nms_iou: Share = 0.5
    detections_per_image: Count = 100


class MaskBranchConfig(HeadSection):
    """What heads with masks share; the fields are explained at `heads.mask_rcnn.MaskRCNN`."""

    mask_roi_size: Count = 14
    mask_convs: Natural = 4
    mask_channels: Count = 256
    mask_class_agnostic: bool = False


OffsetWeights = tuple[Positive, Positive, Positive, Positive]


class CascadeConfig(HeadSection):
    """What cascades share; the fields are explained at `heads.cascade_rcnn.CascadeRCNN`."""

    stage_ious: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.6, 0.7)
    stage_offset_weights: tuple[OffsetWeights, ...] = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    stage_loss_weights: tuple[NotNegative, ...] = (1.0, 0.5, 0.25)


class FasterRCNNConfig(TwoStageConfig):
    """Faster R-CNN with FPN."""

    name: Literal["faster_rcnn"] = "faster_rcnn"
    roi_positive_iou: Share = 0.5
    class_agnostic: bool = False


class MaskRCNNConfig(MaskBranchConfig, TwoStageConfig):
    """Mask R-CNN with FPN."""

    name: Literal["mask_rcnn"] = "mask_rcnn"
    roi_positive_iou: Share = 0.5
    class_agnostic: bool = False


class CascadeRCNNConfig(CascadeConfig, TwoStageConfig):
    """Cascade R-CNN with FPN."""

    name: Literal["cascade_rcnn"] = "cascade_rcnn"


class CascadeMaskRCNNConfig(MaskBranchConfig, CascadeConfig, TwoStageConfig):
    """Cascade R-CNN with FPN and a mask branch."""

    name: Literal["cascade_mask_rcnn"] = "cascade_mask_rcnn"


class RetinaNetConfig(HeadSection):
    """RetinaNet with FPN; the fields are the keywords of `heads.retinanet.RetinaNet`, and explained there."""

    name: Literal["retinanet"] = "retinanet"
    fpn_channels: Count = 256
    extra_level: Literal["pool", "c5", "p5"] = "p5"
    anchor_sizes: tuple[Positive, ...] = (32, 64, 128, 256, 512)
    scales_per_octave: Count = 3
    aspect_ratios: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    exact_anchors: bool = False
    tower_depth: Natural = 4
    tower_norm: Literal["none", "gn"] = "none"
    positive_iou: Share = 0.5
    negative_iou: Share = 0.4
    focal_alpha: Share = 0.25
    focal_gamma: NotNegative = 2.0
    box_loss: Literal["l1", "smooth_l1", "giou"] = "l1"
    box_loss_weight: NotNegative = 1.0
    score_threshold: Share = 0.05
    pre_nms: Count = 1000
    nms_iou: Share = 0.5
    detections_per_image: Count = 100


class FCOSConfig(HeadSection):
    """FCOS with FPN; the fields are the keywords of `heads.fcos.FCOS`, and explained there."""

    name: Literal["fcos"] = "fcos"
    fpn_channels: Count = 256
    extra_level: Literal["pool", "c5", "p5"] = "p5"
    scale_limits: tuple[Positive, ...] = (64, 128, 256, 512)
    center_radius: Positive = 1.5
    exact_points: bool = False
    tower_depth: Natural = 4
    tower_norm: Literal["none", "gn"] = "gn"
    focal_alpha: Share = 0.25
    focal_gamma: NotNegative = 2.0
    box_loss: Literal["giou", "ciou"] = "giou"
    box_loss_weight: NotNegative = 1.0
    score_threshold: Share = 0.2
    pre_nms: Count = 1000
    nms_iou: Share = 0.6
    detections_per_image: Count = 100


class YOLOConfig(HeadSection):
    """A YOLO without anchors; the fields are the keywords of `heads.yolo.YOLO`, and explained there."""

    name: Literal["yolo"] = "yolo"
    fpn_channels: Count = 256
    tower_depth: Natural = 2
    tower_norm: Literal["none", "gn"] = "gn"
    reg_max: Count = 16
    assigned_cells: Count = 13
    score_power: NotNegative = 1.0
    iou_power: NotNegative = 6.0
    focal_beta: NotNegative = 2.0
    box_loss: Literal["giou", "ciou"] = "ciou"
    box_loss_weight: NotNegative = 2.0
    distribution_loss_weight: NotNegative = 0.25
    score_threshold: Share = 0.05
    pre_nms: Count = 1000
    nms_iou: Share = 0.6
    detections_per_image: Count = 100
