import re
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn

from backbones import build_backbone
from backbones.contract import FeatureSpec
from backbones.errors import UserError
from backbones.weights_file import WeightsFile
from heads import FasterRCNN, MaskRCNN
from heads.detector_layouts import DETECTORS, TORCHVISION, join_detector, split_detector

FEATURES = {f"c{level}": FeatureSpec(64 << level, 1 << level) for level in range(2, 6)}
COCO_IDS = [1, 13, 90]


@pytest.fixture(scope="module")
def coco_state() -> dict[str, Tensor]:
    """Of the published shape, 91 classes with background; every tensor its own random numbers."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    # The large ones are views of a single number: only their names and shapes matter here.
    small = ("backbone.fpn", "rpn", "roi_heads.box_predictor")
    return {
        name: torch.rand(tensor.shape) if name.startswith(small) else torch.rand(()).expand(tensor.shape)
        for name, tensor in model.state_dict().items()
    }


@pytest.fixture(scope="module")
def head() -> FasterRCNN:
    with torch.device("meta"):
        return FasterRCNN(FEATURES, len(COCO_IDS))


def split(
    state: dict[str, Tensor], class_ids: Iterable[int], source: str = "x.pth"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    own = [name.removeprefix("backbone.body.") for name in state if name.startswith("backbone.body.")]
    parts = split_detector(WeightsFile(state), own, list(class_ids), class_agnostic=False, source=source)
    return parts.backbone, parts.head


def load(head: FasterRCNN, state: dict[str, Tensor]) -> None:
    head.load_state_dict(state, assign=True)


def test_every_tensor_lands(coco_state: dict[str, Tensor], head: FasterRCNN) -> None:
    backbone, state = split(coco_state, COCO_IDS)
    load(head, state)
    assert len(backbone) + len(state) == len(coco_state)
    assert "layer4.2.conv3.weight" in backbone
    assert torch.equal(state["fpn.lateral.c2.weight"], coco_state["backbone.fpn.inner_blocks.0.0.weight"])
    assert torch.equal(state["fpn.output.p5.bias"], coco_state["backbone.fpn.layer_blocks.3.0.bias"])
    assert torch.equal(state["rpn.conv.weight"], coco_state["rpn.head.conv.0.0.weight"])


def test_class_rows_follow_the_raw_ids(coco_state: dict[str, Tensor]) -> None:
    _, state = split(coco_state, COCO_IDS)
    for kind in ("weight", "bias"):
        scores = coco_state[f"roi_heads.box_predictor.cls_score.{kind}"]
        offsets = coco_state[f"roi_heads.box_predictor.bbox_pred.{kind}"]
        for row, raw in enumerate([0, *COCO_IDS]):
            assert torch.equal(state[f"roi_head.cls_score.{kind}"][row], scores[raw])
            assert torch.equal(
                state[f"roi_head.bbox_pred.{kind}"][4 * row : 4 * row + 4], offsets[4 * raw : 4 * raw + 4]
            )


def test_equal_number_of_classes_is_taken_as_it_is(coco_state: dict[str, Tensor]) -> None:
    _, state = split(coco_state, range(100, 190))
    assert torch.equal(state["roi_head.cls_score.bias"], coco_state["roi_heads.box_predictor.cls_score.bias"])


def test_names_of_older_files(coco_state: dict[str, Tensor]) -> None:
    older = {
        re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name).replace("conv.0.0.", "conv."): tensor
        for name, tensor in coco_state.items()
    }
    assert "rpn.head.conv.weight" in older
    assert "backbone.fpn.inner_blocks.0.weight" in older
    assert older.keys() != coco_state.keys()
    _, old = split(older, COCO_IDS)
    _, new = split(coco_state, COCO_IDS)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_masks_of_three_libraries() -> None:
    """Their names, older ones too, and the classes of their masks: background is the first of torchvision's."""
    ours = MaskRCNN(FEATURES, 90, fpn_channels=4, box_head_channels=4, mask_channels=4).state_dict()
    body = build_backbone("resnet18").state_dict()
    for layout in DETECTORS:
        joined = join_detector(body, ours, layout)
        parts = split_detector(WeightsFile(joined), body, range(1, 91), class_agnostic=False)
        assert parts.head.keys() == ours.keys()
        assert all(torch.equal(parts.head[name], ours[name]) for name in ours if name.startswith("mask_head"))
        deconvolution = ("deconv.bias", "upsample.bias", "conv5_mask.bias")
        lacking = {name: tensor for name, tensor in joined.items() if not name.endswith(deconvolution)}
        with pytest.raises(UserError, match="is missing"):
            split_detector(WeightsFile(lacking), body, range(1, 91), class_agnostic=False)
    joined = join_detector(body, ours, TORCHVISION)
    assert len(joined["roi_heads.mask_predictor.mask_fcn_logits.bias"]) == 91
    parts = split_detector(WeightsFile(joined), body, COCO_IDS, class_agnostic=False)
    rows = [raw - 1 for raw in COCO_IDS]
    assert torch.equal(parts.head["mask_head.logits.weight"], ours["mask_head.logits.weight"][rows])
    older = {
        re.sub(r"mask_head\.(\d)\.0", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}", name): tensor
        for name, tensor in joined.items()
    }
    assert "roi_heads.mask_head.mask_fcn4.bias" in older
    parts = split_detector(WeightsFile(older), body, COCO_IDS, class_agnostic=False)
    assert torch.equal(parts.head["mask_head.convs.3.weight"], ours["mask_head.convs.3.weight"])


def test_every_tensor_of_torchvisions_mask_rcnn_lands() -> None:
    with torch.device("meta"):
        state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
        head = MaskRCNN(FEATURES, 90)
    state = {name: torch.rand(()).expand(tensor.shape) for name, tensor in state.items()}
    backbone, loaded = split(state, range(1, 91))
    assert len(backbone) + len(loaded) == len(state)
    head.load_state_dict(loaded, assign=True)


def test_misfits_are_one_clear_line(coco_state: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"f\.pth: roi_heads\.mask_head\.weight is not part of") as unknown:
        split({**coco_state, "roi_heads.mask_head.weight": torch.ones(1)}, COCO_IDS, "f.pth")
    without = {name: tensor for name, tensor in coco_state.items() if "fc7" not in name}
    with pytest.raises(UserError, match=r"fc7\.bias, roi_heads\.box_head\.fc7\.weight are missing") as missing:
        split(without, COCO_IDS)
    with pytest.raises(UserError, match="91 classes with background, which fit neither 2 classes") as classes:
        split(coco_state, [1, 200])
    with pytest.raises(UserError, match=r"backbone\.body\.\* is missing"):
        split({n: t for n, t in coco_state.items() if ".body." not in n}, COCO_IDS)
    for caught in (unknown, missing, classes):
        assert "\n" not in str(caught.value)
