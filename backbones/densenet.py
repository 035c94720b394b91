"""DenseNets (Huang et al., Densely Connected Convolutional Networks, arXiv:1608.06993).

    densenet121 ... densenet201, densenet161    table 1: with bottlenecks and compression
    cifar_densenet40                            section 4.2, k = 12, with neither, for images of 32 pixels

Parameters are named as torchvision's and timm's behind their prefix `features.`, which the reader of weights knows.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.contract import FeatureSpec, register_backbone
from backbones.convolution import Conv, Init
from backbones.norm import Norm, conv_norm, make_norm, norm_relu
from backbones.residual import NormFactory
from backbones.staged import StagedBackbone


class DenseLayer(nn.Module):
    """Norm, ReLU and 1x1 convolution, then norm, ReLU and 3x3 convolution (sections 3 and 4: a bottleneck layer).

    Args:
        in_channels: of all that comes in.
        growth: channels that go out; the bottleneck has four times as many.
        norm: makes the norm for a number of channels.
        dilation: of the 3x3 convolution.
        drop_rate: probability of an output's being zero in training.
    """

    def __init__(self, in_channels: int, growth: int, norm: NormFactory, dilation: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = Conv(in_channels, 4 * growth, 1)
        self.norm2 = norm(4 * growth)
        self.conv2 = Conv(4 * growth, growth, 3, 1, dilation, dilation)
        self.drop_rate = drop_rate

    def forward(self, *features: Tensor) -> Tensor:
        """What entered the block and what each layer before this one added, (B, *, H, W) -> (B, growth, H, W)."""
        x = norm_relu(self.norm1, torch.cat(features, 1))
        x = F.relu(conv_norm(self.conv1, self.norm2, x), inplace=True)
        return F.dropout(self.conv2(x), self.drop_rate, self.training)


class SingleDenseLayer(nn.Module):
    """Norm, ReLU and 3x3 convolution; as `DenseLayer` without the bottleneck."""

    def __init__(self, in_channels: int, growth: int, norm: NormFactory, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = Conv(in_channels, growth, 3, 1, 1)
        self.drop_rate = drop_rate

    def forward(self, *features: Tensor) -> Tensor:
        """As `DenseLayer`'s."""
        x = self.conv1(norm_relu(self.norm1, torch.cat(features, 1)))
        return F.dropout(x, self.drop_rate, self.training)


class Transition(nn.Module):
    """1x1 convolution and averages of 2x2 pixels (section 3, pooling layers and compression).

    Its norm, with the ReLU, is what the level before it ends with: the network calls it.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        norm: makes the norm for a number of channels.
        stride: 2; or 1, where all averages are kept, not every second.
        spacing: of the pixels that are averaged, where `stride` is 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormFactory, stride: int = 2, spacing: int = 1
    ) -> None:
        super().__init__()
        self.norm = norm(in_channels)
        self.conv = Conv(in_channels, out_channels, 1)
        self.stride, self.spacing = stride, spacing

    def forward(self, level: Tensor) -> Tensor:
        # In this order a quarter of the arithmetic gives the same, for both are linear and one is over channels alone.
        if self.stride == 2:
            x = F.avg_pool2d(level, 2, 2, ceil_mode=True, count_include_pad=False)
        else:
            x = _average_neighbours(_average_neighbours(level, 2, self.spacing), 3, self.spacing)
        return cast(Tensor, self.conv(x))


def _average_neighbours(x: Tensor, dim: int, spacing: int) -> Tensor:
    """The mean of each pixel and the one `spacing` behind it along `dim`, or the pixel itself where there is none."""
    size = x.shape[dim]
    alone = min(spacing, size)
    behind = torch.cat([x.narrow(dim, alone, size - alone), x.narrow(dim, size - alone, alone)], dim)
    return (x + behind) / 2


class DenseNetwork(StagedBackbone):
    """What the networks for large and for small images share; a subclass builds `conv0`, perhaps `norm0`, dense blocks
    called `denseblock1` and so on, `transition1` and so on between them, and the norm behind the last one.

    Each level ends in a norm and a ReLU: it is what the next transition's convolution takes (as in
    segmentation-models-pytorch; timm gives the bare concatenations of a block, in which no two layers' outputs have one
    scale) or, of the last block, what the classifier averages. Where a size is odd, the last row or column is averaged
    alone, as the contract of sizes asks; torchvision and timm drop it. For multiples of 32 pixels it is all the same.
    """

    def parts(self) -> list[list[nn.Module]]:
        parts: list[list[nn.Module]] = [[m for name, m in self.named_children() if name in ("conv0", "norm0")]]
        for index, block in enumerate(self._blocks(), 1):
            entry: list[nn.Module] = [self._transition(index - 1).conv] if index > 1 else []
            parts.append([*entry, block, self._last_norm(index)])
        return parts

    def _levels(self, x: Tensor) -> list[Tensor]:
        """The level that each dense block ends in, of what enters the first one."""
        levels: list[Tensor] = []
        for index, block in enumerate(self._blocks(), 1):
            features = [self._transition(index - 1)(levels[-1]) if levels else x]
            for layer in block.values():
                features.append(self._run(layer, *features))
            levels.append(norm_relu(self._last_norm(index), torch.cat(features, 1)))
        return levels

    def _blocks(self) -> list[nn.ModuleDict]:
        return [cast(nn.ModuleDict, block) for name, block in self.named_children() if name.startswith("denseblock")]

    def _transition(self, index: int) -> Transition:
        return cast(Transition, self.get_submodule(f"transition{index}"))

    def _last_norm(self, index: int) -> nn.Module:
        """Of the block of that number, from 1 on."""
        count = len(self._blocks())
        return self._transition(index).norm if index < count else self.get_submodule(f"norm{count + 1}")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What tells one DenseNet from another.

    Attributes:
        growth: channels that each layer adds; the stem has twice as many.
        depths: number of layers in each dense block.
    """

    growth: int
    depths: tuple[int, int, int, int]


class DenseNet(DenseNetwork):
    """A stem of stride 4 and four dense blocks with transitions between them; a subclass names its architecture.

    Args:
        in_channels: channels of the images.
        norm: `bn`, `frozen_bn`, `sync_bn` or `gn`; see `backbones.norm.make_norm`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and all
            that c2 is computed from, up to 5.
        output_stride: stride of C5: 32, 16 or 8. Below 32 the last transitions keep all their averages and the 3x3
            convolutions behind them are dilated (Chen et al., DeepLab, arXiv:1606.00915, section 3.1).
        init: `kaiming` or `xavier`; see `backbones.convolution.initialise`.
        drop_rate: of the outputs of each dense layer, the share that is dropped in training (section 4.2).
        activation_checkpointing: keep only what each dense layer adds for the backward pass, and compute the rest, the
            concatenations among it, again there: memory grows linearly with the depth of a block, not with its square
            (Pleiss et al., Memory-Efficient Implementation of DenseNets, arXiv:1707.06990).

    Raises:
        UserError: an option is out of its range.
    """

    architecture: ClassVar[Architecture]

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm = "bn",
        frozen_stages: int = 0,
        output_stride: int = 32,
        init: Init = "kaiming",
        drop_rate: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        growth = self.architecture.growth
        self._require_output_stride(output_stride)
        self._require_drop_rate(drop_rate)

        norm_factory = partial(make_norm, norm)
        channels, total_stride, dilation = 2 * growth, 4, 1
        self.conv0 = Conv(in_channels, channels, 7, 2, 3)
        self.norm0 = norm_factory(channels)
        self.features = {"c1": FeatureSpec(channels, 2)}
        for index, depth in enumerate(self.architecture.depths, 1):
            layers = nn.ModuleDict()
            for number in range(1, depth + 1):
                layers[f"denselayer{number}"] = DenseLayer(channels, growth, norm_factory, dilation, drop_rate)
                channels += growth
            self.add_module(f"denseblock{index}", layers)
            self.features[f"c{index + 1}"] = FeatureSpec(channels, total_stride)
            if index == len(self.architecture.depths):
                self.norm5 = norm_factory(channels)
            else:
                stride = 2 if total_stride < output_stride else 1
                transition = Transition(channels, channels // 2, norm_factory, stride, dilation)
                self.add_module(f"transition{index}", transition)
                channels, total_stride, dilation = channels // 2, total_stride * stride, dilation * 2 // stride
        self._complete(init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> c1 (the stem, stride 2) and c2 to c5, as in `features`."""
        x = F.relu(conv_norm(self.conv0, self.norm0, images), inplace=True)
        levels = self._levels(F.max_pool2d(x, 3, 2, 1))
        return dict(zip(self.features, [x, *levels], strict=True))


@register_backbone("cifar_densenet40")
class CifarDenseNet40(DenseNetwork):
    """A 3x3 convolution of 16 channels and three dense blocks of 12 layers, each of which adds 12 channels, at strides
    1, 2 and 4; 1.0 M parameters with a classifier of 10 classes.

    Args:
        in_channels: channels of the images.
        norm: as of `DenseNet`.
        frozen_stages: as of `DenseNet`, up to 4.
        init: as of `DenseNet`.
        drop_rate: as of `DenseNet`; 0.2 in the paper, where images are not augmented.
        activation_checkpointing: as of `DenseNet`.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm = "bn",
        frozen_stages: int = 0,
        init: Init = "kaiming",
        drop_rate: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        self._require_drop_rate(drop_rate)
        norm_factory, channels = partial(make_norm, norm), 16
        self.conv0 = Conv(in_channels, channels, 3, 1, 1)
        self.features = {}
        for index in (1, 2, 3):
            layers = nn.ModuleDict()
            for number in range(1, 13):
                layers[f"denselayer{number}"] = SingleDenseLayer(channels, 12, norm_factory, drop_rate)
                channels += 12
            self.add_module(f"denseblock{index}", layers)
            self.features[f"c{index - 1}"] = FeatureSpec(channels, 2 ** (index - 1))
            if index < 3:
                self.add_module(f"transition{index}", Transition(channels, channels, norm_factory))
        self.norm4 = norm_factory(channels)
        self._complete(init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> the three blocks c0, c1 and c2, as in `features`."""
        return dict(zip(self.features, self._levels(self.conv0(images)), strict=True))


ARCHITECTURES = {
    "densenet121": Architecture(32, (6, 12, 24, 16)),
    "densenet169": Architecture(32, (6, 12, 32, 32)),
    "densenet201": Architecture(32, (6, 12, 48, 32)),
    "densenet161": Architecture(48, (6, 12, 36, 24)),
}
for _name, _architecture in ARCHITECTURES.items():
    register_backbone(_name)(type(_name, (DenseNet,), {"__module__": __name__, "architecture": _architecture}))
