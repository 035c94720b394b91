"""Every registered backbone under every registered head that takes its levels: a step and a checkpoint round trip."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones import FeatureSpec, UserError, backbones, build_backbone
from heads import heads
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, HeadConfig
from tasks.model import build_model
from tests.tasks.steps import CLASSES, batch, take_step

# Small, so that the whole grid takes seconds; a head that is not here takes its defaults.
TWO_STAGES = {"fpn_channels": 16, "box_head_channels": 16, "rpn_post_nms": 20, "roi_samples": 8}
OPTIONS: dict[str, dict[str, object]] = {
    "faster_rcnn": TWO_STAGES,
    "mask_rcnn": {**TWO_STAGES, "mask_channels": 8},
    "cascade_rcnn": TWO_STAGES,
    "cascade_mask_rcnn": {**TWO_STAGES, "mask_channels": 8},
    "retinanet": {"fpn_channels": 16, "tower_depth": 1},
    "fcos": {"fpn_channels": 16, "tower_depth": 1},
    "yolo": {"fpn_channels": 16, "tower_depth": 1, "reg_max": 8},
    "unet": {"decoder_channels": (16, 16, 8, 8, 8), "auxiliary_weight": 0.4},
    "unetplusplus": {"decoder_channels": (16, 16, 8, 8, 8)},
    "deeplabv3": {"decoder_channels": 16, "atrous_rates": (2, 3, 4)},
    "deeplabv3plus": {"decoder_channels": 16, "atrous_rates": (2, 3, 4)},
    "segmentation_fpn": {"pyramid_channels": 32, "segmentation_channels": 64},
    "pspnet": {"decoder_channels": 16},
}
# The levels that each head reads by default; classification reads whatever is the deepest.
READS: dict[str, tuple[str, ...]] = {
    "faster_rcnn": ("c2", "c3", "c4", "c5"),
    "mask_rcnn": ("c2", "c3", "c4", "c5"),
    "cascade_rcnn": ("c2", "c3", "c4", "c5"),
    "cascade_mask_rcnn": ("c2", "c3", "c4", "c5"),
    "retinanet": ("c3", "c4", "c5"),
    "fcos": ("c3", "c4", "c5"),
    "yolo": ("c3", "c4", "c5"),
    "classification": (),
    "unet": ("c1", "c2", "c3", "c4", "c5"),
    "unetplusplus": ("c1", "c2", "c3", "c4", "c5"),
    "deeplabv3": ("c5",),
    "deeplabv3plus": ("c2", "c5"),
    "segmentation_fpn": ("c2", "c3", "c4", "c5"),
    "pspnet": ("c5",),
}
# The strides that they must have there, where not all will do.
STRIDES: dict[str, dict[str, tuple[int, ...]]] = {
    "unetplusplus": {f"c{index}": (2**index,) for index in range(1, 6)},
    "deeplabv3": {"c5": (8, 16)},
    "deeplabv3plus": {"c2": (4,), "c5": (8, 16)},
    "segmentation_fpn": {f"c{index}": (2**index,) for index in range(2, 6)},
}
# All kinds of levels: from C1 to C5, with and without dilation, for small images alone, without C1 and channels-last.
QUICK = (("resnet18", None), ("resnet18", 8), ("cifar_resnet20", None), ("timm/mambaout_femto", None))
OTHERS = (
    *((name, None) for name in (*backbones.names(), "timm/lcnet_050", "timm/vit_tiny_patch16_224")),
    *(
        (name, stride)
        for name in ("resnet18", "resnet50", "timm/lcnet_050", "timm/convnext_atto")
        for stride in (16, 8)
    ),
)
# Only deeper or wider than another: one head is enough where all others have been under the shallower one.
DEEPER = re.compile(r"101|152|161|201|1202|wide_resnet")
MARKS = {pair: pytest.mark.measurement if DEEPER.search(pair[0]) else pytest.mark.slow for pair in OTHERS}
PAIRS = [*QUICK, *(pytest.param(*pair, marks=mark) for pair, mark in MARKS.items() if pair not in QUICK)]


def experiment(backbone: str, heads: Iterable[str], stride: int | None = None) -> Experiment:
    option = {} if stride is None else {"output_stride": stride}
    return Experiment.model_validate(
        {
            "backbone": BackboneConfig.model_validate({"name": backbone, **option}),
            "heads": {head: {"name": head, **OPTIONS.get(head, {})} for head in heads},
        }
    )


def refusal(head: str, features: Mapping[str, FeatureSpec]) -> str | None:
    """What the message must match with which `head` refuses these levels; None if they are all it needs."""
    missing = [level for level in READS[head] if level not in features]
    if missing:
        return f"the backbone gives {', '.join(features)}, so {', '.join(missing)} is missing"
    wrong = [level for level, allowed in STRIDES.get(head, {}).items() if features[level].stride not in allowed]
    return f"needs .*{wrong[0]}.* at strides? .*the backbone gives (it|them) at .*output_stride" if wrong else None


def fitting_heads(backbone: str, stride: int | None) -> list[str]:
    """The heads that take this backbone; that the others refuse it in one line has been checked."""
    with torch.device("meta"):
        features = build_backbone(backbone, **({} if stride is None else {"output_stride": stride})).features
        refusals = {head: refusal(head, features) for head in READS}
        for head, expected in refusals.items():
            if expected is not None:
                with pytest.raises(UserError, match=expected) as error:
                    build_model(experiment(backbone, [head], stride), {head: CLASSES})
                assert "\n" not in str(error.value)
    return [head for head, expected in refusals.items() if expected is None]


def step_and_round_trip(config: Experiment, folder: Path) -> None:
    """The model takes a step; its weights, saved and loaded, predict the same to the bit."""
    classes = dict.fromkeys(config.heads, CLASSES)
    torch.manual_seed(0)
    model = build_model(config, classes)
    take_step(model, config)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "weights")
    again = build_model(config, classes)
    load_weights_strictly(again, load_file(folder / "weights"), folder)
    with torch.inference_mode():
        first, second = (network.eval().predict(batch()) for network in (model, again))
    for head in config.heads:
        one, other = first[head][0], second[head][0]
        for name in one.__slots__:
            value, same = getattr(one, name), getattr(other, name)
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same


def test_the_table_names_every_head() -> None:
    assert READS.keys() == set(heads.names())


@pytest.mark.parametrize(("backbone", "stride"), PAIRS)
def test_every_backbone_with_every_head(backbone: str, stride: int | None, tmp_path: Path) -> None:
    """All heads that take it at once: the backbone is what takes time."""
    step_and_round_trip(experiment(backbone, fitting_heads(backbone, stride), stride), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in backbones.names() if DEEPER.search(name)])
def test_deeper_backbones_with_one_head(backbone: str) -> None:
    config = experiment(backbone, ["classification"])
    take_step(build_model(config, {"classification": CLASSES}), config)


@pytest.mark.parametrize("head", sorted(READS))
def test_every_head_alone(head: str, tmp_path: Path) -> None:
    stride = 16 if head in ("deeplabv3", "deeplabv3plus") else 32
    step_and_round_trip(experiment("resnet18", [head], stride), tmp_path)


@pytest.mark.parametrize("head", sorted(READS))
def test_a_missing_level_is_named(head: str) -> None:
    features = {"c3": FeatureSpec(8, 8)}
    if head == "classification":  # which takes whatever is the deepest
        with pytest.raises(UserError, match="c5"):
            heads.build(head, features, 3, level="c5")
        return
    with pytest.raises(UserError, match=re.compile(r"c5")):
        heads.build(head, features, 3)


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_every_target_of_the_classification_head(target: str) -> None:
    config = experiment("resnet18", ["classification"])
    config.heads["classification"].target = target  # type: ignore[union-attr, assignment]
    take_step(build_model(config, {"classification": CLASSES}), config)


@pytest.mark.parametrize("target", ["multiclass", "multilabel"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "focal", "tversky", "lovasz", "boundary"])
def test_every_target_and_loss_of_the_segmentation_heads(target: str, loss: str) -> None:
    config = experiment("resnet18", ["unet"])
    config.heads["unet"].target = target  # type: ignore[union-attr, assignment]
    config.heads["unet"].losses = {loss: 1.0}  # type: ignore[union-attr, dict-item]
    take_step(build_model(config, {"unet": CLASSES}), config, planes=3 if target == "multilabel" else 1)


def test_options_of_a_head_reach_it() -> None:
    head: HeadConfig = FasterRCNNConfig(fpn_channels=24)
    config = Experiment(backbone=BackboneConfig(name="resnet18"), heads={"out": head})
    assert build_model(config, {"out": CLASSES}).heads["out"].fpn.features["p2"].channels == 24  # type: ignore[union-attr]
