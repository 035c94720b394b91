"""What an experiment says about its heads: a class for each registered one."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from tasks.config_section import Count, Finite, Natural, NotNegative, Positive, Section, Share


class HeadSection(Section):
    """The keywords of a registered head."""

    def factory_options(self) -> dict[str, Any]:
        """The keywords to call the factory with; class weights that are still to be counted are left out."""
        options = self.model_dump(exclude={"name"})
        return {key: value for key, value in options.items() if (key, value) != ("class_weights", "balanced")}


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


class ClassificationConfig(HeadSection):
    """Labels of whole images; the fields are the keywords of `heads.classification.Classification`."""

    name: Literal["classification"] = "classification"
    target: Literal["single", "multi", "ordinal", "regression"] = "single"
    level: str | None = None
    pooling: Literal["average", "max", "gem"] = "average"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hidden_channels: tuple[Count, ...] = ()
    loss: Literal["auto", "cross_entropy", "bce", "focal", "coral", "smooth_l1", "mse"] = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    focal_gamma: NotNegative = 2.0
    target_threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    class_weights: tuple[NotNegative, ...] | Literal["balanced"] | None = None
    value_mean: tuple[Finite, ...] | None = None
    value_std: tuple[Positive, ...] | None = None


SegmentationLoss = Literal["cross_entropy", "dice", "focal", "tversky", "lovasz", "boundary"]


def _cross_entropy_and_dice() -> dict[SegmentationLoss, float]:
    # All are named, so that each has an option on the command line.
    return {"cross_entropy": 1.0, "dice": 1.0, "focal": 0.0, "tversky": 0.0, "lovasz": 0.0, "boundary": 0.0}


class SegmentationConfig(HeadSection):
    """The class of every pixel; the fields are the keywords of `heads.segmentation.SegmentationHead`."""

    target: Literal["multiclass", "binary", "multilabel"] = "multiclass"
    background: bool = True
    losses: dict[SegmentationLoss, NotNegative] = Field(default_factory=_cross_entropy_and_dice)
    focal_gamma: NotNegative = 2.0
    tversky_alpha: Share = 0.3
    tversky_beta: Share = 0.7
    class_weights: tuple[NotNegative, ...] | Literal["balanced"] | None = None
    auxiliary_weight: NotNegative = 0.0
    threshold: Share = 0.5


class UNetConfig(SegmentationConfig):
    """U-Net."""

    name: Literal["unet"] = "unet"
    decoder_channels: tuple[Count, Count, Count, Count, Count] = (256, 128, 64, 32, 16)
    attention: Literal["scse"] | None = None
    interpolation: Literal["nearest", "bilinear"] = "nearest"


class UNetPlusPlusConfig(SegmentationConfig):
    """UNet++."""

    name: Literal["unetplusplus"] = "unetplusplus"
    decoder_channels: tuple[Count, Count, Count, Count, Count] = (256, 128, 64, 32, 16)
    attention: Literal["scse"] | None = None
    interpolation: Literal["nearest", "bilinear"] = "nearest"


class DeepLabV3Config(SegmentationConfig):
    """DeepLabV3."""

    name: Literal["deeplabv3"] = "deeplabv3"
    decoder_channels: Count = 256
    atrous_rates: tuple[Count, Count, Count] = (12, 24, 36)
    separable: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class DeepLabV3PlusConfig(SegmentationConfig):
    """DeepLabV3+."""

    name: Literal["deeplabv3plus"] = "deeplabv3plus"
    decoder_channels: Count = 256
    atrous_rates: tuple[Count, Count, Count] = (12, 24, 36)
    separable: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class SegmentationFPNConfig(SegmentationConfig):
    """The semantic branch of Panoptic FPN."""

    name: Literal["segmentation_fpn"] = "segmentation_fpn"
    pyramid_channels: Count = 256
    segmentation_channels: Count = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    merge: Literal["add", "cat"] = "add"


class PSPNetConfig(SegmentationConfig):
    """PSPNet."""

    name: Literal["pspnet"] = "pspnet"
    level: str = "c5"
    decoder_channels: Count = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class PluginHeadConfig(HeadSection):
    """A head registered outside this repository: its name and the keywords of its factory."""

    name: str
    options: dict[str, JsonValue] = Field(default_factory=dict)

    def factory_options(self) -> dict[str, Any]:
        return dict(self.options)


HEAD_SECTIONS: dict[str, type[HeadSection]] = {
    "faster_rcnn": FasterRCNNConfig,
    "mask_rcnn": MaskRCNNConfig,
    "cascade_rcnn": CascadeRCNNConfig,
    "cascade_mask_rcnn": CascadeMaskRCNNConfig,
    "retinanet": RetinaNetConfig,
    "fcos": FCOSConfig,
    "yolo": YOLOConfig,
    "classification": ClassificationConfig,
    "unet": UNetConfig,
    "unetplusplus": UNetPlusPlusConfig,
    "deeplabv3": DeepLabV3Config,
    "deeplabv3plus": DeepLabV3PlusConfig,
    "segmentation_fpn": SegmentationFPNConfig,
    "pspnet": PSPNetConfig,
    "plugin": PluginHeadConfig,
}


def _kind(head: Any) -> str:
    """The key of the section that a head is an instance of or that its json means; mistakes are told as those of it.

    A name that is not one of ours is a plug-in's, and so is whatever has `options`.
    """
    if isinstance(head, dict):
        name = head.get("name")
        return name if isinstance(name, str) and name in HEAD_SECTIONS and "options" not in head else "plugin"
    return next((key for key, section in HEAD_SECTIONS.items() if type(head) is section), "plugin")


HeadConfig = Annotated[
    Annotated[FasterRCNNConfig, Tag("faster_rcnn")]
    | Annotated[MaskRCNNConfig, Tag("mask_rcnn")]
    | Annotated[CascadeRCNNConfig, Tag("cascade_rcnn")]
    | Annotated[CascadeMaskRCNNConfig, Tag("cascade_mask_rcnn")]
    | Annotated[RetinaNetConfig, Tag("retinanet")]
    | Annotated[FCOSConfig, Tag("fcos")]
    | Annotated[YOLOConfig, Tag("yolo")]
    | Annotated[ClassificationConfig, Tag("classification")]
    | Annotated[UNetConfig, Tag("unet")]
    | Annotated[UNetPlusPlusConfig, Tag("unetplusplus")]
    | Annotated[DeepLabV3Config, Tag("deeplabv3")]
    | Annotated[DeepLabV3PlusConfig, Tag("deeplabv3plus")]
    | Annotated[SegmentationFPNConfig, Tag("segmentation_fpn")]
    | Annotated[PSPNetConfig, Tag("pspnet")]
    | Annotated[PluginHeadConfig, Tag("plugin")],
    Discriminator(_kind),
]
