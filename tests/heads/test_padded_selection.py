"""What a head gives in padded tensors, for export, is what it predicts."""

import pytest
import torch
from torchvision.ops import batched_nms

from backbones.contract import FeatureSpec
from heads import Detections, Head, ImageSizes, heads
from heads.contract import PaddedDetector
from heads.padded_selection import best_survivors, survivors

FEATURES = {f"c{level}": FeatureSpec(16, 1 << level) for level in range(2, 6)}
TWO_STAGES = {
    "fpn_channels": 16,
    "box_head_channels": 32,
    "anchor_sizes": (8, 16, 24, 32, 48),
    "rpn_pre_nms_test": 60,
    "rpn_post_nms_test": 40,
    "score_threshold": 0.2,
}
ONE_STAGE = {"fpn_channels": 16, "tower_depth": 1, "score_threshold": 0.001, "pre_nms": 50}
OPTIONS = {
    "faster_rcnn": TWO_STAGES,
    "cascade_rcnn": TWO_STAGES,
    "mask_rcnn": {**TWO_STAGES, "mask_channels": 8, "mask_convs": 1},
    "cascade_mask_rcnn": {**TWO_STAGES, "mask_channels": 8, "mask_convs": 1},
    "retinanet": {**ONE_STAGE, "anchor_sizes": (8, 16, 32, 48, 64)},
    "fcos": ONE_STAGE,
    "yolo": ONE_STAGE,
}


def test_all_detectors_are_here() -> None:
    assert {name for name in heads.names() if issubclass(heads.factory(name), PaddedDetector)} == OPTIONS.keys()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_padded_detections_are_those_predicted(name: str) -> None:
    torch.manual_seed(0)
    head = heads.build(name, FEATURES, 3, **OPTIONS[name]).eval()
    assert isinstance(head, Head)
    assert isinstance(head, PaddedDetector)
    for weight in head.parameters():  # scores that spread, and so no ties
        torch.nn.init.normal_(weight, std=0.1)
    features = {
        level: 3 * torch.randn(2, 16, 128 // spec.stride, 160 // spec.stride) for level, spec in FEATURES.items()
    }
    valid = torch.tensor([[128, 160], [100, 90]])
    images = ImageSizes((128, 160), valid, valid)
    with torch.no_grad():
        plain, padded = head.predict(features, images), head.predict_padded(features, images)
    assert any(len(one.boxes) for one in plain if isinstance(one, Detections))
    for row, one in enumerate(plain):
        assert isinstance(one, Detections)
        count = len(one.boxes)
        torch.testing.assert_close(padded.boxes[row, :count], one.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(padded.scores[row, :count], one.scores)
        torch.testing.assert_close(padded.labels[row, :count], one.labels)
        assert not padded.scores[row, count:].any()
        if one.masks is not None:
            assert padded.masks is not None
            torch.testing.assert_close(padded.masks[row, :count], one.masks, rtol=0, atol=1e-3)


def test_survivors_are_those_of_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 200, 2, generator=generator) * 300
    boxes = torch.cat((corner, corner + 5 + torch.rand(3, 200, 2, generator=generator) * 100), dim=-1)
    scores = torch.rand(3, 200, generator=generator)
    groups = torch.randint(0, 70, (3, 200), generator=generator) // 30 * 33  # 0, 33 and 66: more than one row of cells
    candidates = torch.rand(3, 200, generator=generator) < 0.8
    left = survivors(boxes, scores, groups, candidates, 0.5)
    best = best_survivors(boxes, scores, groups, candidates, 0.5, most=10)
    for image in range(3):
        own = torch.where(candidates[image])[0]
        kept = own[batched_nms(boxes[image, own], scores[image, own], groups[image, own], 0.5)]
        assert len(kept) < len(own)
        assert left[image].nonzero()[:, 0].tolist() == sorted(kept.tolist())
        torch.testing.assert_close(best.boxes[image], boxes[image, kept[:10]])
        torch.testing.assert_close(best.labels[image], groups[image, kept[:10]])


def test_no_candidate_at_all() -> None:
    boxes, scores, labels = torch.rand(2, 5, 4), torch.rand(2, 5), torch.zeros(2, 5, dtype=torch.int64)
    found = best_survivors(boxes, scores, labels, torch.zeros(2, 5, dtype=torch.bool), 0.5, most=8)
    assert found.scores.shape == (2, 5)
    assert not found.scores.any()
    assert not found.boxes.any()
