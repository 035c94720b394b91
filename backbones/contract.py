"""What every backbone promises: named feature maps, finest first, each with its channels and stride."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from backbones.registry import Registry


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature map.

    Attributes:
        channels: its channels.
        stride: image pixels per feature cell, along each side.
    """

    channels: int
    stride: int


class Backbone(nn.Module, ABC):
    """Images in, a dict of feature maps out.

    Attributes:
        features: what `forward` returns, by level name, finest first:
            `{"c1": FeatureSpec(64, 2), "c2": FeatureSpec(256, 4), ..., "c5": FeatureSpec(2048, 32)}`.
        in_channels: channels of the images it takes.
    """

    features: dict[str, FeatureSpec]
    in_channels: int

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> `{level: (B, channels, ceil(H / stride), ceil(W / stride))}`, keys as in `features`."""


backbones: Registry[Backbone] = Registry("backbone", "polyhead.backbones")
register_backbone = backbones.register
