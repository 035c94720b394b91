"""The networks for images of 32 pixels of He et al., Deep Residual Learning, arXiv:1512.03385, section 4.2.

    cifar_resnet20 ... cifar_resnet110, cifar_resnet1202
    cifar_plain20 ... cifar_plain56     the same layers without shortcuts

A 3x3 convolution of 16 channels and three stages of 16, 32 and 64 channels at strides 1, 2 and 4. Depth counts the
convolutions and the classifier, which is a head's.
"""

from functools import partial
from typing import ClassVar, Literal, TypeAlias, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.contract import register_backbone
from backbones.convolution import Conv, Init
from backbones.errors import UserError
from backbones.norm import Norm, conv_norm, make_norm
from backbones.residual import BasicBlock, BlockDesign, stage_features, stage_places, zero_last_norms
from backbones.staged import StagedBackbone
from backbones.stochastic_depth import drop_rates

Shortcut: TypeAlias = Literal["A", "B"]


class CifarNetwork(StagedBackbone):
    """What the networks with and without shortcuts share; a subclass names its depth and builds the rest in `_build`.

    Attributes:
        depth: number of layers with weights, a classifier included: 6n + 2 for n blocks a stage.
    """

    depth: ClassVar[int]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> the three stages c0, c1 and c2, as in `features`."""
        x = F.relu(conv_norm(self.conv1, self.bn1, images), inplace=True)
        levels = {}
        for name, stage in zip(self.features, self._layers(), strict=True):
            x = levels[name] = self._through(stage, x)
        return levels

    def parts(self) -> list[list[nn.Module]]:
        return self._parts_of_layers(self.conv1, self.bn1)

    def _build(self, design: BlockDesign, norm: Norm, drop_path: float) -> None:
        norm_factory, blocks = partial(make_norm, norm), (self.depth - 2) // 6
        self.conv1 = Conv(self.in_channels, 16, 3, 1, 1)
        self.bn1 = norm_factory(16)
        rates = drop_rates(drop_path, 3 * blocks, type(self).__name__)
        stages = stage_places((blocks,) * 3, 16, 16, BasicBlock.expansion, 1, 4, rates)
        self.features = stage_features(stages, BasicBlock.expansion, 1, first=0)
        for index, places in enumerate(stages, 1):
            stage = nn.Sequential(*(BasicBlock(design, place, norm_factory) for place in places))
            self.add_module(f"layer{index}", stage)


class CifarResNet(CifarNetwork):
    """With shortcuts.

    Args:
        in_channels: channels of the images.
        shortcut: of the two blocks whose output has another shape than their input. `A`: every second pixel, and zeros
            for the channels that are added, as in the paper's networks for these images; `B`: a 1x1 convolution.
        norm: `bn`, `frozen_bn`, `sync_bn` or `gn`; see `backbones.norm.make_norm`.
        frozen_stages: how many stages do not train, their norms kept in eval mode: 1 is the stem, 2 the stem and
            `layer1`, up to 4.
        init: `kaiming` or `xavier`; see `backbones.convolution.initialise`.
        zero_init_last: start each residual branch at zero (Goyal et al., arXiv:1706.02677, section 5.1).
        drop_path: probability of leaving out the last block's branch in training, falling linearly towards the first
            block's; see `backbones.stochastic_depth.DropPath`.
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again
            there; the same gradients from less memory and a third more arithmetic.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        shortcut: Shortcut = "A",
        norm: Norm = "bn",
        frozen_stages: int = 0,
        init: Init = "kaiming",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        if shortcut not in get_args(Shortcut):
            raise UserError(f"{type(self).__name__}: shortcut is {shortcut!r}; give A (zeros) or B (1x1 convolutions)")
        self._build(BlockDesign(shortcut="padding" if shortcut == "A" else "projection"), norm, drop_path)
        if zero_init_last:
            zero_last_norms(self)
        self._complete(init)


class CifarPlain(CifarNetwork):
    """Without shortcuts.

    Args:
        in_channels: channels of the images.
        norm: as of `CifarResNet`.
        frozen_stages: as of `CifarResNet`.
        init: as of `CifarResNet`.
        activation_checkpointing: as of `CifarResNet`.

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
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, frozen_stages, activation_checkpointing)
        self._build(BlockDesign(shortcut="none"), norm, drop_path=0.0)
        self._complete(init)


RESIDUAL_DEPTHS = (20, 32, 44, 56, 110, 1202)
PLAIN_DEPTHS = (20, 32, 44, 56)
for _family, _kind, _depths in (
    ("cifar_resnet", CifarResNet, RESIDUAL_DEPTHS),
    ("cifar_plain", CifarPlain, PLAIN_DEPTHS),
):
    for _depth in _depths:
        _name = f"{_family}{_depth}"
        register_backbone(_name)(type(_name, (_kind,), {"__module__": __name__, "depth": _depth}))
