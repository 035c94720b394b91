from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.fcos import FCOS as Reference

import heads.point_assigner
from heads.anchors import AnchorGenerator
from heads.contract import BoxTargets
from heads.matcher import Matches
from heads.point_assigner import assign_points
from heads.points import Points

STRIDES = (8, 16, 32, 64, 128)
CELLS = AnchorGenerator(STRIDES, (1.0,), STRIDES)((160, 224), [(-(-160 // s), -(-224 // s)) for s in STRIDES])
POINTS = Points.of(CELLS)
BOUNDS = torch.tensor([0.0, 64, 128, 256, 512, torch.inf])
LIMITS = torch.stack((BOUNDS[POINTS.level], BOUNDS[POINTS.level + 1]), dim=1)


def assign(targets: BoxTargets, max_pairs: int = 1 << 24) -> Matches:
    candidates = torch.ones(len(targets.boxes), len(CELLS.boxes), dtype=torch.bool)
    return assign_points(POINTS.centres, 1.5 * POINTS.size, LIMITS, candidates, targets, max_pairs)


def box_targets(boxes: Tensor, crowd: Tensor | None = None) -> BoxTargets:
    shape = boxes.shape[:2]
    flags = torch.zeros(shape, dtype=torch.bool) if crowd is None else crowd
    return BoxTargets(boxes, torch.zeros(shape, dtype=torch.int64), flags, torch.ones(shape[0], dtype=torch.bool))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 3),
    count=st.integers(1, 8),
    max_pairs=st.sampled_from([1, 5000, 1 << 24]),
)
def test_equals_torchvision(seed: int, images: int, count: int, max_pairs: int) -> None:
    torch.manual_seed(seed)
    # Sides of multiples of 8 pixels: torchvision compares areas less exactly than by 8, and sides that pass through
    # points are where assigners differ.
    corner = torch.randint(0, 20, (images, count, 2)) * 8
    boxes = torch.cat((corner, corner + torch.randint(1, 20, (images, count, 2)) * 8), dim=-1).float()
    if max_pairs == 1:
        boxes = boxes[:, :, :] + 4  # and off the points
    matches = assign(box_targets(boxes), max_pairs if max_pairs > 1 else 3000)
    plain = SimpleNamespace(
        center_sampling_radius=1.5, head=SimpleNamespace(compute_loss=lambda targets, outputs, anchors, index: index)
    )
    given_targets = [{"boxes": own} for own in boxes]
    expected = Reference.compute_loss(plain, given_targets, None, [CELLS.boxes] * images, CELLS.counts)
    for image, wanted in enumerate(expected):
        assert torch.equal(matches.positive[image], wanted >= 0)
        assert torch.equal(matches.negative[image], wanted < 0)
        positive = wanted >= 0
        chosen, theirs = (boxes[image][index[positive]] for index in (matches.index[image], wanted))
        # Of several boxes of the same area any will do.
        areas = [(own[:, 2:] - own[:, :2]).prod(-1) for own in (chosen, theirs)]
        assert torch.equal(*areas)


def test_padding_changes_nothing() -> None:
    boxes = torch.tensor([[[16.0, 16, 100, 90], [40, 30, 70, 60]]])
    alone = assign(box_targets(boxes))
    padded = box_targets(torch.nn.functional.pad(boxes, (0, 0, 0, 3)))
    padded.labels[:, 2:] = -1
    also = assign(padded)
    assert alone.positive.any()
    for name in ("positive", "negative"):
        assert torch.equal(getattr(alone, name), getattr(also, name))
    assert torch.equal(alone.index[alone.positive], also.index[alone.positive])


def test_crowd_is_neither_object_nor_background() -> None:
    boxes = torch.tensor([[[0.0, 0, 120, 120], [40, 40, 60, 60]]])
    matches = assign(box_targets(boxes, torch.tensor([[True, False]])))
    inside = ((POINTS.centres > 0) & (POINTS.centres < 120)).all(-1)
    object_ = ((POINTS.centres > 40) & (POINTS.centres < 60)).all(-1) & (POINTS.level == 0)
    assert torch.equal(matches.positive[0], object_)
    assert torch.equal(matches.negative[0], ~inside)
    assert (matches.index[0][object_] == 1).all()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    cat = torch.cat

    def watched(tensors, dim: int = 0) -> Tensor:
        found = cat(tensors, dim=dim)
        largest.append(found.numel())
        return found

    monkeypatch.setattr(heads.point_assigner.torch, "cat", watched)
    boxes = torch.rand(4, 30, 4).sort(dim=-1).values * 160
    assign(box_targets(boxes[..., [0, 1, 2, 3]]), max_pairs=4 * 30 * 50)
    assert len(largest) > 5
    assert max(largest) <= 4 * 4 * 30 * 50 < 4 * 30 * len(CELLS.boxes)
