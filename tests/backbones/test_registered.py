"""Every registered backbone keeps the contract, by the test that is shipped for everybody's."""

from functools import partial

import pytest

from backbones import backbones
from backbones.testing import check_backbone

# One of each kind in the quick run; the others share their code and differ in depth, width or design.
QUICK = (
    "resnet18",
    "resnet50_v1d",
    "seresnet18",
    "plain18",
    "resnet18_v2",
    "cifar_resnet20",
    "cifar_plain20",
    "cifar_densenet40",
    "cifar_highway32",
)
# Compiled and exported as well: one of each kind of block, stem and shortcut; but for the first, not in the quick run.
GRAPHS = (
    "resnet18",
    "resnet18_v1d",
    "resnet50_v1",
    "resnet50_v1c",
    "resnext50_32x4d",
    "seresnet34",
    "plain34",
    "resnet50_v2",
    "cifar_resnet32",
    "cifar_plain32",
    "cifar_resnet164_v2",
    "densenet121",
    "highway18",
    "cifar_highway19",
)
# With random branches, so many blocks make any rounding as large as the maps; with branches of zero nothing does.
DEEPEST = ("cifar_resnet1001_v2", "cifar_resnet1202")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in backbones.names()]


@pytest.mark.parametrize("name", NAMES)
def test_registered_backbone_keeps_the_contract(name: str) -> None:
    if name in DEEPEST:
        check_backbone(partial(backbones.factory(name), zero_init_last=True), size=(32, 32))
    else:
        check_backbone(backbones.factory(name), graphs=name in GRAPHS)
