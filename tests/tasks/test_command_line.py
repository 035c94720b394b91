"""What the command line does beyond tyro's parsing."""

import pytest
from pydantic import ValidationError

from backbones import UserError
from tasks.cli import _leave_out_foreign_options, _require_one_unit
from tasks.command_line import take_free_options
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, PluginHeadConfig, ScheduleConfig
from tasks.experiment_file import explain


def test_options_of_a_plugin_are_taken_from_the_command_line() -> None:
    config = Experiment(heads={"boxes": FasterRCNNConfig(), "mine": PluginHeadConfig(name="my_head")})
    argv = ["x.py", "--backbone.options.width", "64", "--optimizer.lr", "1", "--heads.mine.options.kind=fast"]
    assert take_free_options([*argv, "--backbone.options.deep=true"], config) == ["x.py", "--optimizer.lr", "1"]
    assert config.backbone.options == {"width": 64, "deep": True}
    assert config.heads["mine"].model_dump()["options"] == {"kind": "fast"}


def test_options_are_spelled_as_fields_are() -> None:
    config = Experiment(heads={"boxes": FasterRCNNConfig()})
    words = (
        "--backbone.options.antialias",
        "False",
        "--backbone.options.drop-path",
        "0.1",
        "--backbone.options.x=None",
    )
    take_free_options(["x.py", *words], config)
    assert config.backbone.options == {"antialias": False, "drop_path": 0.1, "x": None}


@pytest.mark.parametrize("option", ["norm", "name", "weights", "in_channels"])
def test_options_that_are_set_elsewhere_say_where(option: str) -> None:
    with pytest.raises(UserError, match=rf"backbone.options.{option}: .*; .*set (backbone.{option}|image.channels)"):
        BackboneConfig(options={option: "gn"}).factory_options()


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
    _leave_out_foreign_options(config, base, ["x.py", *argv])
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
    _leave_out_foreign_options(config, base, ["x.py", "--backbone.name", "resnet18"])
    assert config.backbone.weights == expected
    assert config.backbone.norm == "frozen_bn"
    assert f"weights={weights}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "argv", "told"),
    [
        ({}, {"steps": 9}, ["--schedule.steps=9"], "are 8 11 epochs and would now be steps"),
        (
            {"steps": 9},
            {"steps": None},
            ["--schedule.steps", "None"],
            "are 8 11 steps and would now be epochs",
        ),
        ({"steps": 9}, {"steps": 9, "epochs": 3}, ["--schedule.epochs", "3"], "give --schedule.steps N"),
        ({"steps": 9}, {"steps": 12}, ["--schedule.steps", "12"], None),
        ({}, {"steps": 9, "policy": "cosine"}, ["--schedule.steps", "9"], None),
        ({}, {"steps": 9, "milestones": (4,)}, ["--schedule.steps", "9", "--schedule.milestones", "4"], None),
        ({}, {"epochs": 3}, ["--schedule.epochs", "3"], None),
        ({}, {"warmup_factor": 0.1, "warmup_steps": 0}, ["--schedule.warmup_factor", "0.1"], "nothing warms up"),
        ({}, {"warmup_factor": 0.1, "warmup_steps": 4}, ["--schedule.warmup_factor", "0.1"], None),
    ],
)
def test_a_schedule_counts_in_one_unit(
    before: dict[str, object], after: dict[str, object], argv: list[str], told: str | None
) -> None:
    base, now = ScheduleConfig.model_validate(before), ScheduleConfig.model_validate(after)
    if told is None:
        _require_one_unit(now, base, argv)
        return
    with pytest.raises(UserError) as caught:
        _require_one_unit(now, base, argv)
    assert told in str(caught.value)


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
