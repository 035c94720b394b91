"""Blocks that begin with norm and ReLU (He et al., Identity Mappings, arXiv:1603.05027, figure 4, e)."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.blur_pool import BlurPool
from backbones.convolution import Conv
from backbones.norm import conv_norm, norm_relu
from backbones.residual import BlockPlace, NormFactory
from backbones.stochastic_depth import DropPath


@dataclass(frozen=True, slots=True)
class PreactivationDesign:
    """What the blocks of a network have in common.

    Attributes:
        stride_first: the stride lies in the bottleneck's first convolution, not the 3x3.
        antialias: strides are taken by a `BlurPool`.
    """

    stride_first: bool = False
    antialias: bool = False


class PreactivationBlock(nn.Module, ABC):
    """Norm, ReLU and convolution, two or three times, added to the input

    Where the shortcut is a convolution, it too comes behind `norm1` and ReLU, and both are left to the network: what
    they give is one of its levels.

    Args:
        design: shared by all blocks of the network.
        place: this block's.
        norm: makes the norm for a number of channels.
    """

    expansion: ClassVar[int]
    """Output channels over `width`."""
    last_convolution: ClassVar[str]
    """The branch's last convolution, which `zero_init_last` sets to zero."""

    def __init__(self, design: PreactivationDesign, place: BlockPlace, norm: NormFactory) -> None:
        super().__init__()
        out_channels = place.width * self.expansion
        self.norm1 = norm(place.in_channels)
        self._build(design, place, norm)
        self.drop_path = DropPath(place.drop_path) if place.drop_path else None
        self.downsample: nn.Module | None = None
        if place.stride != 1 or place.in_channels != out_channels:
            self.downsample = nn.Sequential(OrderedDict(conv=Conv(place.in_channels, out_channels, 1, place.stride)))

    def forward(self, x: Tensor) -> Tensor:
        """A sum, or where there is `downsample`, the activated sum -> the next sum."""
        y = self.branch(norm_relu(self.norm1, x) if self.downsample is None else x)
        if self.drop_path is not None:
            y = self.drop_path(y)
        return y.add_(x if self.downsample is None else self.downsample(x))

    @abstractmethod
    def _build(self, design: PreactivationDesign, place: BlockPlace, norm: NormFactory) -> None:
        """Make the branch's layers behind `norm1`."""

    @abstractmethod
    def branch(self, x: Tensor) -> Tensor:
        """The residual function of what `norm1` and ReLU give, a tensor of its own: `forward` adds to it in place."""


class PreactivationBasicBlock(PreactivationBlock):
    """Two 3x3 convolutions, the stride in the first."""

    expansion = 1
    last_convolution = "conv2"

    def _build(self, design: PreactivationDesign, place: BlockPlace, norm: NormFactory) -> None:
        width, entry, dilation = place.width, place.entry_dilation, place.dilation
        blurred = design.antialias and place.stride == 2
        self.conv1 = Conv(place.in_channels, width, 3, 1 if blurred else place.stride, entry, entry)
        self.norm2 = norm(width)
        self.blur = BlurPool(width) if blurred else None
        self.conv2 = Conv(width, width, 3, 1, dilation, dilation)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.norm2, x), inplace=True)
        if self.blur is not None:
            y = self.blur(y)
        return cast(Tensor, self.conv2(y))


class PreactivationBottleneck(PreactivationBlock):
    """1x1, 3x3 and 1x1 convolutions."""

    expansion = 4
    last_convolution = "conv3"

    def _build(self, design: PreactivationDesign, place: BlockPlace, norm: NormFactory) -> None:
        width, entry = place.width, place.entry_dilation
        blurred = design.antialias and place.stride == 2
        stride = 1 if blurred else place.stride
        first, second = (stride, 1) if design.stride_first else (1, stride)
        self.conv1 = Conv(place.in_channels, width, 1, first)
        self.norm2 = norm(width)
        self.conv2 = Conv(width, width, 3, second, entry, entry)
        self.norm3 = norm(width)
        self.blur = BlurPool(width) if blurred else None
        self.conv3 = Conv(width, width * self.expansion, 1)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.norm2, x), inplace=True)
        y = F.relu(conv_norm(self.conv2, self.norm3, y), inplace=True)
        if self.blur is not None:
            y = self.blur(y)
        return cast(Tensor, self.conv3(y))
