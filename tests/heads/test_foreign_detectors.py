"""Faster R-CNNs by Detectron2's and MMDetection's names: they load whole and detect what those libraries would.

Neither library is installed. The oracle is torchvision's detector, changed where their published code differs:
where bottlenecks stride, anchors that are not rounded, RoIAlign with half a cell of shift and as many points as fit.
The names are written out here once more, by their own table.
"""

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from backbones import build_backbone
from backbones.weights_file import WeightsFile
from heads import FasterRCNN, ImageSizes
from heads.detector_layouts import split_detector

SIZES = [(150, 200), (170, 120)]
DEPTHS = (3, 4, 6, 3)
CAFFE = "model = dict(backbone=dict(style='caffe'))\nimg_norm_cfg = dict(\n    mean=[103.53, 116.28, 123.675], "
CAFFE += "std=[1.0, 1.0, 1.0], to_rgb=False)"
PYTORCH = (
    "data_preprocessor=dict(mean=[\n 123.675,\n 116.28,\n 103.53,\n], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)"
)
PYTORCH += "\nbackbone=dict(style='pytorch')"


class ExactAnchors(AnchorGenerator):
    """Centred on multiples of the stride, as wide and high as area and ratio say."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        levels = []
        for features, size, stride in zip(feature_maps, (32, 64, 128, 256, 512), (4, 8, 16, 32, 64), strict=True):
            anchors = []
            for ratio in (0.5, 1.0, 2.0):
                width = math.sqrt(size * size / ratio)
                height = ratio * width
                y, x = torch.meshgrid(*(torch.arange(n) * float(stride) for n in features.shape[-2:]), indexing="ij")
                anchors.append(torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), dim=-1))
            levels.append(torch.stack(anchors, dim=2).reshape(-1, 4))
        return [torch.cat(levels)] * len(image_list.image_sizes)


def with_differences(
    reference: nn.Module, stride_in_1x1: bool, monkeypatch: pytest.MonkeyPatch
) -> torchvision.models.detection.FasterRCNN:
    model = copy.deepcopy(reference).eval()
    model.rpn.anchor_generator = ExactAnchors(((32,),) * 5, ((0.5, 1.0, 2.0),) * 5)
    model.roi_heads.box_roi_pool.sampling_ratio = 0
    pool = torchvision.ops.roi_align
    monkeypatch.setattr(
        torchvision.ops.poolers, "roi_align", lambda *given, **named: pool(*given, **named, aligned=True)
    )
    model.rpn._post_nms_top_n = {"testing": 300}
    for stage in range(2, 5) if stride_in_1x1 else ():
        block = model.backbone.body[f"layer{stage}"][0]
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return model


def body_names() -> Iterator[tuple[str, str]]:
    """torchvision's and Detectron2's name of each layer of a ResNet-50."""
    yield "conv1", "stem.conv1"
    yield "bn1", "stem.conv1.norm"
    for stage, blocks in enumerate(DEPTHS, 1):
        for block in range(blocks):
            theirs, ours = f"res{stage + 1}.{block}", f"layer{stage}.{block}"
            for number in (1, 2, 3):
                yield f"{ours}.conv{number}", f"{theirs}.conv{number}"
                yield f"{ours}.bn{number}", f"{theirs}.conv{number}.norm"
        yield f"layer{stage}.0.downsample.0", f"res{stage + 1}.0.shortcut"
        yield f"layer{stage}.0.downsample.1", f"res{stage + 1}.0.shortcut.norm"


DETECTRON2 = {
    **{f"backbone.body.{ours}": f"backbone.bottom_up.{theirs}" for ours, theirs in body_names()},
    **{f"backbone.fpn.inner_blocks.{level}.0": f"backbone.fpn_lateral{level + 2}" for level in range(4)},
    **{f"backbone.fpn.layer_blocks.{level}.0": f"backbone.fpn_output{level + 2}" for level in range(4)},
    "rpn.head.conv.0.0": "proposal_generator.rpn_head.conv",
    "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    "roi_heads.box_head.fc6": "roi_heads.box_head.fc1",
    "roi_heads.box_head.fc7": "roi_heads.box_head.fc2",
    "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
}
MMDETECTION = {
    **{f"backbone.body.{ours}": f"backbone.{ours}" for ours, _ in body_names()},
    **{f"backbone.fpn.inner_blocks.{level}.0": f"neck.lateral_convs.{level}.conv" for level in range(4)},
    **{f"backbone.fpn.layer_blocks.{level}.0": f"neck.fpn_convs.{level}.conv" for level in range(4)},
    "rpn.head.conv.0.0": "rpn_head.rpn_conv",
    "rpn.head.cls_logits": "rpn_head.rpn_cls",
    "rpn.head.bbox_pred": "rpn_head.rpn_reg",
    "roi_heads.box_head.fc6": "roi_head.bbox_head.shared_fcs.0",
    "roi_heads.box_head.fc7": "roi_head.bbox_head.shared_fcs.1",
    "roi_heads.box_predictor.cls_score": "roi_head.bbox_head.fc_cls",
    "roi_heads.box_predictor.bbox_pred": "roi_head.bbox_head.fc_reg",
}


def renamed(model: nn.Module, table: dict[str, str], bgr: bool) -> dict[str, Tensor]:
    """The weights as the other library keeps them: background last and without a box, colours in its order."""
    state = {}
    for key, tensor in model.state_dict().items():
        layer, _, kind = key.rpartition(".")
        if "cls_score" in layer:
            tensor = torch.cat((tensor[1:], tensor[:1]))
        elif "box_predictor.bbox_pred" in layer:
            tensor = tensor[4:]
        elif bgr and layer == "backbone.body.conv1":
            tensor = tensor[:, [2, 1, 0]]
        if table is MMDETECTION or kind != "num_batches_tracked":  # Detectron2's norms are frozen
            state[f"{table[layer]}.{kind}"] = tensor
    return state


BODY = [f"{ours}.{kind}" for ours, _ in body_names() for kind in ("weight", "bias", "running_mean", "running_var")]


@pytest.fixture(scope="module")
def state_of_81() -> Callable[[dict[str, str]], dict[str, Tensor]]:
    """The names and shapes of a detector of COCO's 80 classes; what few numbers matter, a test fills in."""
    with torch.device("meta"):
        reference = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=81
        )
    return lambda table: renamed(reference, table, False)


@pytest.mark.parametrize(
    ("table", "file", "stride_in_1x1", "bgr"),
    [(DETECTRON2, {}, True, True), (MMDETECTION, {"config": PYTORCH}, False, False)],
    ids=["Detectron2", "MMDetection"],
)
@torch.no_grad()
def test_detects_what_the_other_library_would(
    pair, table: dict[str, str], file: dict[str, str], stride_in_1x1: bool, bgr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = with_differences(pair.reference, stride_in_1x1, monkeypatch)
    state = renamed(reference, table, bgr)
    backbone = build_backbone("resnet50_v1" if stride_in_1x1 else "resnet50", norm="frozen_bn")
    parts = split_detector(WeightsFile(state, **file), backbone.state_dict(), range(4), class_agnostic=False)
    head = FasterRCNN(
        backbone.features,
        4,
        score_threshold=0.05,
        detections_per_image=300,
        rpn_post_nms_test=300,
        **parts.options,
    ).eval()
    counters = [key for key in parts.backbone if key.endswith("num_batches_tracked")]
    assert (len(counters) == 0) == (table is DETECTRON2)
    weights = {key: tensor for key, tensor in parts.backbone.items() if key not in counters}
    backbone.load_state_dict(weights, strict=True)
    head.load_state_dict(parts.head, strict=True)

    images = pair.photographs(3, SIZES)
    batch, _ = reference.transform(images)
    levels = {f"c{int(name) + 2}": level for name, level in reference.backbone.body(batch.tensors).items()}
    for name, level in backbone(batch.tensors).items():
        if name != "c1":
            torch.testing.assert_close(level, levels[name], rtol=1e-3, atol=1e-3 * float(levels[name].std()))
    original = torch.tensor([image.shape[-2:] for image in images])
    height, width = batch.tensors.shape[-2:]
    found = head.predict(levels, ImageSizes((height, width), torch.tensor(batch.image_sizes), original))
    for ours, theirs in zip(found, reference(images), strict=True):
        assert len(ours.boxes) > 50
        assert torch.equal(ours.labels, theirs["labels"] - 1)
        torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("table", "file", "pixels", "bgr", "stride_in_1x1", "std"),
    [
        (DETECTRON2, {}, None, True, True, (1, 1, 1)),
        (DETECTRON2, {"author": "torchvision"}, None, False, False, (58.4, 57.12, 57.38)),
        (DETECTRON2, {}, [[103.53, 116.28, 123.675], [57.375, 57.12, 58.395]], True, None, (58.4, 57.12, 57.38)),
        (DETECTRON2, {}, [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]], False, None, (58.4, 57.12, 57.38)),
        (MMDETECTION, {}, None, False, None, (58.4, 57.12, 57.38)),
        (MMDETECTION, {"config": PYTORCH}, None, False, False, (58.4, 57.12, 57.38)),
        (MMDETECTION, {"config": CAFFE}, None, True, True, (1, 1, 1)),
    ],
)
def test_what_a_file_tells_of_its_images(
    state_of_81: Callable[[dict[str, str]], dict[str, Tensor]],
    table: dict[str, str],
    file: dict[str, str],
    pixels: list[list[float]] | None,
    bgr: bool,
    stride_in_1x1: bool | None,
    std: tuple[float, float, float],
) -> None:
    state = state_of_81(table)
    stem = next(key for key in state if key.endswith(("stem.conv1.weight", "backbone.conv1.weight")))
    state[stem] = torch.arange(3.0)[None, :, None, None].expand(64, 3, 7, 7)
    if pixels:
        state["pixel_mean"], state["pixel_std"] = (torch.tensor(values)[:, None, None] for values in pixels)
    parts = split_detector(WeightsFile(state, **file), BODY, range(80), class_agnostic=False)
    assert parts.backbone["conv1.weight"][0, :, 0, 0].tolist() == ([2, 1, 0] if bgr else [0, 1, 2])
    assert (parts.origin.bgr, parts.origin.stride_in_1x1) == (bgr, stride_in_1x1)
    assert parts.origin.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert parts.origin.std == pytest.approx([value / 255 for value in std], abs=1e-3)


@pytest.mark.parametrize(("table", "file"), [(DETECTRON2, {}), (MMDETECTION, {"config": CAFFE})])
def test_classes_of_coco_are_chosen_by_their_ids(
    state_of_81: Callable[[dict[str, str]], dict[str, Tensor]], table: dict[str, str], file: dict[str, str]
) -> None:
    state = state_of_81(table)
    for layer in ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"):
        bias = state[f"{table[layer]}.bias"]
        state[f"{table[layer]}.bias"] = torch.arange(len(bias))
        state[f"{table[layer]}.weight"] = torch.arange(len(bias))[:, None].expand(-1, 1024)
    # COCO's 12th category has the id 13, the last of 80 has 90.
    parts = split_detector(WeightsFile(state, **file), BODY, [1, 13, 90], class_agnostic=False)
    assert parts.head["roi_head.cls_score.bias"].tolist() == [80, 0, 11, 79]
    rows = [0, 0, 0, 0, *range(4), *range(44, 48), *range(316, 320)]
    assert parts.head["roi_head.bbox_pred.bias"].tolist() == rows
    assert parts.head["roi_head.bbox_pred.weight"][:, 5].tolist() == rows
