"""ResNets whose blocks begin with norm and ReLU (He et al., Identity Mappings in Deep Residual Networks,
arXiv:1603.05027), so that nothing but additions lies between the blocks.

    resnet18_v2 ... resnet152_v2        as many blocks as resnet18 to resnet152; the stride in the 3x3 convolution
    resnet200_v2                        16 blocks more than resnet152_v2, in the second stage
    cifar_resnet164_v2, ...1001_v2      bottlenecks for images of 32 pixels; the stride in the first 1x1 convolution

Parameters are named as those of timm's `resnetv2_*`, whose files load by name.

What lies between two stages is a sum that grows from block to block and can be negative, and nothing reads it but the
norm and ReLU at the next stage's head: its first block takes branch and shortcut from behind them (the paper's
appendix, and its authors' code). A level is what lies behind those two, hence what the next stage reads; of the
last stage, behind the network's last norm and ReLU. So heads get maps of one scale, as from other ResNets, and no norm
is added. C1, the stem's convolution, is not normalised: no norm follows it before the pooling.
"""

from collections import OrderedDict
from functools import partial
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.blur_pool import stem_pool
from backbones.contract import FeatureSpec, register_backbone
from backbones.convolution import Conv, Init
from backbones.norm import Norm, conv_norm, make_norm, norm_relu
from backbones.preactivation_block import (
    PreactivationBasicBlock,
    PreactivationBlock,
    PreactivationBottleneck,
    PreactivationDesign,
)
from backbones.residual import BlockPlace, NormFactory, stage_features, stage_places
from backbones.staged import StagedBackbone
from backbones.stochastic_depth import drop_rates


class PreactivationNetwork(StagedBackbone):
    """What the networks for large and for small images share; a subclass names its blocks and builds the rest.

    Attributes:
        block: of all stages.
        depths: number of blocks in each stage.
    """

    block: ClassVar[type[PreactivationBlock]]
    depths: ClassVar[tuple[int, ...]]

    def parts(self) -> list[list[nn.Module]]:
        ends = self._ends()
        parts: list[list[nn.Module]] = [[self.stem, ends[0]]]
        for stage, end in zip(self._stages(), ends[1:], strict=True):
            first, *others = stage
            own = [module for module in first.children() if module is not first.norm1]
            parts.append([*own, *others, end])
        return parts

    def _build(
        self, stem: Conv, design: PreactivationDesign, stages: list[list[BlockPlace]], norm: NormFactory
    ) -> None:
        self.stem = nn.Sequential(OrderedDict(conv=stem))
        self.stages = nn.ModuleList(
            nn.ModuleDict({"blocks": nn.Sequential(*(self.block(design, place, norm) for place in places))})
            for places in stages
        )
        self.norm = norm(stages[-1][-1].width * self.block.expansion)

    def _finish(self, init: Init, zero_init_last: bool) -> None:
        self._complete(init)
        if zero_init_last:
            for module in self.modules():
                if isinstance(module, PreactivationBlock):
                    nn.init.zeros_(module.get_parameter(f"{module.last_convolution}.weight"))

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Each stage behind the norm and ReLU that end it, of what the first block takes."""
        levels = []
        for stage, end in zip(self._stages(), self._ends()[1:], strict=True):
            x = norm_relu(end, self._through(stage, x))
            levels.append(x)
        return levels

    def _stages(self) -> list[list[PreactivationBlock]]:
        blocks = [cast(nn.ModuleDict, stage)["blocks"].children() for stage in self.stages]
        return [cast(list[PreactivationBlock], list(each)) for each in blocks]

    def _ends(self) -> list[nn.Module]:
        """The norms behind the stem and each stage."""
        return [*(stage[0].norm1 for stage in self._stages()), self.norm]


class PreactivationResNet(PreactivationNetwork):
    """A stem of stride 4 and four stages.

    Args:
        in_channels: channels of the images.
        norm: `bn`, `frozen_bn`, `sync_bn` or `gn`; see `backbones.norm.make_norm`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and all
            else that c2 is computed from, up to 5.
        output_stride: stride of C5: 32, 16 or 8. Below 32 the last stages trade their stride for dilation
            (Chen et al., DeepLab, arXiv:1606.00915, section 3.1).
        init: `kaiming` or `xavier`; see `backbones.convolution.initialise`.
        zero_init_last: start each residual branch at zero, by its last convolution: no norm comes behind it.
        drop_path: probability of leaving out the last block's branch in training, falling linearly towards the first
            block's; see `backbones.stochastic_depth.DropPath`.
        antialias: blur where the stem's pooling and the branches drop pixels; see `backbones.blur_pool.BlurPool`.
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm = "bn",
        frozen_stages: int = 0,
        output_stride: int = 32,
        init: Init = "kaiming",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        antialias: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        name, expansion = type(self).__name__, self.block.expansion
        self._require_output_stride(output_stride)
        rates = drop_rates(drop_path, sum(self.depths), name)
        stages = stage_places(self.depths, 64, 64, expansion, 4, output_stride, rates)
        design = PreactivationDesign(antialias=antialias)
        self._build(Conv(in_channels, 64, 7, 2, 3), design, stages, partial(make_norm, norm))
        self.maxpool = stem_pool(64, antialias)
        self.features = {"c1": FeatureSpec(64, 2), **stage_features(stages, expansion, 4, first=2)}
        self._finish(init, zero_init_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> c1 (the stem's convolution, stride 2) and c2 to c5, as in `features`."""
        stem = self.stem(images)
        x = self.maxpool(stem)
        first = self._stages()[0][0]
        if first.downsample is not None:
            x = norm_relu(first.norm1, x)
        return dict(zip(self.features, [stem, *self._levels(x)], strict=True))


class CifarPreactivationResNet(PreactivationNetwork):
    """For images of 32 pixels: a 3x3 convolution of 16 channels and three stages of strides 1, 2 and 4.

    Args:
        in_channels: channels of the images.
        norm: as of `PreactivationResNet`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and all
            else that c0 is computed from, up to 4.
        init: as of `PreactivationResNet`.
        zero_init_last: as of `PreactivationResNet`.
        drop_path: as of `PreactivationResNet`.
        activation_checkpointing: as of `PreactivationResNet`.

    Raises:
        UserError: an option is out of its range.
    """

    block = PreactivationBottleneck

    def __init__(
        self,
        *,
        in_channels: int = 3,
        norm: Norm = "bn",
        frozen_stages: int = 0,
        init: Init = "kaiming",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        expansion, rates = self.block.expansion, drop_rates(drop_path, sum(self.depths), type(self).__name__)
        stages = stage_places(self.depths, 16, 16, expansion, 1, 4, rates)
        design = PreactivationDesign(stride_first=True)
        self._build(Conv(in_channels, 16, 3, 1, 1), design, stages, partial(make_norm, norm))
        self.features = stage_features(stages, expansion, 1, first=0)
        self._finish(init, zero_init_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> the three stages c0, c1 and c2, as in `features`."""
        x = F.relu(conv_norm(cast(Conv, self.stem[0]), self._ends()[0], images), inplace=True)
        return dict(zip(self.features, self._levels(x), strict=True))


DEPTHS = {
    "resnet18_v2": (PreactivationBasicBlock, (2, 2, 2, 2)),
    "resnet34_v2": (PreactivationBasicBlock, (3, 4, 6, 3)),
    "resnet50_v2": (PreactivationBottleneck, (3, 4, 6, 3)),
    "resnet101_v2": (PreactivationBottleneck, (3, 4, 23, 3)),
    "resnet152_v2": (PreactivationBottleneck, (3, 8, 36, 3)),
    "resnet200_v2": (PreactivationBottleneck, (3, 24, 36, 3)),
}
CIFAR_DEPTHS = {"cifar_resnet164_v2": (18, 18, 18), "cifar_resnet1001_v2": (111, 111, 111)}
for _name, (_block, _depths) in DEPTHS.items():
    _members = {"__module__": __name__, "block": _block, "depths": _depths}
    register_backbone(_name)(type(_name, (PreactivationResNet,), _members))
for _name, _blocks in CIFAR_DEPTHS.items():
    register_backbone(_name)(type(_name, (CifarPreactivationResNet,), {"__module__": __name__, "depths": _blocks}))
