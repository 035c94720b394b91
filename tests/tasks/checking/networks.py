"""A network that is quick to train, and ones with a mistake in them."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, register_backbone
from backbones.contract import backbones
from heads import Classification, Head, heads, register_head
from heads.contract import Detections, ImageSizes, Prediction, Targets


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


class CountingLabels(Classification):
    """It remembers how often it was called, which a program does not."""

    calls = 0

    def scores(self, *given: Any) -> Tensor:
        self.calls += 1
        return super().scores(*given) / self.calls


class UnfixedBoxes(Head):
    """A detector as somebody would write it first: as many outputs as there are."""

    reads = "boxes"

    def __init__(self, features: Mapping[str, FeatureSpec], num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Conv2d(features["c5"].channels, num_classes, 1)

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        return {"loss": self.scores(features["c5"]).square().mean()}

    def predict(self, features: dict[str, Tensor], images: ImageSizes) -> list[Prediction]:
        return [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)) for _ in images.valid]


HEADS = {"detached_labels": DetachedLabels, "counting_labels": CountingLabels, "unfixed_boxes": UnfixedBoxes}


@pytest.fixture(autouse=True)
def registered_networks() -> Iterator[None]:
    """These networks by name, for the tests of a module that imports this."""
    register_backbone("checked_net")(CheckedNet)
    register_backbone("forgetful_net")(ForgetfulNet)
    for name, head in HEADS.items():
        register_head(name)(head)
    yield
    del backbones._factories["checked_net"], backbones._factories["forgetful_net"]
    for name in HEADS:
        del heads._factories[name]
