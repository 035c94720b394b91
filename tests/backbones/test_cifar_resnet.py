"""The CIFAR ResNets against torchvision's blocks, published tensors and the sizes that their paper gives."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from backbones import FeatureSpec, UserError, build_backbone
from backbones.cifar_resnet import PLAIN_DEPTHS, RESIDUAL_DEPTHS
from tests.backbones.test_resnet import assert_levels_equal, randomised
from tests.backbones.training_memory import memory_of_a_step

# Millions of parameters, the classifier of ten classes included (table 6).
MILLIONS = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7", 1202: "19.4"}


class Zeros(nn.Module):
    """Option A in the words of section 3.3: identity, with zeros for the channels that are added."""

    def forward(self, x: Tensor) -> Tensor:
        nothing = torch.zeros_like(x)[:, : x.shape[1] // 2]
        return torch.cat([nothing, x, nothing], 1)[:, :, ::2, ::2]


class Reference(nn.Module):
    """The network out of torchvision's blocks."""

    def __init__(self, depth: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        for index, (before, width) in enumerate(pairwise((16, 16, 32, 64)), start=1):
            stride = width // before
            projection = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            fitted = None if stride == 1 else Zeros() if shortcut == "A" else projection
            blocks = [BasicBlock(before, width, stride, fitted)]
            blocks += [BasicBlock(width, width) for _ in range((depth - 2) // 6 - 1)]
            self.add_module(f"layer{index}", nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, levels = self.bn1(self.conv1(images)).relu(), {}
        for index in range(3):
            x = levels[f"c{index}"] = self.get_submodule(f"layer{index + 1}")(x)
        return levels


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 33, 26, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_those_of_torchvisions_blocks(shortcut: str, training: bool) -> None:
    torch.manual_seed(0)
    theirs = randomised(Reference(20, shortcut))
    ours = build_backbone("cifar_resnet20", shortcut=shortcut)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert_levels_equal(ours.train(training)(images()), theirs.train(training)(images()))


@pytest.mark.parametrize("depth", RESIDUAL_DEPTHS)
def test_parameters_are_the_papers(depth: int) -> None:
    with torch.device("meta"):
        net = build_backbone(f"cifar_resnet{depth}")
    count = sum(parameter.numel() for parameter in net.parameters()) + 64 * 10 + 10
    digits = len(MILLIONS[depth].split(".")[1])
    assert f"{count / 1e6:.{digits}f}" == MILLIONS[depth]
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 1 == depth
    assert net.features == {"c0": FeatureSpec(16, 1), "c1": FeatureSpec(32, 2), "c2": FeatureSpec(64, 4)}


@pytest.mark.parametrize("depth", PLAIN_DEPTHS)
def test_plain_networks_have_the_tensors_of_residual_ones(depth: int) -> None:
    with torch.device("meta"):
        plain, residual = (build_backbone(f"cifar_{kind}{depth}").state_dict() for kind in ("plain", "resnet"))
    assert {name: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in residual.items()
    }


def test_plain_blocks_add_nothing() -> None:
    block = randomised(build_backbone("cifar_plain20")).eval().layer2[0]
    x = images(16)
    with torch.no_grad():
        expected = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_names_and_shapes_are_those_of_published_files(depth: int, reference_data: Path) -> None:
    with safe_open(reference_data / "cifar10" / f"resnet{depth}_optionA.safetensors", "pt") as file:
        theirs = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    ours = {name: tuple(tensor.shape) for name, tensor in build_backbone(f"cifar_resnet{depth}").state_dict().items()}
    body = {name: shape for name, shape in theirs.items() if not name.startswith("linear.")}
    assert {name: shape for name, shape in ours.items() if name in body} == body
    assert all(name.endswith("num_batches_tracked") for name in ours.keys() - body.keys())


def test_drop_path_rises_from_block_to_block() -> None:
    net = build_backbone("cifar_resnet32", drop_path=0.5)
    rates = [block.drop_path.rate if block.drop_path else 0 for layer in net.parts()[1:] for block in layer[0]]
    assert rates == pytest.approx([0.5 * index / 14 for index in range(15)])


@pytest.mark.parametrize(
    "options",
    [
        {"shortcut": "C"},
        {"norm": "batch"},
        {"frozen_stages": 5},
        {"zero_init_last": True, "norm": "frozen_bn"},
        {"drop_path": 1.0},
        {"init": "orthogonal"},
        {"in_channels": 0},
    ],
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        build_backbone("cifar_resnet20", **options)
    message = str(error.value)
    assert next(iter(options)) in message
    assert "\n" not in message


@pytest.mark.parametrize("option", ["shortcut", "output_stride"])
def test_options_without_a_meaning_are_no_options(option: str) -> None:
    with pytest.raises(UserError, match=option):
        build_backbone("cifar_plain20", **{option: 8})


@pytest.mark.slow
def test_the_deepest_trains_within_8_gib_at_the_papers_batch() -> None:
    assert memory_of_a_step("cifar_resnet1202", images=8, extrapolated_to=128) < 8
