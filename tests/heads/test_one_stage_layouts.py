import re

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from backbones.weights_file import WeightsFile
from heads import FCOS, Head, RetinaNet
from heads.model_layouts import ModelParts
from heads.one_stage_layouts import (
    TORCHVISION_FCOS,
    TORCHVISION_RETINANET,
    OneStageLayout,
    join_one_stage,
    split_one_stage,
)

FEATURES = {f"c{level}": FeatureSpec(64 << level, 1 << level) for level in range(2, 6)}
COCO_IDS = [1, 13, 90]
BUILD = {"retinanet": retinanet_resnet50_fpn, "retinanet_v2": retinanet_resnet50_fpn_v2, "fcos": fcos_resnet50_fpn}
LAYOUTS = {"retinanet": TORCHVISION_RETINANET, "retinanet_v2": TORCHVISION_RETINANET, "fcos": TORCHVISION_FCOS}
kinds = pytest.mark.parametrize("kind", BUILD)


def coco_state(kind: str) -> dict[str, Tensor]:
    """Of the published shape, 91 classes with background; the classes' rows have their own random numbers."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = BUILD[kind](weights=None, weights_backbone=None)
    # The others are views of a single number: only their names and shapes matter here.
    return {
        name: torch.rand(tensor.shape) if "cls_logits" in name else torch.rand(()).expand(tensor.shape)
        for name, tensor in model.state_dict().items()
    }


def head_of(kind: str, classes: int = len(COCO_IDS)) -> Head:
    with torch.device("meta"):
        if kind == "fcos":
            return FCOS(FEATURES, classes)
        if kind == "retinanet":
            return RetinaNet(FEATURES, classes)
        return RetinaNet(FEATURES, classes, extra_level="c5", tower_norm="gn")


def split(
    kind: str, state: dict[str, Tensor], ids: list[int] = COCO_IDS, layout: OneStageLayout | None = None
) -> ModelParts:
    own = [name.removeprefix("backbone.body.") for name in state if name.startswith("backbone.body.")]
    names = head_of(kind).state_dict()
    return split_one_stage(WeightsFile(state), own, names, ids, layout or LAYOUTS[kind], source="x.pth")


@kinds
def test_every_tensor_lands(kind: str) -> None:
    state, head = coco_state(kind), head_of(kind)
    parts = split(kind, state)
    head.load_state_dict(parts.head, assign=True)
    assert len(parts.backbone) + len(parts.head) == len(state)
    assert "layer4.2.conv3.weight" in parts.backbone
    assert torch.equal(parts.head["fpn.lateral.c3.weight"], state["backbone.fpn.inner_blocks.0.0.weight"])
    assert torch.equal(parts.head["fpn.further.p7.bias"], state["backbone.fpn.extra_blocks.p7.bias"])
    assert parts.options == ({"exact_points": False} if kind == "fcos" else {"exact_anchors": False})


@kinds
def test_class_rows_follow_the_raw_ids(kind: str) -> None:
    state = coco_state(kind)
    parts = split(kind, state)
    at_cell = 1 if kind == "fcos" else 9
    for suffix in ("weight", "bias"):
        theirs = state[f"head.classification_head.cls_logits.{suffix}"]
        ours = parts.head[f"cls_logits.{suffix}"]
        for anchor in range(at_cell):
            for row, raw in enumerate(COCO_IDS):
                assert torch.equal(ours[anchor * 3 + row], theirs[anchor * 91 + raw])


def test_equal_number_of_classes_is_taken_as_it_is() -> None:
    state = coco_state("fcos")
    theirs = state["head.classification_head.cls_logits.bias"]
    as_it_is = split("fcos", state, list(range(100, 191)))
    assert torch.equal(as_it_is.head["cls_logits.bias"], theirs)
    without_background = split("fcos", state, list(range(100, 190)))
    assert torch.equal(without_background.head["cls_logits.bias"], theirs[1:])


def test_names_of_older_files() -> None:
    """As the published RetinaNet has them: no blocks, and every second layer of a tower a ReLU."""
    state = coco_state("retinanet")
    older = {}
    for name, tensor in state.items():
        name = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name)
        older[re.sub(r"_head\.conv\.(\d)\.0\.", lambda found: f"_head.conv.{2 * int(found[1])}.", name)] = tensor
    assert "head.regression_head.conv.6.weight" in older
    assert "backbone.fpn.inner_blocks.2.bias" in older
    old, new = split("retinanet", older), split("retinanet", state)
    assert old.head.keys() == new.head.keys()
    assert all(torch.equal(old.head[name], new.head[name]) for name in new.head)


@kinds
def test_what_is_joined_is_split_again(kind: str) -> None:
    with torch.device("meta"):
        names = BUILD[kind](weights=None, weights_backbone=None, num_classes=4).state_dict()
    state = {name: torch.rand(()).expand(tensor.shape) for name, tensor in names.items()}
    own = {name.removeprefix("backbone.body."): state[name] for name in state if name.startswith("backbone.body.")}
    head = {name: torch.rand(tensor.shape) for name, tensor in head_of(kind).state_dict().items()}
    joined = join_one_stage(own, head, LAYOUTS[kind])
    assert {name: tensor.shape for name, tensor in joined.items()} == {name: t.shape for name, t in names.items()}
    background = joined["head.classification_head.cls_logits.bias"].view(-1, 4)[:, 0]
    assert (background.sigmoid() < 1e-8).all()
    again = split(kind, joined, [1, 2, 3])
    assert all(torch.equal(again.head[name], head[name]) for name in head)


def test_misfits_are_one_clear_line() -> None:
    state = coco_state("fcos")
    with pytest.raises(UserError, match=r"x\.pth: expected the whole state dict of torchvision's RetinaNet") as other:
        split("retinanet", state)
    with pytest.raises(UserError, match=r"roi_heads\.mask_head\.weight is not part of it") as unknown:
        split("fcos", {**state, "roi_heads.mask_head.weight": torch.ones(1)})
    without = {name: tensor for name, tensor in state.items() if "bbox_ctrness" not in name}
    with pytest.raises(UserError, match=r"bbox_ctrness\.bias, .*bbox_ctrness\.weight are missing") as missing:
        split("fcos", without)
    with pytest.raises(UserError, match="it has 91 classes, which fit neither 2 classes") as classes:
        split("fcos", state, [1, 200])
    with pytest.raises(UserError, match=r"backbone\.body\.\* is missing"):
        split("fcos", {n: t for n, t in state.items() if ".body." not in n})
    for caught in (other, unknown, missing, classes):
        assert "\n" not in str(caught.value)
