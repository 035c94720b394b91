"""ResNet-18 to -152 (He et al., Deep Residual Learning, arXiv:1512.03385, table 1), parameters named as torchvision's.

The bottleneck is "v1.5": the stride lies in its 3x3 convolution instead of the first 1x1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.contract import Backbone, FeatureSpec, register_backbone
from backbones.errors import UserError
from backbones.norm import Norm, conv_norm, make_norm

NormFactory = Callable[[int], nn.Module]


class Conv(nn.Conv2d):
    """A convolution without bias that starts as He et al., arXiv:1502.01852, section 2.2: normal, by fan-out."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class Shortcut(nn.Sequential):
    """1x1 convolution and norm that fit a block's input to its output."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: NormFactory) -> None:
        super().__init__(Conv(in_channels, out_channels, 1, stride), norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(cast(Conv, self[0]), self[1], x)


class ResidualBlock(nn.Module, ABC):
    """A branch of convolutions added to its own input (section 3.2)."""

    expansion: ClassVar[int]
    """Output channels over `width`."""
    last_norm: ClassVar[str]
    """The branch's last norm, which `zero_init_last` sets to zero."""
    downsample: Shortcut | None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.branch(x).add_(shortcut), inplace=True)

    @abstractmethod
    def branch(self, x: Tensor) -> Tensor:
        """The residual function, a tensor of its own: `forward` adds to it in place."""

    def _shortcut(self, in_channels: int, width: int, stride: int, norm: NormFactory) -> Shortcut | None:
        out_channels = width * self.expansion
        return (
            None if stride == 1 and in_channels == out_channels else Shortcut(in_channels, out_channels, stride, norm)
        )


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (figure 5, left).

    Args:
        in_channels: channels that come in.
        width: channels of the convolutions.
        stride: of the first one.
        entry_dilation: of the first one.
        dilation: of the second one.
        norm: makes the norm for a number of channels.
    """

    expansion = 1
    last_norm = "bn2"

    def __init__(
        self, in_channels: int, width: int, stride: int, entry_dilation: int, dilation: int, norm: NormFactory
    ) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, width, 3, stride, entry_dilation, entry_dilation)
        self.bn1 = norm(width)
        self.conv2 = Conv(width, width, 3, 1, dilation, dilation)
        self.bn2 = norm(width)
        self.downsample = self._shortcut(in_channels, width, stride, norm)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        return conv_norm(self.conv2, self.bn2, y)


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions (figure 5, right).

    Args:
        in_channels: channels that come in.
        width: channels of the 3x3 convolution; four times as many go out.
        stride: of the 3x3 convolution.
        entry_dilation: of the 3x3 convolution, the one that carries the stride.
        dilation: of 3x3 convolutions behind that one; there is none here.
        norm: makes the norm for a number of channels.
    """

    expansion = 4
    last_norm = "bn3"

    def __init__(
        self, in_channels: int, width: int, stride: int, entry_dilation: int, dilation: int, norm: NormFactory
    ) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, width, 1)
        self.bn1 = norm(width)
        self.conv2 = Conv(width, width, 3, stride, entry_dilation, entry_dilation)
        self.bn2 = norm(width)
        self.conv3 = Conv(width, width * self.expansion, 1)
        self.bn3 = norm(width * self.expansion)
        self.downsample = self._shortcut(in_channels, width, stride, norm)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        y = F.relu(conv_norm(self.conv2, self.bn2, y), inplace=True)
        return conv_norm(self.conv3, self.bn3, y)


class ResNet(Backbone):
    """A stem of stride 4 and four stages of residual blocks; a subclass names the block and how many of them.

    Args:
        in_channels: channels of the images.
        norm: `bn`, `frozen_bn`, `sync_bn` or `gn`; see `backbones.norm.make_norm`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and
            `layer1`, up to 5.
        output_stride: stride of C5: 32, 16 or 8. Below 32 the last stages trade their stride for dilation
            (Chen et al., DeepLab, arXiv:1606.00915, section 3.1).
        zero_init_last: start each residual branch at zero (Goyal et al., arXiv:1706.02677, section 5.1).
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Raises:
        UserError: an option is out of its range.
    """

    block: ClassVar[type[BasicBlock] | type[Bottleneck]]
    depths: ClassVar[tuple[int, int, int, int]]

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm = "bn",
        frozen_stages: int = 0,
        output_stride: int = 32,
        zero_init_last: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if in_channels < 1:
            raise UserError(f"{name}: in_channels is {in_channels}; images have at least 1 channel")
        if frozen_stages not in range(6):
            raise UserError(f"{name}: frozen_stages is {frozen_stages}; give 0 (none) to 5 (all)")
        if output_stride not in (8, 16, 32):
            raise UserError(f"{name}: output_stride is {output_stride}; give 8, 16 or 32")
        if zero_init_last and norm == "frozen_bn":
            raise UserError(
                f"{name}: zero_init_last needs a norm that trains; frozen_bn would keep the branches at zero"
            )
        self.in_channels = in_channels
        self.frozen_stages = frozen_stages
        self.activation_checkpointing = activation_checkpointing

        norm_factory = partial(make_norm, norm)
        self.conv1 = Conv(in_channels, 64, 7, 2, 3)
        self.bn1 = norm_factory(64)
        self.features = {"c1": FeatureSpec(64, 2)}
        channels, total_stride, dilation = 64, 4, 1
        for index, depth in enumerate(self.depths):
            width = 64 * 2**index
            stride, entry_dilation = (1 if index == 0 else 2), dilation
            if total_stride * stride > output_stride:
                stride, dilation = 1, dilation * 2
            total_stride *= stride
            blocks = []
            for _ in range(depth):
                blocks.append(self.block(channels, width, stride, entry_dilation, dilation, norm_factory))
                channels, stride, entry_dilation = width * self.block.expansion, 1, dilation
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            self.features[f"c{index + 2}"] = FeatureSpec(channels, total_stride)

        if zero_init_last:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.get_parameter(f"{module.last_norm}.weight"))
        for module in self._frozen():
            module.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> c1 (the stem behind its ReLU, stride 2) and c2 to c5, as in `features`."""
        x = F.relu(conv_norm(self.conv1, self.bn1, images), inplace=True)
        levels = {"c1": x}
        x = F.max_pool2d(x, 3, 2, 1)
        for index, stage in enumerate(self._stages()):
            for block in stage:
                x = self._recomputed(block, x) if self.activation_checkpointing else block(x)
            levels[f"c{index + 2}"] = x
        return levels

    def train(self, mode: bool = True) -> "ResNet":
        """As `nn.Module.train`, but the frozen stages stay in eval mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def stage_of(self, parameter: str) -> int:
        return int(parameter[5]) if parameter.startswith("layer") else 0

    def _stages(self) -> list[nn.Sequential]:
        return [cast(nn.Sequential, self.get_submodule(f"layer{index}")) for index in range(1, 5)]

    def _frozen(self) -> list[nn.Module]:
        stem: list[nn.Module] = [self.conv1, self.bn1]
        return [*stem, *self._stages()[: self.frozen_stages - 1]] if self.frozen_stages else []

    def _recomputed(self, block: nn.Module, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return cast(Tensor, block(x))
        if torch.compiler.is_compiling():  # takes no contexts, and updates buffers in the forward pass alone by itself
            return cast(Tensor, checkpoint(block, x, use_reentrant=False))
        return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=partial(_checkpoint_contexts, block)))


def _checkpoint_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a block's forward pass and of its recomputation."""
    return nullcontext(), _statistics_untouched(block)


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting the same batch a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


@register_backbone("resnet18")
class ResNet18(ResNet):
    block, depths = BasicBlock, (2, 2, 2, 2)


@register_backbone("resnet34")
class ResNet34(ResNet):
    block, depths = BasicBlock, (3, 4, 6, 3)


@register_backbone("resnet50")
class ResNet50(ResNet):
    block, depths = Bottleneck, (3, 4, 6, 3)


@register_backbone("resnet101")
class ResNet101(ResNet):
    block, depths = Bottleneck, (3, 4, 23, 3)


@register_backbone("resnet152")
class ResNet152(ResNet):
    block, depths = Bottleneck, (3, 8, 36, 3)
