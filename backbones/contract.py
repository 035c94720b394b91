"""What every backbone promises: named feature maps, finest first, each with its channels and stride."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from backbones.errors import UserError
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
        """(B, in_channels, H, W) float -> `{level: (B, channels, ceil(H / stride), ceil(W / stride))}`.

        The levels are those of `features`, in that order. H and W need not be multiples of a stride.
        """

    @property
    def divisor(self) -> int:
        """Batches are padded to multiples of this many pixels, so that all levels fit: at least 32."""
        step = math.lcm(*(spec.stride for spec in self.features.values()))
        return -(-32 // step) * step

    def require_size(self, height: int, width: int) -> None:
        """Raise `UserError` where the network cannot take images of this many pixels, padding included.

        Asked before training, evaluation and prediction. Unless a network says otherwise, it takes all sizes.
        """

    def adapt_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights as the authors of a network publish them, by the names and in the shapes of `state_dict`.

        Loading calls it; unless a network knows better, they are what they are.
        """
        return weights

    def blocks(self) -> list[nn.Module]:
        """Modules that `forward` calls, each as a whole and none within another, one after another.

        Where weights are divided among processes, those of one block at a time are gathered. Unless a network names
        its blocks, all of its weights are gathered at once.
        """
        return []

    def stage_of(self, parameter: str) -> int:
        """How deep a parameter lies, by its name: 0 is nearest to the image.

        The learning rate can fall from stage to stage, and an option `frozen_stages` counts the same ones: N freezes
        those below N. Unless a network knows better, its direct children are its stages, in the order of their
        registration; a list or sequence of modules counts as its elements.
        """
        stages: list[str] = []
        for name, child in self.named_children():
            several = list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential) else []
            stages += [f"{name}.{index}." for index in range(len(several))] or [f"{name}."]
        return next((depth for depth, prefix in enumerate(stages) if parameter.startswith(prefix)), 0)


backbones: Registry[Backbone] = Registry("backbone", "polyhead.backbones")
register_backbone = backbones.register


def build_backbone(name: str, /, *, in_channels: int = 3, **options: Any) -> Backbone:
    """The registered backbone `name` for images of `in_channels` channels; a factory need not take `in_channels`.

    Args:
        name: as registered.
        in_channels: channels of the images.
        options: keywords of the factory.

    Raises:
        UserError: unknown name or option, a value out of range, or other than 3 channels for a network that takes 3.
    """
    if backbones.accepts(name, "in_channels"):
        options["in_channels"] = in_channels
    elif in_channels != 3:
        raise UserError(
            f"backbone {name!r} takes images of 3 channels, not {in_channels}: it has no in_channels option"
        )
    return backbones.build(name, **options)
