"""What `tools/list.py` tells of backbones that are not ours."""

import pytest
import torch
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, backbones
from tasks import inventory


class ComputesWhileBuilt(Backbone):
    """As many networks of others: its rates are numbers out of a tensor, which shapes alone do not give."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.features = 3, {"c5": FeatureSpec(8, 32)}
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.stem = nn.Conv2d(3, 8, 32, 32)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c5": self.stem(images)}


def test_one_that_cannot_be_measured_does_not_keep_others_from_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backbones, "_factories", {**backbones._factories, "cifar_plain_other": ComputesWhileBuilt})
    inventory.show_inventory("cifar_plain*")
    said = capsys.readouterr().out
    assert "cannot be" in said  # measured on shapes alone; the cell is wrapped
    assert "0.27 M" in said


def test_many_are_only_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(inventory, "MOST_MEASURED", 2)
    inventory.show_inventory("timm/convnext_atto*")
    said = capsys.readouterr().out
    assert "networks; a pattern of at most 2 shows their sizes: timm/convnext_atto, timm/convnext_atto_ols" in said
