"""Feature Pyramid Network (Lin et al. 2017, https://arxiv.org/abs/1612.03144, section 3): C2-C5 in, P2-P6 out.

One-stage detectors begin at C3 and end at P5 or P7.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads.contract import require_levels

ExtraLevel = Literal["pool", "c5", "p5"]
INPUT_LEVELS = ("c2", "c3", "c4", "c5")


class FPN(nn.Module):
    """A top-down pathway with lateral connections, and coarser levels above it.

    Args:
        features: of the backbone; needs `levels`. At output strides 8 and 16, neighbouring levels have equal sizes.
        channels: of every output level.
        extra_level: how P6 is made. `pool`: every second cell of P5 (FPN, section 4.1); `c5` or `p5`: a 3x3 convolution
            of stride 2 on that map (RetinaNet, https://arxiv.org/abs/1708.02002, section 4, and its later variant).
        levels: of the backbone, finest first, up to c5.
        extra_levels: how many levels above P5, each of half the size: P6 as above, each further one by the same means
            from the one before, after a ReLU where it is a convolution.

    Attributes:
        features: of the output, `{"p2": FeatureSpec(channels, 4), ..., "p6": FeatureSpec(channels, 64)}`.

    Raises:
        UserError: a level is missing, or `extra_level` is unknown.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        channels: int = 256,
        extra_level: ExtraLevel = "pool",
        levels: Sequence[str] = INPUT_LEVELS,
        extra_levels: int = 1,
    ) -> None:
        super().__init__()
        require_levels("FPN", features, tuple(levels))
        if extra_level not in ("pool", "c5", "p5"):
            raise UserError(f"extra_level is {extra_level!r}; expected pool, c5 or p5")
        self.extra_level = extra_level
        self.levels = tuple(levels)
        self.lateral = nn.ModuleDict({c: nn.Conv2d(features[c].channels, channels, 1) for c in levels})
        self.output = nn.ModuleDict({_output(c): nn.Conv2d(channels, channels, 3, padding=1) for c in levels})
        self.coarser = tuple(f"p{6 + number}" for number in range(extra_levels))
        self.extra: nn.Conv2d | None = None
        self.further = nn.ModuleDict()
        if extra_level != "pool" and extra_levels:
            source = features["c5"].channels if extra_level == "c5" else channels
            self.extra = nn.Conv2d(source, channels, 3, stride=2, padding=1)
            for name in self.coarser[1:]:
                self.further[name] = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Gain 1: no rectifier follows these convolutions.
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.features = {_output(c): FeatureSpec(channels, features[c].stride) for c in levels}
        for number, name in enumerate(self.coarser, 1):
            self.features[name] = FeatureSpec(channels, features["c5"].stride << number)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """`{"c2": (B, C2, H, W), ...}` -> `{"p2": (B, channels, H, W), ..., "p6": half of p5}`, finest first."""
        maps: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level in reversed(self.levels):
            merged = self.lateral[level](features[level])
            if above is not None:
                if above.shape[-2:] != merged.shape[-2:]:
                    above = F.interpolate(above, size=merged.shape[-2:], mode="nearest")
                merged = merged + above
            maps[_output(level)] = self.output[_output(level)](merged)
            above = merged
        outputs = {_output(level): maps[_output(level)] for level in self.levels}
        below = features["c5"] if self.extra_level == "c5" else outputs["p5"]
        for name in self.coarser:
            if self.extra is None:
                below = F.max_pool2d(below, kernel_size=1, stride=2)
            else:
                below = self.extra(below) if name == self.coarser[0] else self.further[name](F.relu(below))
            outputs[name] = below
        return outputs


def _output(level: str) -> str:
    return "p" + level[1:]
