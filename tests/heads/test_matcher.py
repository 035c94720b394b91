import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from heads.contract import BoxTargets
from heads.matcher import match


def box_targets(boxes: Tensor, labels: Tensor | None = None, crowd: Tensor | None = None) -> BoxTargets:
    shape = boxes.shape[:2]
    return BoxTargets(
        boxes,
        torch.zeros(shape, dtype=torch.int64) if labels is None else labels,
        torch.zeros(shape, dtype=torch.bool) if crowd is None else crowd,
        torch.ones(shape[0], dtype=torch.bool),
    )


def random_boxes(*shape: int) -> Tensor:
    # Whole coordinates make ties, which is where matchers differ.
    corner = torch.randint(0, 40, (*shape, 2))
    return torch.cat((corner, corner + torch.randint(1, 30, (*shape, 2))), dim=-1).float()


def everything(images: int, boxes: Tensor) -> Tensor:
    return torch.ones(images, boxes.shape[-2], dtype=torch.bool)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 3),
    targets=st.integers(1, 6),
    count=st.integers(1, 40),
    low_quality=st.booleans(),
    max_pairs=st.sampled_from([1, 50, 1 << 20]),
    shared=st.booleans(),
)
def test_equals_torchvision(
    seed: int, images: int, targets: int, count: int, low_quality: bool, max_pairs: int, shared: bool
) -> None:
    torch.manual_seed(seed)
    boxes = random_boxes(count) if shared else random_boxes(images, count)
    annotated = random_boxes(images, targets)
    matches = match(
        boxes, everything(images, boxes), box_targets(annotated), 0.5, 0.3, low_quality, max_pairs=max_pairs
    )
    reference = Matcher(0.5, 0.3, low_quality)
    for image in range(images):
        iou = box_iou(annotated[image], boxes if shared else boxes[image])
        # torchvision calls every box the best one of a target that none overlaps; we call none so.
        expected = reference(iou[iou.amax(dim=1) > 0]) if (iou > 0).any() else torch.full((count,), -1)
        assert torch.equal(matches.positive[image], expected >= 0)
        assert torch.equal(matches.negative[image], expected == Matcher.BELOW_LOW_THRESHOLD)
        positive = matches.positive[image]
        assert torch.equal(matches.index[image][positive], iou.max(dim=0).indices[positive])


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    boxes, annotated = random_boxes(200), random_boxes(1, 4)
    alone = match(boxes, everything(1, boxes), box_targets(annotated), 0.7, 0.3, True)
    padded = torch.cat((annotated, torch.zeros(1, 3, 4)), dim=1)
    labels = torch.tensor([[0, 0, 0, 0, -1, -1, -1]])
    also_padded = match(boxes, everything(1, boxes), box_targets(padded, labels), 0.7, 0.3, True)
    assert alone.positive.any()
    for name in ("positive", "negative"):
        assert torch.equal(getattr(alone, name), getattr(also_padded, name))
    assert torch.equal(alone.index[alone.positive], also_padded.index[alone.positive])


def test_image_without_boxes_is_background() -> None:
    boxes = torch.cat((random_boxes(50), torch.zeros(1, 4)))
    candidates = torch.ones(1, 51, dtype=torch.bool)
    candidates[0, 50] = False
    nothing = box_targets(torch.zeros(1, 1, 4), torch.tensor([[-1]]))
    matches = match(boxes, candidates, nothing, 0.7, 0.3, True)
    assert not matches.positive.any()
    assert torch.equal(matches.negative, candidates)


def test_what_is_no_candidate_takes_no_part() -> None:
    target = torch.tensor([[[0.0, 0, 10, 10]]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4]])
    candidates = torch.tensor([[False, True, True]])
    matches = match(boxes, candidates, box_targets(target), 0.7, 0.45, True)
    # The second is the best of those that count, so it is positive by being so.
    assert matches.positive.tolist() == [[False, True, False]]
    assert matches.negative.tolist() == [[False, False, True]]


def test_crowd_is_neither_object_nor_background() -> None:
    target = torch.tensor([[[0.0, 0, 100, 100], [20, 20, 40, 40]]])
    boxes = torch.tensor(
        [
            [0.0, 0, 100, 100],  # the crowd region itself
            [10, 10, 20, 20],  # inside it
            [90, 0, 110, 10],  # half inside
            [91, 0, 111, 10],  # less than half inside
            [20, 20, 40, 40],  # an object in the crowd
            [200, 200, 210, 210],  # elsewhere
        ]
    )
    crowd = torch.tensor([[True, False]])
    matches = match(boxes, everything(1, boxes), box_targets(target, crowd=crowd), 0.7, 0.3, True)
    assert matches.positive.tolist() == [[False, False, False, False, True, False]]
    assert matches.negative.tolist() == [[False, False, False, True, False, True]]


@pytest.mark.parametrize("shape", [(16, 60, 30000)])
def test_memory_is_bounded(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets, count = shape
    largest = []
    original = torch.minimum

    def minimum(a: Tensor, b: Tensor) -> Tensor:
        largest.append(torch.broadcast_shapes(a.shape, b.shape).numel())
        return original(a, b)

    monkeypatch.setattr(torch, "minimum", minimum)
    boxes = random_boxes(count)
    match(boxes, everything(images, boxes), box_targets(random_boxes(images, targets)), 0.7, 0.3, False)
    assert len(largest) > 2
    assert max(largest) <= 1 << 24 < images * targets * count
