"""What is done with words of a command line beyond tyro's parsing."""

import pytest
from pydantic import ValidationError

from backbones import UserError
from tasks.command_line import take_free_options
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, PluginHeadConfig
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
