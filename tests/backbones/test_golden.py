"""The size of every registered backbone: as it was, and as torchvision and timm have it."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from backbones import backbones
from tasks.inventory import measure_backbone, network_multiply_adds, parameters
from tests.backbones import golden

ROWS = golden.read()
# Where torchvision has no such network, timm's name of it.
TIMMS = {
    **{f"resnet{depth}_v1c": f"resnet{depth}c" for depth in (50, 101, 152)},
    **{f"resnet{depth}_v1d": f"resnet{depth}d" for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}_v2": f"resnetv2_{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"seresnet{depth}": f"seresnet{depth}" for depth in (18, 34, 50, 101, 152)},
}
QUICK = (
    "resnet18",
    "resnet50",
    "resnet50_v1c",
    "resnet18_v1d",
    "resnet18_v2",
    "seresnet18",
    "densenet121",
    "cifar_resnet20",
)


def test_the_table_names_the_registered_backbones() -> None:
    remedy = "run python -m tests.backbones.golden"
    assert list(ROWS) == backbones.names(), remedy
    page = golden.PAGE.read_text(encoding="utf-8")
    assert golden.BEGIN + golden.table(ROWS) + golden.END in page, remedy


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ROWS])
def test_size(name: str) -> None:
    size = measure_backbone(name)
    assert golden.row_of(size) == ROWS[name]
    theirs = reference(name)
    if theirs is not None:
        with torch.device("meta"):
            images = torch.empty(1, 3, size.side, size.side)
        assert size.parameters == parameters(theirs)
        assert size.multiply_adds == network_multiply_adds(theirs, images) - saved(theirs)


def reference(name: str) -> nn.Module | None:
    """torchvision's network, or timm's, without its classifier; None if neither has it."""
    with torch.device("meta"):
        if name in torchvision.models.list_models(torchvision.models):
            network: nn.Module = torchvision.models.get_model(name, weights=None)
            for classifier in ("fc", "classifier"):
                if hasattr(network, classifier):
                    setattr(network, classifier, nn.Identity())
            return network.eval()
        return timm.create_model(TIMMS[name], num_classes=0).eval() if name in TIMMS else None


def saved(network: nn.Module) -> int:
    """What our DenseNets save between blocks: they average 2 x 2 pixels before a 1x1 convolution, which comes to the
    same as torchvision's average behind it.
    """
    if not isinstance(network, torchvision.models.DenseNet):
        return 0
    convolutions = [getattr(network.features, f"transition{index}").conv for index in (1, 2, 3)]
    with torch.device("meta"):
        whole = [
            network_multiply_adds(convolution, torch.empty(1, convolution.in_channels, side, side))
            for convolution, side in zip(convolutions, (56, 28, 14), strict=True)
        ]
    return sum(whole) * 3 // 4


def test_references_are_of_registered_backbones() -> None:
    assert TIMMS.keys() <= set(backbones.names())
