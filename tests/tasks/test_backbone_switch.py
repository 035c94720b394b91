"""Options and weights of a config's own backbone do not reach another one."""

import pytest

from tasks.backbone_switch import leave_out_foreign_options, own_weights
from tasks.config import BackboneConfig, Experiment


@pytest.mark.parametrize(
    ("backbone", "argv", "left"),
    [
        ("densenet121", [], {}),
        ("densenet121", ["--backbone.options.drop_path", "0.1"], {"drop_path": 0.1}),
        ("resnet18", [], {"drop_path": 0.1}),
    ],
)
def test_options_of_the_configs_own_backbone_do_not_reach_another(
    backbone: str, argv: list[str], left: dict[str, float]
) -> None:
    base = Experiment(backbone=BackboneConfig(name="resnet50", options={"drop_path": 0.1}))
    config = base.model_copy(deep=True)
    config.backbone.name = backbone
    leave_out_foreign_options(config, base, ["x.py", *argv])
    assert config.backbone.options == left


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("torchvision/resnet50", "torchvision/resnet18"), ("timm/resnet50", None), ("r50.safetensors", None)],
)
def test_another_backbone_takes_its_own_weights(
    weights: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Experiment(backbone=BackboneConfig(name="resnet50", weights=weights, norm="frozen_bn"))
    config = base.model_copy(deep=True)
    config.backbone.name = "resnet18"
    leave_out_foreign_options(config, base, ["x.py", "--backbone.name", "resnet18"])
    assert config.backbone.weights == expected
    assert config.backbone.norm == "frozen_bn"
    assert f"weights={weights}" in capsys.readouterr().out


def test_weights_of_another_backbone_are_taken_from_where_it_has_them() -> None:
    assert own_weights("torchvision/resnet50", "resnet50", "timm/convnext_atto") == "timm/convnext_atto"
    assert own_weights("torchvision/resnet50", "resnet50", "resnet18") == "torchvision/resnet18"
    assert own_weights("mine.pth", "resnet50", "timm/convnext_atto") is None
