"""Every registered backbone under every registered head that takes its strides: a step and a checkpoint round trip."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones import UserError, backbones
from heads import heads
from tasks.checkpoint import load_weights_strictly
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, HeadConfig
from tasks.model import build_model
from tests.tasks.steps import CLASSES, batch, take_step

# Small, so that the whole grid takes seconds; a head that is not here takes its defaults.
OPTIONS: dict[str, dict[str, object]] = {
    "faster_rcnn": {"fpn_channels": 16, "box_head_channels": 16, "rpn_post_nms": 20, "roi_samples": 8},
    "unet": {"decoder_channels": (16, 16, 8, 8, 8), "auxiliary_weight": 0.4},
    "unetplusplus": {"decoder_channels": (16, 16, 8, 8, 8)},
    "deeplabv3": {"decoder_channels": 16, "atrous_rates": (2, 3, 4)},
    "deeplabv3plus": {"decoder_channels": 16, "atrous_rates": (2, 3, 4)},
    "segmentation_fpn": {"pyramid_channels": 32, "segmentation_channels": 64},
    "pspnet": {"decoder_channels": 16},
}
# What each head needs of the last levels, at an output stride of 32, 16 and 8.
TAKES = {
    "faster_rcnn": (True, True, True),
    "classification": (True, True, True),
    "unet": (True, True, True),
    "unetplusplus": (True, False, False),
    "deeplabv3": (False, True, True),
    "deeplabv3plus": (False, True, True),
    "segmentation_fpn": (True, False, False),
    "pspnet": (True, True, True),
}
STRIDES = (32, 16, 8)
SMALL = ("resnet18", "resnet50")  # a basic and a bottleneck network; the others differ in depth alone
PAIRS = [
    pytest.param(
        backbone,
        stride,
        marks=() if backbone == "resnet18" or (backbone == "resnet50" and stride == 32) else pytest.mark.slow,
    )
    for backbone in backbones.names()
    for stride in STRIDES
    if stride == 32 or (backbone in SMALL and backbones.accepts(backbone, "output_stride"))
]


def experiment(backbone: str, head: str, stride: int) -> Experiment:
    option = {} if stride == 32 else {"output_stride": stride}
    return Experiment.model_validate(
        {
            "backbone": BackboneConfig.model_validate({"name": backbone, **option}),
            "heads": {"out": {"name": head, **OPTIONS.get(head, {})}},
        }
    )


def test_the_table_names_every_head() -> None:
    assert TAKES.keys() == set(heads.names())


@pytest.mark.parametrize("head", sorted(TAKES))
@pytest.mark.parametrize(("backbone", "stride"), PAIRS)
def test_every_backbone_with_every_head(backbone: str, head: str, stride: int, tmp_path: Path) -> None:
    config = experiment(backbone, head, stride)
    torch.manual_seed(0)
    if not TAKES[head][STRIDES.index(stride)]:
        with pytest.raises(UserError, match=r"c\d.*stride|stride.*c\d"):
            build_model(config, {"out": CLASSES})
        return
    model = build_model(config, {"out": CLASSES})
    take_step(model, config)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "weights")
    again = build_model(config, {"out": CLASSES})
    load_weights_strictly(again, load_file(tmp_path / "weights"), tmp_path)
    with torch.inference_mode():
        first, second = (network.eval().predict(batch())["out"][0] for network in (model, again))
    for name in first.__slots__:
        one, other = getattr(first, name), getattr(second, name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("head", sorted(TAKES))
def test_a_missing_level_is_named(head: str) -> None:
    from backbones.contract import FeatureSpec

    features = {"c3": FeatureSpec(8, 8)}
    if head == "classification":  # which takes whatever is the deepest
        with pytest.raises(UserError, match="c5"):
            heads.build(head, features, 3, level="c5")
        return
    with pytest.raises(UserError, match=re.compile(r"c5")):
        heads.build(head, features, 3)


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_every_target_of_the_classification_head(target: str) -> None:
    config = experiment("resnet18", "classification", 32)
    config.heads["out"].target = target  # type: ignore[union-attr, assignment]
    take_step(build_model(config, {"out": CLASSES}), config)


@pytest.mark.parametrize("target", ["multiclass", "multilabel"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "focal", "tversky", "lovasz", "boundary"])
def test_every_target_and_loss_of_the_segmentation_heads(target: str, loss: str) -> None:
    config = experiment("resnet18", "unet", 32)
    config.heads["out"].target = target  # type: ignore[union-attr, assignment]
    config.heads["out"].losses = {loss: 1.0}  # type: ignore[union-attr, dict-item]
    take_step(build_model(config, {"out": CLASSES}), config, planes=3 if target == "multilabel" else 1)


def test_options_of_a_head_reach_it() -> None:
    head: HeadConfig = FasterRCNNConfig(fpn_channels=24)
    config = Experiment(backbone=BackboneConfig(name="resnet18"), heads={"out": head})
    assert build_model(config, {"out": CLASSES}).heads["out"].fpn.features["p2"].channels == 24  # type: ignore[union-attr]
