"""Convolutional highway networks (Srivastava et al., Highway Networks, arXiv:1505.00387, and Training Very Deep
Networks, arXiv:1507.06228).

    cifar_highway19     the authors' published network for CIFAR-10, 2.3 M parameters with its classifier
    cifar_highway32     1.25 M parameters, as the papers' thin network of that depth
    highway18           for images of any size, with the levels of a ResNet

Of the two for images of 32 pixels, the papers tell depths and numbers of parameters. The widths, biases, pooling and
dropout of the first are those of the authors' code (github.com/flukeskywalker/highway-networks), which has no file for
the second: its widths and gates' bias are ours, to the papers' depth and number of parameters. highway18 is ours: the
layers of plain18, all but those that change the width behind gates. Depth counts the classifier, which is a head's.
"""

import math
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.contract import FeatureSpec, register_backbone
from backbones.convolution import Conv, Init
from backbones.errors import UserError
from backbones.norm import Norm, conv_norm, make_norm
from backbones.staged import StagedBackbone


class PlainLayer(nn.Module):
    """A convolution, a norm if there is one, and a ReLU.

    It starts as all convolutions here, but by fan-in: where no norm follows, signals should keep their scale on their
    way to the last stage, and by fan-out they would lose some wherever the channels become more.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the convolution, an odd number.
        norm: kind of the norm; with None the convolution has a bias.
        stride: of the convolution.
        dilation: of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm: Norm | None,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 * dilation
        self.conv = Conv(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=norm is None)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        self.norm = None if norm is None else make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) if self.norm is None else conv_norm(self.conv, self.norm, x)
        return F.relu(y, inplace=True)


class HighwayLayer(PlainLayer):
    """y = H(x) T(x) + x (1 - T(x)): H is a 3x3 `PlainLayer`, T a 3x3 convolution and a sigmoid (equation 3).

    Args:
        channels: of input and output.
        gate_bias: what the bias of T starts with; the lower, the more of its input a layer carries through at first.
        norm: kind of the norm in H; None as in the papers.
        dilation: of both convolutions.
    """

    def __init__(self, channels: int, gate_bias: float, norm: Norm | None, dilation: int = 1) -> None:
        super().__init__(channels, channels, 3, norm, 1, dilation)
        self.gate = Conv(channels, channels, 3, 1, dilation, dilation, bias=True)
        nn.init.constant_(cast(Tensor, self.gate.bias), gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, super().forward(x), self.gate(x).sigmoid())


class HighwayNetwork(StagedBackbone):
    """What the networks for small and for large images share: a stem, and stages called `layer1` and so on.

    Attributes:
        default_gate_bias: where the option `gate_bias` is None.
    """

    default_gate_bias: ClassVar[float] = -2.0
    stem: PlainLayer

    def parts(self) -> list[list[nn.Module]]:
        return self._parts_of_layers(self.stem)

    def _checked_gate_bias(self, gate_bias: float | None) -> float:
        if gate_bias is None:
            return self.default_gate_bias
        if not math.isfinite(gate_bias):
            raise UserError(f"{type(self).__name__}: gate_bias is {gate_bias}; give a finite number, such as -2")
        return gate_bias


class CifarHighway(HighwayNetwork):
    """For images of about 32 pixels: three stages at strides 1, 2 and 4; a subclass gives their sizes.

    A 3x3 convolution leads to the channels of each stage, behind the maximum of 2x2 pixels from the second stage on;
    highway layers follow. Behind those of the last stage, a 1x1 convolution leads to the 100 channels that the
    classifier averages.

    Args:
        in_channels: channels of the images.
        norm: of all convolutions but the gates': `bn`, `frozen_bn`, `sync_bn` or `gn` as of
            `backbones.norm.make_norm`; None, as in the papers, is without norms.
        gate_bias: what the biases of the transform gates start with; None is -2 in cifar_highway19, -3 in
            cifar_highway32; arXiv:1507.06228, section 2.2, tells why they are negative.
        drop_rate: of the numbers that enter each stage, the share that is dropped in training; the authors' is 0.2.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and
            `layer1`, up to 4.
        init: `kaiming` or `xavier`, of the gates' weights too; see `backbones.convolution.initialise`.
        activation_checkpointing: keep only the layers' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Attributes:
        widths: channels of each stage.
        depths: number of highway layers in each stage.

    Raises:
        UserError: an option is out of its range.
    """

    widths: ClassVar[tuple[int, int, int]]
    depths: ClassVar[tuple[int, int, int]]

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm | None = None,
        gate_bias: float | None = None,
        drop_rate: float = 0.0,
        frozen_stages: int = 0,
        init: Init = "kaiming",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        self._require_drop_rate(drop_rate)
        self.drop_rate, bias = drop_rate, self._checked_gate_bias(gate_bias)
        channels = self.widths[0]
        self.stem = PlainLayer(in_channels, channels, 3, norm)
        self.features = {}
        for index, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            layers: list[PlainLayer] = [] if index == 0 else [PlainLayer(channels, width, 3, norm)]
            layers += [HighwayLayer(width, bias, norm) for _ in range(depth)]
            channels = width
            if index == 2:
                channels = 100
                layers.append(PlainLayer(width, channels, 1, norm))
            self.add_module(f"layer{index + 1}", nn.Sequential(*layers))
            self.features[f"c{index}"] = FeatureSpec(channels, 2**index)
        self._complete(init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> the three stages c0, c1 and c2, as in `features`."""
        x = self.stem(F.dropout(images, self.drop_rate, self.stem.training))
        levels: dict[str, Tensor] = {}
        for name, stage in zip(self.features, self._layers(), strict=True):
            if levels:
                x = F.dropout(F.max_pool2d(x, 2, 2, ceil_mode=True), self.drop_rate, stage.training)
            x = levels[name] = self._through(stage, x)
        return levels


class ImageHighway(HighwayNetwork):
    """A stem of stride 4, four highway layers of 64 channels, and three stages of a 3x3 convolution of stride 2 and
    three highway layers each, of 128, 256 and 512 channels.

    Args:
        in_channels: channels of the images.
        norm: as of `CifarHighway`.
        gate_bias: what the biases of the transform gates start with; None is -2.
        frozen_stages: as of `CifarHighway`, up to 5.
        output_stride: stride of C5: 32, 16 or 8. Below 32 the last stages trade their stride for dilation
            (Chen et al., DeepLab, arXiv:1606.00915, section 3.1).
        init: as of `CifarHighway`.
        activation_checkpointing: as of `CifarHighway`.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm | None = None,
        gate_bias: float | None = None,
        frozen_stages: int = 0,
        output_stride: int = 32,
        init: Init = "kaiming",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        self._require_output_stride(output_stride)
        layer = partial(HighwayLayer, gate_bias=self._checked_gate_bias(gate_bias), norm=norm)
        self.stem = PlainLayer(in_channels, 64, 7, norm, 2)
        self.layer1 = nn.Sequential(*(layer(64) for _ in range(4)))
        self.features = {"c1": FeatureSpec(64, 2), "c2": FeatureSpec(64, 4)}
        channels, total_stride, dilation = 64, 4, 1
        for index in (2, 3, 4):
            stride = 2 if total_stride < output_stride else 1
            entry = PlainLayer(channels, 2 * channels, 3, norm, stride, dilation)
            channels, total_stride, dilation = 2 * channels, total_stride * stride, dilation * 2 // stride
            self.add_module(
                f"layer{index}", nn.Sequential(entry, *(layer(channels, dilation=dilation) for _ in range(3)))
            )
            self.features[f"c{index + 1}"] = FeatureSpec(channels, total_stride)
        self._complete(init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> c1 (the stem, stride 2) and c2 to c5, as in `features`."""
        x = self.stem(images)
        levels = {"c1": x}
        x = F.max_pool2d(x, 3, 2, 1)
        for index, stage in enumerate(self._layers(), 2):
            x = levels[f"c{index}"] = self._through(stage, x)
        return levels


@register_backbone("cifar_highway19")
class CifarHighway19(CifarHighway):
    """Of the authors' code, after FitNet-4 (Romero et al., arXiv:1412.6550)."""

    widths, depths = (32, 80, 128), (4, 5, 5)


@register_backbone("cifar_highway32")
class CifarHighway32(CifarHighway):
    """Ten layers a stage, so thin that all have as many parameters as the papers say."""

    widths, depths, default_gate_bias = (32, 48, 64), (9, 9, 9), -3.0


register_backbone("highway18")(type("highway18", (ImageHighway,), {"__module__": __name__}))
