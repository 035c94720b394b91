"""A network that is quick to train, and ones with a mistake in them."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, register_backbone
from heads import Classification, register_head


@register_backbone("checked_net")
class CheckedNet(Backbone):
    """Five convolutions."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = (in_channels, 16, 24, 32, 48, 64)
        self.features = {f"c{level}": FeatureSpec(widths[level], 2**level) for level in range(1, 6)}
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(4, after))
            for before, after in pairwise(widths)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [images := stage(images).relu() for stage in self.stages]
        return dict(zip(self.features, maps, strict=True))


@register_backbone("forgetful_net")
class ForgetfulNet(CheckedNet):
    """Somebody froze a layer to try something."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(in_channels)
        self.stages[3].requires_grad_(False)


@register_head("detached_labels")
class DetachedLabels(Classification):
    """What the backbone gives is cut off from the loss."""

    def loss(self, features: dict[str, Tensor], *rest: Any) -> dict[str, Tensor]:
        return super().loss({level: each.detach() for level, each in features.items()}, *rest)
