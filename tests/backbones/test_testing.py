"""The conformance test finds what it promises to find: networks broken in one way each, and a sound one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones import Backbone, FeatureSpec, UserError
from backbones.testing import check_backbone


class Sound(Backbone):
    """A small network with every option that the conformance test knows of."""

    def __init__(
        self, in_channels: int = 3, norm: str = "bn", frozen_stages: int = 0, output_stride: int = 32,
        activation_checkpointing: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if in_channels < 1 or norm not in ("bn", "gn") or not 0 <= frozen_stages <= 3 or output_stride not in (16, 32):
            raise UserError("not with these options")
        self.in_channels, self.frozen_stages = in_channels, frozen_stages
        self.features = {"c4": FeatureSpec(8, 16), "c5": FeatureSpec(12, output_stride)}
        self.stem = nn.Conv2d(in_channels, 8, 17, 16, 8)
        self.norm = nn.BatchNorm2d(8) if norm == "bn" else nn.GroupNorm(4, 8)
        self.last = nn.Conv2d(8, 12, 3, output_stride // 16, 1)
        for module in (self.stem, self.norm, self.last)[: self.frozen_stages]:
            module.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Sound":
        super().train(mode)
        if self.frozen_stages >= 2:
            self.norm.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.stem(images)).relu()
        return {"c4": x, "c5": self.last(x)}


class OfTheCifarPaper(Backbone):
    """A stem and three stages of strides 1, 2 and 4, as the networks for small images have them."""

    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= 4:
            raise UserError("not with these options")
        self.in_channels = 3
        self.features = {f"c{index}": FeatureSpec(4, 2**index) for index in range(3)}
        self.stem = nn.Conv2d(3, 4, 3, 1, 1)
        self.stages = nn.ModuleList(nn.Conv2d(4, 4, 3, 1 + (index > 0), 1) for index in range(3))
        for module in [self.stem, *self.stages][:frozen_stages]:
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1].relu()))
        return dict(zip(self.features, maps[1:], strict=True))


@pytest.mark.parametrize("factory", [Sound, OfTheCifarPaper])
def test_sound_network_passes(factory: Callable[..., Backbone]) -> None:
    check_backbone(factory, graphs=True)


def test_sound_network_of_one_size_passes_at_that_size() -> None:
    check_backbone(OneSizeOnly, size=(32, 32))
    with pytest.raises(AssertionError, match=r"64 x 32 pixels; give their size \(only 32 x 32\)"):
        check_backbone(OneSizeOnly)


class NoFeatures(Sound):
    def __init__(self) -> None:
        super().__init__()
        del self.features


class CoarsestFirst(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.features = dict(reversed(self.features.items()))


class WrongStride(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.features["c5"] = FeatureSpec(12, 64)


class WrongChannels(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.features["c4"] = FeatureSpec(9, 16)


class RoundsDown(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 16, 16)


class ReturnsList(Sound):
    def forward(self, images: Tensor) -> Any:
        return list(super().forward(images).values())


class ForgetsLevel(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c4": super().forward(images)["c4"]}


class UnusedParameter(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Detached(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.stem(images)).relu().detach()
        return {"c4": x, "c5": self.last(x)}


class BatchDependent(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return super().forward(images - images.mean(0))


class RandomInEval(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return super().forward(F.dropout(images))


class CountsInEval(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = super().forward(images)
        self.norm.running_mean += 1
        return levels


class UnregisteredState(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return super().forward(images * self.scale)


class NeedsContiguous(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return super().forward(images.view(-1).view(images.shape))


class WrongInBfloat16(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = super().forward(images)
        return {name: x * x.new_tensor([1, -1] * (x.shape[1] // 2))[:, None, None] for name, x in levels.items()} if (
            torch.is_autocast_enabled("cpu")
        ) else levels  # fmt: skip


class IgnoresInChannels(Sound):
    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()


class AcceptsAnyNorm(Sound):
    def __init__(self, norm: str = "bn") -> None:
        super().__init__()


class IgnoresFrozenStages(Sound):
    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__()


class FrozenNormDrifts(Sound):
    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__(frozen_stages=frozen_stages)

    def train(self, mode: bool = True) -> "FrozenNormDrifts":
        nn.Module.train(self, mode)
        return self


class FreezesTheEndOnly(Sound):
    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__(frozen_stages=frozen_stages)
        if frozen_stages == 3:
            self.stem.requires_grad_(True)


class FreezesTooMuch(Sound):
    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__(frozen_stages=frozen_stages)
        self.last.requires_grad_(not frozen_stages)


class FreezesBeyondTheEnd(Sound):
    def __init__(self, frozen_stages: int = 0) -> None:
        super().__init__(frozen_stages=min(frozen_stages, 3))


class OneSizeOnly(Sound):
    def require_size(self, height: int, width: int) -> None:
        if (height, width) != (32, 32):
            raise UserError("only 32 x 32")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert images.shape[2:] == (32, 32)
        return super().forward(images)


class IgnoresOutputStride(Sound):
    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()


class SaysOutputStrideOnly(Sound):
    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        self.features["c5"] = FeatureSpec(12, output_stride)


class CheckpointingCountsTwice(Sound):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.twice and self.training:
            super().forward(images)
        return super().forward(images)

    def __init__(self, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.twice = activation_checkpointing


class CheckpointingDetaches(Detached):
    def __init__(self, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.detach = activation_checkpointing

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return (super() if self.detach else super(Detached, self)).forward(images)


class WrongErrorType(Sound):
    def __init__(self, in_channels: int = 3) -> None:
        if in_channels < 1:
            raise ValueError("no")
        super().__init__(in_channels)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: nn.Identity(), "no backbones.Backbone"),
        (NoFeatures, "features is None; set it to"),
        (CoarsestFirst, "strides \\[32, 16\\]; list the levels finest first"),
        (WrongStride, r"c5 has the shape \(2, 12, 2, 1\) .*\(2, 12, 1, 1\)"),
        (WrongChannels, r"c4 has the shape \(2, 8, 4, 2\) .*FeatureSpec\(channels=9, stride=16\)"),
        (RoundsDown, r"c4 has the shape \(2, 8, 3, 2\) for 49 x 33 images.*pad so that sizes round up"),
        (ReturnsList, r"forward returns list; it must return a dict with the levels of features, \['c4', 'c5'\]"),
        (ForgetsLevel, r"forward returns \['c4'\]"),
        (UnusedParameter, "spare.weight trains but gets no gradient; use it in forward"),
        (Detached, "stem.weight trains but gets no gradient"),
        (BatchDependent, "c4 of an image depends on the other images of the batch"),
        (RandomInEval, "c4 differs between two passes over one batch in eval mode"),
        (CountsInEval, "norm.running_mean changes in eval mode"),
        (UnregisteredState, "c4 differs after load_state_dict"),
        (NeedsContiguous, "channels_last: raises RuntimeError: view size is not compatible"),
        (WrongInBfloat16, "c5 under bf16 autocast has little to do with float32's"),
        (IgnoresInChannels, "built with in_channels=1, its in_channels says 3"),
        (AcceptsAnyNorm, "norm='no such norm' is accepted; raise backbones.UserError"),
        (IgnoresFrozenStages, r"frozen_stages=2: stem.weight still trains; freeze all .* stage_of numbers below 2"),
        (FrozenNormDrifts, "frozen_stages=2: norm.running_mean changes in training; keep frozen norms in eval mode"),
        (FreezesTheEndOnly, "frozen_stages=3: c4 still requires a gradient"),
        (FreezesTooMuch, "frozen_stages=2: last.weight does not train, but stage_of gives 2"),
        (FreezesBeyondTheEnd, "frozen_stages=4 is accepted"),
        (IgnoresOutputStride, r"built with output_stride=8, its features say \[16, 32\]"),
        (SaysOutputStrideOnly, "output_stride=16: c5 has the shape"),
        (CheckpointingCountsTwice, "activation_checkpointing changes norm.running_mean; statistics must not count"),
        (CheckpointingDetaches, "activation_checkpointing changes the gradient of stem.weight"),
        (WrongErrorType, "in_channels=0 raises ValueError; raise backbones.UserError"),
    ],
)
def test_broken_network_is_found(factory: Callable[..., Backbone], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_backbone(factory)
