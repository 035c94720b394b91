"""What an experiment says about heads that give the class of every pixel."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config_section import Count, HeadSection, NotNegative, Share

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
