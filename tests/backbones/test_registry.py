"""Names: registered, unknown, taken, wrongly called, and declared by another package's entry point."""

import sys
from pathlib import Path

import pytest
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, UserError, backbones, build_backbone
from backbones.registry import Registry

MODULE = """
from backbones import Backbone, FeatureSpec
from torch import nn

class Net(Backbone):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.features, self.in_channels = {"c2": FeatureSpec(width, 4)}, 3
        self.conv = nn.Conv2d(3, width, 7, 4, 3)

    def forward(self, images):
        return {"c2": self.conv(images)}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with an installed package that declares two backbones, one of them broken."""
    (tmp_path / "outside_net.py").write_text(MODULE)
    info = tmp_path / "outside_net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[polyhead.backbones]\noutside_net = outside_net:Net\noutside_broken = outside_net:Missing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(backbones, "_factories", dict(backbones._factories))
    yield tmp_path
    sys.modules.pop("outside_net", None)


def test_our_names() -> None:
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"} <= set(backbones.names())


def test_entry_point_is_found_by_name(installed: Path) -> None:
    assert "outside_net" in backbones.names()
    assert "outside_net" not in sys.modules  # listing names does not import what they stand for
    net = build_backbone("outside_net", width=16)
    assert net.features == {"c2": FeatureSpec(16, 4)}


def test_entry_point_without_in_channels_serves_3_channels_only(installed: Path) -> None:
    assert build_backbone("outside_net", in_channels=3).in_channels == 3
    with pytest.raises(UserError, match="'outside_net' takes images of 3 channels, not 1"):
        build_backbone("outside_net", in_channels=1)


def test_entry_point_that_does_not_load_says_why(installed: Path) -> None:
    with pytest.raises(UserError, match=r"'outside_broken'.*outside_net:Missing failed to load \(AttributeError"):
        build_backbone("outside_broken")


def test_unknown_name_gives_near_ones() -> None:
    with pytest.raises(UserError, match=r"'resnet5O' is not registered; did you mean .*resnet50"):
        build_backbone("resnet5O")


def test_unknown_name_that_timm_has_says_so() -> None:
    with pytest.raises(UserError, match=r"'lcnet_050' is not registered; did you mean timm/lcnet_050\?"):
        build_backbone("lcnet_050")


def test_unknown_name_without_near_ones_lists_all() -> None:
    with pytest.raises(UserError, match=r"'qqq' is not registered; choose one of cifar_densenet40, .*timm/\.\.\."):
        build_backbone("qqq")


def test_wrong_option_shows_the_signature() -> None:
    with pytest.raises(
        UserError, match=r"'stages'; it takes resnet18\(.*frozen_stages: int = 0.*output_stride: int = 32"
    ):
        build_backbone("resnet18", stages=2)


def test_taken_name_is_refused_and_the_same_definition_is_not() -> None:
    registry: Registry[nn.Module] = Registry("net", "nobody.declares")

    @registry.register("net")
    def one() -> nn.Module:
        return nn.Identity()

    registry.register("net")(one)
    with pytest.raises(ValueError, match=r"net 'net' is already registered by .*one"):

        @registry.register("net")
        def two() -> nn.Module:
            return nn.Identity()

    assert registry.factory("net") is one


def test_decorated_class_is_built_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_factories", dict(backbones._factories))

    @backbones.register("plain")
    class Plain(Backbone):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.features, self.in_channels = {"c1": FeatureSpec(in_channels, 1)}, in_channels

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"c1": images}

    assert build_backbone("plain", in_channels=4).in_channels == 4
