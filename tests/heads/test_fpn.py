from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads.fpn import FPN

LEVELS = ("c2", "c3", "c4", "c5")


def specs(channels: list[int], strides: list[int]) -> dict[str, FeatureSpec]:
    return {name: FeatureSpec(*spec) for name, *spec in zip(LEVELS, channels, strides, strict=True)}


def random_maps(features: dict[str, FeatureSpec], height: int, width: int) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(2, spec.channels, -(-height // spec.stride), -(-width // spec.stride))
        for name, spec in features.items()
    }


@pytest.mark.parametrize("extra", ["pool", "c5", "p5"])
@pytest.mark.parametrize("strides", [[4, 8, 16, 32], [4, 8, 16, 16], [4, 8, 8, 8]])
@pytest.mark.parametrize("size", [(64, 96), (100, 70)])
def test_equals_torchvision(extra: str, strides: list[int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    channels = [3, 5, 7, 9]
    features = specs(channels, strides)
    fpn = FPN(features, 6, extra)
    top: nn.Module = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(9 if extra == "c5" else 6, 6)
    reference = FeaturePyramidNetwork(channels, 6, top)
    with torch.no_grad():
        for number, level in enumerate("2345"):
            reference.inner_blocks[number][0].load_state_dict(fpn.lateral[f"c{level}"].state_dict())
            reference.layer_blocks[number][0].load_state_dict(fpn.output[f"p{level}"].state_dict())
        if extra != "pool":
            top.p6.load_state_dict(fpn.extra.state_dict())
            assert top.use_P5 == (extra == "p5")

    maps = random_maps(features, *size)
    ours = fpn(maps)
    theirs = list(reference(OrderedDict(maps)).values())

    assert list(ours) == list(fpn.features) == ["p2", "p3", "p4", "p5", "p6"]
    assert [spec.stride for spec in fpn.features.values()] == [*strides, 2 * strides[-1]]
    for name, expected in zip(ours, theirs, strict=False):
        assert ours[name].shape[1] == fpn.features[name].channels
        torch.testing.assert_close(ours[name], expected)


@pytest.mark.parametrize("extra", ["c5", "p5"])
@pytest.mark.parametrize("strides", [[4, 8, 16, 32], [4, 8, 8, 8]])
def test_levels_of_one_stage_detectors_equal_torchvision(extra: str, strides: list[int]) -> None:
    torch.manual_seed(0)
    channels = [3, 5, 7, 9]
    features = specs(channels, strides)
    fpn = FPN(features, 6, extra, LEVELS[1:], extra_levels=2)
    top = LastLevelP6P7(9 if extra == "c5" else 6, 6)
    reference = FeaturePyramidNetwork(channels[1:], 6, top)
    for number, level in enumerate("345"):
        reference.inner_blocks[number][0].load_state_dict(fpn.lateral[f"c{level}"].state_dict())
        reference.layer_blocks[number][0].load_state_dict(fpn.output[f"p{level}"].state_dict())
    top.p6.load_state_dict(fpn.extra.state_dict())
    top.p7.load_state_dict(fpn.further["p7"].state_dict())
    maps = random_maps(features, 100, 140)
    ours = fpn(maps)
    theirs = list(reference(OrderedDict((level, maps[level]) for level in LEVELS[1:])).values())
    assert list(ours) == list(fpn.features) == ["p3", "p4", "p5", "p6", "p7"]
    assert [spec.stride for spec in fpn.features.values()] == [*strides[1:], 2 * strides[-1], 4 * strides[-1]]
    for found, expected in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(found, expected)


def test_numbers_of_coarser_levels() -> None:
    features = specs([3, 5, 7, 9], [4, 8, 16, 32])
    plain = FPN(features, 6, "p5", LEVELS[1:], extra_levels=0)
    assert list(plain.features) == ["p3", "p4", "p5"]
    assert not [name for name in plain.state_dict() if "extra" in name or "further" in name]
    pooled = FPN(features, 6, "pool", extra_levels=2)
    maps = pooled(random_maps(features, 64, 96))
    assert list(maps) == ["p2", "p3", "p4", "p5", "p6", "p7"]
    torch.testing.assert_close(maps["p7"], maps["p5"][..., ::4, ::4])


def test_missing_level_is_named() -> None:
    features = {"c2": FeatureSpec(8, 4), "c3": FeatureSpec(8, 8)}
    with pytest.raises(UserError, match="c4, c5 is missing"):
        FPN(features)


def test_unknown_extra_level_is_refused() -> None:
    with pytest.raises(UserError, match="'p7'; expected pool, c5 or p5"):
        FPN(specs([8] * 4, [4, 8, 16, 32]), 8, "p7")
