"""A network that is quick to train, and ones with a mistake in them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, register_backbone
from backbones.contract import backbones
from heads import Classification, heads, register_head


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


class ForgetfulNet(CheckedNet):
    """Somebody froze a layer to try something."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(in_channels)
        self.stages[3].requires_grad_(False)


class DetachedLabels(Classification):
    """What the backbone gives is cut off from the loss."""

    def loss(self, features: dict[str, Tensor], *rest: Any) -> dict[str, Tensor]:
        return super().loss({level: each.detach() for level, each in features.items()}, *rest)


@pytest.fixture(autouse=True)
def registered_networks() -> Iterator[None]:
    """These networks by name, for the tests of a module that imports this."""
    register_backbone("checked_net")(CheckedNet)
    register_backbone("forgetful_net")(ForgetfulNet)
    register_head("detached_labels")(DetachedLabels)
    yield
    del backbones._factories["checked_net"], backbones._factories["forgetful_net"], heads._factories["detached_labels"]
