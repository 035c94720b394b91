"""Weighted boxes fusion, on cases whose result the paper's formulas give by hand."""

from dataclasses import replace

import pytest
import torch

from heads.box_fusion import fuse_detections
from heads.contract import Detections


def found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes = torch.tensor([row[0] for row in rows]).reshape(-1, 4)
    return Detections(boxes, torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows]).long())


def test_boxes_of_one_object_become_their_weighted_mean() -> None:
    first = found(([10.0, 10.0, 50.0, 50.0], 0.9, 1))
    second = found(([12.0, 10.0, 52.0, 50.0], 0.6, 1))
    fused = fuse_detections([first, second])
    assert fused.boxes.tolist() == [pytest.approx([(10 * 0.9 + 12 * 0.6) / 1.5, 10, (50 * 0.9 + 52 * 0.6) / 1.5, 50])]
    assert fused.scores.tolist() == pytest.approx([0.75])
    assert fused.labels.tolist() == [1]


def test_what_one_of_three_models_found_keeps_a_third_of_its_score() -> None:
    fused = fuse_detections([found(([0.0, 0.0, 10.0, 10.0], 0.9, 0)), found(), found()])
    assert fused.scores.tolist() == pytest.approx([0.3])


def test_classes_and_distant_boxes_stay_apart_best_first() -> None:
    first = found(([0.0, 0.0, 10.0, 10.0], 0.4, 0), ([0.0, 0.0, 10.0, 10.0], 0.8, 1))
    second = found(([50.0, 50.0, 60.0, 60.0], 0.6, 0))
    fused = fuse_detections([first, second])
    assert fused.labels.tolist() == [1, 0, 0]
    assert fused.scores.tolist() == pytest.approx([0.4, 0.3, 0.2])


def test_masks_become_their_weighted_mean_where_they_lie() -> None:
    """A bar from x = 20 to 30 in two boxes of other sides: in the fused box it is at the same place of the image."""
    places = torch.arange(40) + 0.5
    first, second = found(([0.0, 0.0, 40.0, 40.0], 0.9, 0)), found(([10.0, 0.0, 50.0, 40.0], 0.3, 0))
    bars = [((places + left >= 20) & (places + left < 30)).float().expand(40, 40)[None] for left in (0, 10)]
    first, second = (
        replace(one, masks=bar, image_size=(60, 60)) for one, bar in zip((first, second), bars, strict=True)
    )
    fused = fuse_detections([first, second], iou=0.5)
    assert fused.image_size == (60, 60)
    assert fused.boxes.tolist() == [pytest.approx([2.5, 0, 42.5, 40])]
    across = fused.masks[0, 20]
    inside = (places + 2.5 > 21) & (places + 2.5 < 29)
    outside = (places + 2.5 < 19) | (places + 2.5 > 31)
    assert across[inside].tolist() == pytest.approx([1.0] * int(inside.sum()))
    assert not across[outside].any()
    alone = fuse_detections([first, replace(found(), masks=torch.zeros(0, 40, 40), image_size=(60, 60))])
    torch.testing.assert_close(alone.masks, first.masks, rtol=0, atol=1e-5)


def test_nothing_found() -> None:
    fused = fuse_detections([found(), found()])
    assert fused.boxes.shape == (0, 4)
    assert len(fused.scores) == len(fused.labels) == 0
