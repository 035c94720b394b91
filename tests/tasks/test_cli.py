"""What the command line does beyond tyro's parsing."""

import pytest
from pydantic import ValidationError

from tasks.cli import _leave_out_foreign_options
from tasks.command_line import take_free_options
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, PluginHeadConfig
from tasks.experiment_file import explain


def test_options_of_a_plugin_are_taken_from_the_command_line() -> None:
    config = Experiment(heads={"boxes": FasterRCNNConfig(), "mine": PluginHeadConfig(name="my_head")})
    argv = ["x.py", "--backbone.options.width", "64", "--optimizer.lr", "1", "--heads.mine.options.kind=fast"]
    assert take_free_options([*argv, "--backbone.options.deep=true"], config) == ["x.py", "--optimizer.lr", "1"]
    assert config.backbone.options == {"width": 64, "deep": True}
    assert config.heads["mine"].model_dump()["options"] == {"kind": "fast"}


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
    _leave_out_foreign_options(config, base, ["x.py", "--backbone.name", "resnet18"])
    assert config.backbone.weights == expected
    assert config.backbone.norm == "frozen_bn"
    assert f"weights={weights}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({"name": "unet", "decoder_chanels": 3}, "heads.out.decoder_chanels is not a field; did you mean"),
        ({"name": "classification", "target": "singel"}, "heads.out.target is 'singel'; input should be 'single'"),
        ({"name": "mine", "options": {}, "width": 1}, "heads.out.width is not a field"),
        ({"name": "faster_rcnn", "nms": 0.5}, "heads.out.nms is not a field; did you mean heads.out.nms_iou"),
    ],
)
def test_a_mistake_in_a_head_is_told_as_one_of_that_head(head: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Experiment.model_validate({"heads": {"out": head}})
    assert explain(caught.value).startswith(told)
