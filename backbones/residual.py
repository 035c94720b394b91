"""Residual blocks and their designs: what is added to what, and where the stride, the groups and the attention lie."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, cast

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.blur_pool import BlurPool
from backbones.contract import FeatureSpec
from backbones.convolution import Conv
from backbones.errors import UserError
from backbones.norm import FrozenBatchNorm, conv_norm
from backbones.squeeze_excite import SqueezeExcite
from backbones.stochastic_depth import DropPath

NormFactory: TypeAlias = Callable[[int], nn.Module]


@dataclass(frozen=True, slots=True)
class BlockDesign:
    """What the blocks of a network have in common.

    Attributes:
        groups: of the 3x3 convolution of a bottleneck (Xie et al., ResNeXt, arXiv:1611.05431, section 3.3).
        width_per_group: channels of each group at the first stage; 64 is the bottleneck of He et al.
        stride_first: the stride lies in the bottleneck's first convolution, as in He et al. (2015), not the 3x3.
        shortcut: how an input of another shape is fitted to the output: `projection` by a 1x1 convolution, `average` by
            2x2 averaging before it (He et al., Bag of Tricks, arXiv:1812.01187, ResNet-D), `padding` by every second
            pixel and channels of zeros ("option A", He et al., 2015, section 4.2); `none` has no shortcuts at all.
        squeeze_excite: attention over the channels of each branch.
        antialias: strides are taken by a `BlurPool`.
    """

    groups: int = 1
    width_per_group: int = 64
    stride_first: bool = False
    shortcut: Literal["projection", "average", "padding", "none"] = "projection"
    squeeze_excite: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a block stands in its network.

    Attributes:
        in_channels: channels that come in.
        width: channels of a plain 3x3 convolution at this stage; `expansion` times as many go out.
        stride: of the block.
        entry_dilation: of the convolution that carries the stride.
        dilation: of 3x3 convolutions behind that one.
        drop_path: probability of leaving the branch out.
    """

    in_channels: int
    width: int
    stride: int = 1
    entry_dilation: int = 1
    dilation: int = 1
    drop_path: float = 0.0


def stage_places(
    depths: Sequence[int],
    width: int,
    in_channels: int,
    expansion: int,
    total_stride: int,
    output_stride: int,
    rates: Sequence[float],
) -> list[list[BlockPlace]]:
    """Places of the blocks of each stage: from stage to stage the width doubles, and so does the stride, up to a limit.

    Args:
        depths: number of blocks in each stage.
        width: of the first stage.
        in_channels: of the first block.
        expansion: output channels of a block over its width.
        total_stride: of the first stage.
        output_stride: stages whose stride would be larger dilate their convolutions instead.
        rates: `drop_path` of each block, all stages' in a row.
    """
    stages: list[list[BlockPlace]] = []
    remaining, dilation = iter(rates), 1
    for index, depth in enumerate(depths):
        stride, entry_dilation = (1 if index == 0 else 2), dilation
        if total_stride * stride > output_stride:
            stride, dilation = 1, dilation * 2
        total_stride *= stride
        stages.append([])
        for _ in range(depth):
            stages[-1].append(BlockPlace(in_channels, width, stride, entry_dilation, dilation, next(remaining)))
            in_channels, stride, entry_dilation = width * expansion, 1, dilation
        width *= 2
    return stages


def stage_features(
    stages: Sequence[Sequence[BlockPlace]], expansion: int, total_stride: int, first: int
) -> dict[str, FeatureSpec]:
    """The levels that stages end in.

    Args:
        stages: as of `stage_places`, and so are `expansion` and `total_stride`.
        expansion: output channels of a block over its width.
        total_stride: of the first stage.
        first: number of its level: 2 for c2.
    """
    features = {}
    for number, places in enumerate(stages, first):
        total_stride *= places[0].stride
        features[f"c{number}"] = FeatureSpec(places[0].width * expansion, total_stride)
    return features


class Projection(nn.Sequential):
    """1x1 convolution and norm that fit a block's input to its output."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: NormFactory) -> None:
        super().__init__(Conv(in_channels, out_channels, 1, stride), norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(cast(Conv, self[0]), self[1], x)


class AverageProjection(nn.Sequential):
    """As `Projection`, with the stride taken by averaging 2x2 pixels, of which border pixels may have fewer."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: NormFactory) -> None:
        pool = nn.Identity() if stride == 1 else nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        super().__init__(pool, Conv(in_channels, out_channels, 1), norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(cast(Conv, self[1]), self[2], self[0](x))


class Padding(nn.Module):
    """Every `stride`-th pixel, with as many channels of zeros on either side as the output has more; no weights."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, more = stride, out_channels - in_channels
        self.before, self.after = more // 2, more - more // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def make_shortcut(design: BlockDesign, place: BlockPlace, out_channels: int, norm: NormFactory) -> nn.Module | None:
    """What fits the block's input to its output; None where it fits already, or the design has no shortcuts."""
    if design.shortcut == "none" or (place.stride == 1 and place.in_channels == out_channels):
        return None
    match design.shortcut:
        case "projection":
            return Projection(place.in_channels, out_channels, place.stride, norm)
        case "average":
            return AverageProjection(place.in_channels, out_channels, place.stride, norm)
        case "padding":
            return Padding(place.in_channels, out_channels, place.stride)


class ResidualBlock(nn.Module, ABC):
    """A branch of convolutions added to its own input (He et al., Deep Residual Learning, arXiv:1512.03385, 3.2).

    Args:
        design: shared by all blocks of the network.
        place: this block's.
        norm: makes the norm for a number of channels.
    """

    expansion: ClassVar[int]
    """Output channels over `width`."""
    last_norm: ClassVar[str]
    """The branch's last norm, which `zero_init_last` sets to zero."""

    def __init__(self, design: BlockDesign, place: BlockPlace, norm: NormFactory) -> None:
        super().__init__()
        self.plain = design.shortcut == "none"
        self._build(design, place, norm)
        out_channels = place.width * self.expansion
        # What a plain state dict knows nothing of appears in it only where it is used.
        self.se = SqueezeExcite(out_channels) if design.squeeze_excite else None
        self.drop_path = DropPath(place.drop_path) if place.drop_path else None
        self.downsample = make_shortcut(design, place, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.se is not None:
            y = self.se(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        if not self.plain:
            y = y.add_(x if self.downsample is None else self.downsample(x))
        return F.relu(y, inplace=True)

    @abstractmethod
    def _build(self, design: BlockDesign, place: BlockPlace, norm: NormFactory) -> None:
        """Make the branch's layers."""

    @abstractmethod
    def branch(self, x: Tensor) -> Tensor:
        """The residual function, a tensor of its own: `forward` adds to it in place."""


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (figure 5, left), the stride in the first."""

    expansion = 1
    last_norm = "bn2"

    def _build(self, design: BlockDesign, place: BlockPlace, norm: NormFactory) -> None:
        width, entry, dilation = place.width, place.entry_dilation, place.dilation
        blurred = design.antialias and place.stride == 2
        self.conv1 = Conv(place.in_channels, width, 3, 1 if blurred else place.stride, entry, entry)
        self.bn1 = norm(width)
        self.blur = BlurPool(width) if blurred else None
        self.conv2 = Conv(width, width, 3, 1, dilation, dilation)
        self.bn2 = norm(width)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        if self.blur is not None:
            y = self.blur(y)
        return conv_norm(self.conv2, self.bn2, y)


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions (figure 5, right)."""

    expansion = 4
    last_norm = "bn3"

    def _build(self, design: BlockDesign, place: BlockPlace, norm: NormFactory) -> None:
        width = place.width * design.width_per_group // 64 * design.groups
        out_channels, entry = place.width * self.expansion, place.entry_dilation
        blurred = design.antialias and place.stride == 2
        stride = 1 if blurred else place.stride
        first, second = (stride, 1) if design.stride_first else (1, stride)
        self.conv1 = Conv(place.in_channels, width, 1, first)
        self.bn1 = norm(width)
        self.conv2 = Conv(width, width, 3, second, entry, entry, design.groups)
        self.bn2 = norm(width)
        self.blur = BlurPool(width) if blurred else None
        self.conv3 = Conv(width, out_channels, 1)
        self.bn3 = norm(out_channels)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        y = F.relu(conv_norm(self.conv2, self.bn2, y), inplace=True)
        if self.blur is not None:
            y = self.blur(y)
        return conv_norm(self.conv3, self.bn3, y)


def zero_last_norms(network: nn.Module) -> None:
    """Start each residual branch at zero (Goyal et al., arXiv:1706.02677, section 5.1).

    Raises:
        UserError: the norms do not train.
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            norm = module.get_submodule(module.last_norm)
            if isinstance(norm, FrozenBatchNorm):
                raise UserError(
                    f"{type(network).__name__}: zero_init_last needs a norm that trains; frozen_bn would keep the "
                    "branches at zero"
                )
            nn.init.zeros_(norm.get_parameter("weight"))
