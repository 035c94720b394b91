"""ResNets (He et al., Deep Residual Learning, arXiv:1512.03385) and what grew out of them on the same blocks.

Parameters are named as torchvision's, or timm's where torchvision has no such network: their files load by name.

    resnet18 ... resnet152          table 1; the bottleneck is "v1.5", its stride in the 3x3 convolution
    resnet50_v1 ...                 the stride in the first 1x1 convolution, as in the paper
    resnet50_v1c ...                three 3x3 convolutions as stem (Bag of Tricks, arXiv:1812.01187, ResNet-C)
    resnet18_v1d ...                and shortcuts that average before they drop pixels (ResNet-D)
    resnext50_32x4d ...             grouped convolutions (Xie et al., arXiv:1611.05431)
    wide_resnet50_2 ...             3x3 convolutions twice as wide (Zagoruyko and Komodakis, arXiv:1605.07146)
    seresnet18 ...                  attention over channels (Hu et al., arXiv:1709.01507)
    plain18, plain34                the same layers without shortcuts
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.blur_pool import stem_pool
from backbones.contract import FeatureSpec, register_backbone
from backbones.convolution import Conv, Init
from backbones.errors import UserError
from backbones.norm import Norm, conv_norm, make_norm
from backbones.residual import (
    BasicBlock,
    BlockDesign,
    Bottleneck,
    NormFactory,
    stage_features,
    stage_places,
    zero_last_norms,
)
from backbones.staged import StagedBackbone
from backbones.stochastic_depth import drop_rates


class DeepStem(nn.Sequential):
    """Three 3x3 convolutions in place of one 7x7, the first of stride 2; the last one's norm is the network's `bn1`."""

    def __init__(self, in_channels: int, norm: NormFactory) -> None:
        layers = (Conv(in_channels, 32, 3, 2, 1), norm(32), nn.ReLU(), Conv(32, 32, 3, 1, 1), norm(32), nn.ReLU())
        super().__init__(*layers, Conv(32, 64, 3, 1, 1))

    def through(self, x: Tensor, last_norm: nn.Module) -> Tensor:
        """Images through the stem and its last norm."""
        x = F.relu(conv_norm(cast(Conv, self[0]), self[1], x), inplace=True)
        x = F.relu(conv_norm(cast(Conv, self[3]), self[4], x), inplace=True)
        return conv_norm(cast(Conv, self[6]), last_norm, x)


PROJECTED = BlockDesign()


@dataclass(frozen=True, slots=True)
class Architecture:
    """What tells one ResNet from another.

    Attributes:
        block: of all stages.
        depths: number of blocks in each stage.
        design: of the blocks.
        deep_stem: three convolutions in place of the first one.
    """

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    design: BlockDesign = PROJECTED
    deep_stem: bool = False


class ResNet(StagedBackbone):
    """A stem of stride 4 and four stages of residual blocks; a subclass names its architecture.

    Args:
        in_channels: channels of the images.
        norm: `bn`, `frozen_bn`, `sync_bn` or `gn`; see `backbones.norm.make_norm`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and
            `layer1`, up to 5.
        output_stride: stride of C5: 32, 16 or 8. Below 32 the last stages trade their stride for dilation
            (Chen et al., DeepLab, arXiv:1606.00915, section 3.1).
        init: `kaiming` or `xavier`; see `backbones.convolution.initialise`.
        zero_init_last: start each residual branch at zero (Goyal et al., arXiv:1706.02677, section 5.1).
        drop_path: probability of leaving out the last block's branch in training, falling linearly towards the first
            block's; see `backbones.stochastic_depth.DropPath`.
        antialias: blur where the stem's pooling and the branches drop pixels; see `backbones.blur_pool.BlurPool`.
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Raises:
        UserError: an option is out of its range, or has no meaning without shortcuts.
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
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        antialias: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        name, architecture = type(self).__name__, self.architecture
        self._require_output_stride(output_stride)
        if architecture.design.shortcut == "none" and (zero_init_last or drop_path):
            option = "zero_init_last" if zero_init_last else "drop_path"
            raise UserError(f"{name}: {option} would leave nothing of a block that has no shortcut; leave it out")
        design = replace(architecture.design, antialias=antialias)

        norm_factory = partial(make_norm, norm)
        self.conv1 = DeepStem(in_channels, norm_factory) if architecture.deep_stem else Conv(in_channels, 64, 7, 2, 3)
        self.bn1 = norm_factory(64)
        self.maxpool = stem_pool(64, antialias)
        rates, expansion = drop_rates(drop_path, sum(architecture.depths), name), architecture.block.expansion
        stages = stage_places(architecture.depths, 64, 64, expansion, 4, output_stride, rates)
        self.features = {"c1": FeatureSpec(64, 2), **stage_features(stages, expansion, 4, first=2)}
        for index, places in enumerate(stages, start=1):
            blocks = [architecture.block(design, place, norm_factory) for place in places]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))

        if zero_init_last:
            zero_last_norms(self)
        self._complete(init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> c1 (the stem behind its ReLU, stride 2) and c2 to c5, as in `features`."""
        if isinstance(self.conv1, DeepStem):
            x = self.conv1.through(images, self.bn1)
        else:
            x = conv_norm(self.conv1, self.bn1, images)
        x = F.relu(x, inplace=True)
        levels = {"c1": x}
        x = self.maxpool(x)
        for index, stage in enumerate(self._layers()):
            x = levels[f"c{index + 2}"] = self._through(stage, x)
        return levels

    def parts(self) -> list[list[nn.Module]]:
        return self._parts_of_layers(self.conv1, self.bn1)

    def blocks(self) -> list[nn.Module]:
        return [block for stage in self._layers() for block in stage]


D18, D34, D101, D152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
D50 = D34
STRIDE_FIRST, AVERAGED = BlockDesign(stride_first=True), BlockDesign(shortcut="average")
ATTENTIVE, PLAIN = BlockDesign(squeeze_excite=True), BlockDesign(shortcut="none")
ARCHITECTURES = {
    "resnet18": Architecture(BasicBlock, D18),
    "resnet34": Architecture(BasicBlock, D34),
    "resnet50": Architecture(Bottleneck, D50),
    "resnet101": Architecture(Bottleneck, D101),
    "resnet152": Architecture(Bottleneck, D152),
    "resnet50_v1": Architecture(Bottleneck, D50, STRIDE_FIRST),
    "resnet101_v1": Architecture(Bottleneck, D101, STRIDE_FIRST),
    "resnet152_v1": Architecture(Bottleneck, D152, STRIDE_FIRST),
    "resnet50_v1c": Architecture(Bottleneck, D50, deep_stem=True),
    "resnet101_v1c": Architecture(Bottleneck, D101, deep_stem=True),
    "resnet152_v1c": Architecture(Bottleneck, D152, deep_stem=True),
    "resnet18_v1d": Architecture(BasicBlock, D18, AVERAGED, deep_stem=True),
    "resnet34_v1d": Architecture(BasicBlock, D34, AVERAGED, deep_stem=True),
    "resnet50_v1d": Architecture(Bottleneck, D50, AVERAGED, deep_stem=True),
    "resnet101_v1d": Architecture(Bottleneck, D101, AVERAGED, deep_stem=True),
    "resnet152_v1d": Architecture(Bottleneck, D152, AVERAGED, deep_stem=True),
    "resnext50_32x4d": Architecture(Bottleneck, D50, BlockDesign(groups=32, width_per_group=4)),
    "resnext101_32x8d": Architecture(Bottleneck, D101, BlockDesign(groups=32, width_per_group=8)),
    "resnext101_64x4d": Architecture(Bottleneck, D101, BlockDesign(groups=64, width_per_group=4)),
    "wide_resnet50_2": Architecture(Bottleneck, D50, BlockDesign(width_per_group=128)),
    "wide_resnet101_2": Architecture(Bottleneck, D101, BlockDesign(width_per_group=128)),
    "seresnet18": Architecture(BasicBlock, D18, ATTENTIVE),
    "seresnet34": Architecture(BasicBlock, D34, ATTENTIVE),
    "seresnet50": Architecture(Bottleneck, D50, ATTENTIVE),
    "seresnet101": Architecture(Bottleneck, D101, ATTENTIVE),
    "seresnet152": Architecture(Bottleneck, D152, ATTENTIVE),
    "plain18": Architecture(BasicBlock, D18, PLAIN),
    "plain34": Architecture(BasicBlock, D34, PLAIN),
}
for _name, _architecture in ARCHITECTURES.items():
    register_backbone(_name)(type(_name, (ResNet,), {"__module__": __name__, "architecture": _architecture}))
