"""Which section of an experiment is whose head's: one for each registered head, and one for all others."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, JsonValue, Tag

from tasks.classification.head_config import ClassificationConfig
from tasks.config_section import HeadSection
from tasks.detection.head_config import (
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    FCOSConfig,
    MaskRCNNConfig,
    RetinaNetConfig,
    YOLOConfig,
)
from tasks.segmentation.head_config import (
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    PSPNetConfig,
    SegmentationFPNConfig,
    UNetConfig,
    UNetPlusPlusConfig,
)


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
