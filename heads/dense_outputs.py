"""What one-stage detectors compute at every cell of a pyramid: towers of convolutions, shared by all levels.

RetinaNet (https://arxiv.org/abs/1708.02002), section 4; FCOS (https://arxiv.org/abs/1904.01355), section 3.3.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from backbones.norm import conv_norm, make_norm

TowerNorm = Literal["none", "gn"]
# Of a class at every cell before training: else the loss of the many background cells would swamp all others
# (RetinaNet, section 4.1).
PRIOR = 0.01


class Tower(nn.Module):
    """3x3 convolutions that keep size and width, each with a norm, if any, and an activation.

    Args:
        channels: C.
        depth: how many.
        norm: `none`, or `gn` GroupNorm.
        bias: whether convolutions that have a norm have biases too.
        activation: after each of them.
    """

    def __init__(
        self, channels: int, depth: int, norm: TowerNorm, bias: bool = False, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        bias = bias or norm == "none"
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in range(depth))
        self.norms = nn.ModuleList(make_norm("gn", channels) for _ in range(depth if norm == "gn" else 0))
        self.activation = activation()
        for conv in self.convs:
            small_weights(conv)

    def forward(self, level: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        for number, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            level = self.activation(conv_norm(conv, self.norms[number], level) if len(self.norms) else conv(level))
        return level


def small_weights(layer: nn.Module, prior: float | None = None) -> nn.Conv2d:
    """The convolution, with weights of deviation 0.01 and biases of zero, or such that its sigmoid is `prior`."""
    assert isinstance(layer, nn.Conv2d)
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, 0.0 if prior is None else -math.log((1 - prior) / prior))
    return layer


def per_cell(maps: Sequence[Tensor], values: int) -> Tensor:
    """L maps (B, n * V, H, W), finest first, as (B, A, V) float32: the order of anchors, n at each cell."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, values).float() for level in maps], dim=1)
