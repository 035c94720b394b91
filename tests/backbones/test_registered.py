"""Every registered backbone keeps the contract, by the test that is shipped for everybody's."""

import re
from functools import partial
from typing import Any

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
# Compiled and exported as well: one of each kind of block, stem and shortcut, but for the first not in the quick run;
# it takes most of a minute each.
GRAPHS = ("resnet18", "resnet50_v1c", "seresnet34", "resnet50_v2", "cifar_resnet32", "densenet121")
# With random branches, so many blocks make any rounding as large as the maps; with branches of zero nothing does.
DEEPEST = ("cifar_resnet1001_v2", "cifar_resnet1202")
# Only deeper or wider than another, and a third of a minute each: by hand. All heads step them in any case.
DEEP = re.compile(r"101|152|161|201|1202|wide_resnet")


def marked(name: str) -> Any:
    if name in QUICK:
        return name
    return pytest.param(name, marks=pytest.mark.measurement if DEEP.search(name) else pytest.mark.slow)


NAMES = [marked(name) for name in backbones.names()]


@pytest.mark.parametrize("name", NAMES)
def test_registered_backbone_keeps_the_contract(name: str) -> None:
    if name in DEEPEST:
        check_backbone(partial(backbones.factory(name), zero_init_last=True), size=(32, 32))
    else:
        check_backbone(backbones.factory(name), graphs=name in GRAPHS)
